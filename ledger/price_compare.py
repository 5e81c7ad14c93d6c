"""How far charged prices are from those on a list, cell by cell: each variant, tier and unit that both have."""

from collections.abc import Callable

from msgspec.structs import asdict

from ledger.rating import prices_of
from schema.model_rate import PriceBook, TieredPrices
from schema.money import RATE_DECIMALS, format_scaled

TOLERANCE_PERCENT = 2
_ALL_PERCENT = 100

Cell = tuple[tuple[tuple[str, str], ...], int, str]


def charged(book: PriceBook) -> PriceBook:
    """The prices alone of a rate."""
    return PriceBook(**{name: value for name, value in asdict(book).items() if name in PriceBook.__struct_fields__})


def drift(book: PriceBook, listed: PriceBook) -> str | None:
    """Where prices differ by more than 2 % of the listed one; None where none does."""
    return _first(book, listed, lambda mine, theirs: abs(mine - theirs) * _ALL_PERCENT > theirs * TOLERANCE_PERCENT)


def below_cost(book: PriceBook, vendor: PriceBook) -> str | None:
    """Where less is charged than the vendor asks, by more than 2 %; None where nowhere."""
    least = _ALL_PERCENT - TOLERANCE_PERCENT
    return _first(book, vendor, lambda mine, theirs: mine * _ALL_PERCENT < theirs * least)


def _first(mine: PriceBook, theirs: PriceBook, found: Callable[[int, int], bool]) -> str | None:
    own, other = _cells(mine), _cells(theirs)
    for cell in sorted(own.keys() & other.keys()):
        if found(own[cell], other[cell]):
            prices = [format_scaled(each[cell], RATE_DECIMALS) for each in (own, other)]
            return f"{_named(cell)}: {prices[0]} is charged, {prices[1]} is asked"
    return None


def _named(cell: Cell) -> str:
    when, above, unit = cell
    words = [unit, *(f"{name}={value}" for name, value in when)]
    return " ".join(words if above < 0 else [*words, f"above {above}"])


def _cells(book: PriceBook) -> dict[Cell, int]:
    found = _tier_cells((), book)
    for variant in book.variants or ():
        found |= _tier_cells(tuple(sorted(variant.when.items())), variant)
    return found


def _tier_cells(when: tuple[tuple[str, str], ...], prices: TieredPrices) -> dict[Cell, int]:
    found = {(when, -1, unit): rate for unit, rate in prices_of(prices).items()}
    for tier in prices.tiers or ():
        found |= {(when, tier.above, unit): rate for unit, rate in prices_of(tier).items()}
    return found
