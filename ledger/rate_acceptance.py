"""Accepting a posted rate: its normal form, with what is charged written out."""

from typing import Any

from ledger import model_match
from schema.acceptance import accept_instant, check_free_data
from schema.errors import FieldError, InvalidInput
from schema.model_rate import NAMED, Markups, ModelRateSet, PriceBook, Prices, Tier, TieredPrices, Variant
from schema.money import RATE_DECIMALS, format_scaled, parse_scaled
from schema.unit import UNITS, is_duration, is_input

MARKUP_DECIMALS = 6
RATE_E12_MAX = 999_999_999_999_999_999


def accept_rate(rate: ModelRateSet) -> None:
    """Bring a decoded rate to its normal form in place. Raises InvalidInput, naming the path."""
    if rate.effective_from is not None:
        rate.effective_from = accept_instant(rate.effective_from, "$.effective_from")
    for name in ("provider", "model", "display_name"):
        text: str | None = getattr(rate, name)
        if text is not None and not text.isprintable():
            raise _invalid(f"$.{name}", "Expected printable characters only")
    if rate.match is not None:
        model_match.check(rate.match)
    for unit in rate.minimums or ():
        if unit not in UNITS or not is_duration(unit):
            raise _invalid(f"$.minimums.{unit[:100]}", "Expected a unit of seconds")
    if rate.metadata is not None:
        check_free_data("$.metadata", rate.metadata)
    _accept_book(rate, "$")
    if rate.vendor is not None:
        _accept_book(rate.vendor, "$.vendor")
    _charge(rate)
    _check_billing(rate)


def _invalid(path: str, message: str) -> InvalidInput:
    return InvalidInput(errors=(FieldError(path, message),))


def _accept_book(book: PriceBook, path: str) -> None:
    _accept_tiers(book, path)
    for n, variant in enumerate(book.variants or ()):
        _accept_tiers(variant, f"{path}.variants[{n}]")
    book.variants = book.variants or None


def _accept_tiers(prices: TieredPrices, path: str) -> None:
    _accept_prices(prices, path)
    seen: set[int] = set()
    for n, tier in enumerate(prices.tiers or ()):
        _accept_prices(tier, f"{path}.tiers[{n}]")
        if tier.above in seen:
            raise _invalid(f"{path}.tiers[{n}].above", "Expected each number once")
        seen.add(tier.above)
    prices.tiers = sorted(prices.tiers, key=lambda tier: tier.above) if prices.tiers else None


def _accept_prices(prices: Prices, path: str) -> None:
    for name, unit in NAMED.items():
        text: str | None = getattr(prices, name)
        if text is not None:
            if prices.lines and unit in prices.lines:
                raise _invalid(f"{path}.lines.{unit}", f"This is `{name}`, which is given too")
            setattr(prices, name, _short(text))
    if prices.lines is not None:
        for unit in prices.lines:
            if unit not in UNITS:
                raise _invalid(f"{path}.lines.{unit[:100]}", "Expected a unit of the price list, as input_audio_tokens")
        prices.lines = {unit: _short(text) for unit, text in sorted(prices.lines.items())} or None


def _short(price: str) -> str:
    return format_scaled(parse_scaled(price, RATE_DECIMALS), RATE_DECIMALS)


def has_prices(book: PriceBook) -> bool:
    """Whether a book has any price."""
    parts: list[Prices] = [book, *(book.tiers or ()), *(book.variants or ())]
    return any(getattr(part, name) is not None for part in parts for name in (*NAMED, "lines"))


def _charge(rate: ModelRateSet) -> None:
    """Write out what is charged: the posted prices, the vendor's, or the vendor's with a markup."""
    own = has_prices(rate)
    if rate.mode == "manual":
        if not own:
            raise _invalid("$.input", "Expected at least one price")
        if rate.markup is not None:
            raise _invalid("$.markup", "Only mode upstream has a markup")
        return
    if rate.mode == "auto" and rate.vendor is None and own:
        rate.vendor = _copy(rate, None)
    if rate.vendor is None or not has_prices(rate.vendor):
        raise _invalid("$.vendor", f"Mode {rate.mode} charges the vendor's prices: expected at least one")
    if (rate.mode == "upstream") != (rate.markup is not None):
        raise _invalid("$.markup", "Expected a markup in mode upstream, and in no other")
    charged = _copy(rate.vendor, rate.markup)
    if own and any(getattr(rate, name) != getattr(charged, name) for name in PriceBook.__struct_fields__):
        raise _invalid("$.vendor", f"Mode {rate.mode} makes the charged prices itself: leave them out")
    for name in PriceBook.__struct_fields__:
        setattr(rate, name, getattr(charged, name))


def _copy(book: PriceBook, markup: str | Markups | None) -> PriceBook:
    """The prices of a book, times a markup if there is one."""
    return PriceBook(
        **_marked(book, markup),
        tiers=_copied_tiers(book, markup),
        variants=[
            Variant(**_marked(v, markup), tiers=_copied_tiers(v, markup), when=dict(v.when))
            for v in book.variants or ()
        ]
        or None,
    )  # fmt: skip


def _copied_tiers(prices: TieredPrices, markup: str | Markups | None) -> list[Tier] | None:
    return [Tier(**_marked(tier, markup), above=tier.above) for tier in prices.tiers or ()] or None


def _marked(prices: Prices, markup: str | Markups | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, unit in NAMED.items():
        text: str | None = getattr(prices, name)
        found[name] = None if text is None else _times(text, unit, markup)
    lines = prices.lines
    found["lines"] = {unit: _times(text, unit, markup) for unit, text in lines.items()} if lines else None
    return found


def _times(price: str, unit: str, markup: str | Markups | None) -> str:
    if markup is None:
        return price
    factor = markup if isinstance(markup, str) else markup.input if is_input(unit) else markup.output
    scale: int = 10**MARKUP_DECIMALS
    rate_e12 = (parse_scaled(price, RATE_DECIMALS) * parse_scaled(factor, MARKUP_DECIMALS) + scale // 2) // scale
    if rate_e12 > RATE_E12_MAX:
        raise _invalid("$.markup", "The price would be over 999,999 credits a unit")
    return format_scaled(rate_e12, RATE_DECIMALS)


def _check_billing(rate: ModelRateSet) -> None:
    if rate.billing == "call" and rate.per_call is None:
        raise _invalid("$.per_call", "Billing by call needs this price")
    seconds = [unit for unit in rate.lines or () if is_duration(unit)]
    if rate.billing == "second" and rate.per_second is None and not seconds:
        raise _invalid("$.per_second", "Billing by second needs this price")
