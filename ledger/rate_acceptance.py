"""Accepting a posted rate: its normal form, with what is charged written out."""

from collections.abc import Callable
from typing import Any

from ledger import model_match
from schema.acceptance import accept_instant, check_free_data
from schema.errors import FieldError, InvalidInput
from schema.model_rate import NAMED, Billing, Markups, ModelRateSet, PriceBook, Prices, Tier, TieredPrices, Variant
from schema.money import RATE_DECIMALS, SECONDS_DECIMALS, format_scaled, half_up, parse_scaled
from schema.unit import REQUESTS, UNITS, is_duration, is_input

MARKUP_DECIMALS = 6
RATE_E12_MAX = 999_999_999_999_999_999

Repricing = Callable[[str, str], str]  # from a price and its unit to another price


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
    _accept_conditions(rate)
    _accept_markup(rate)
    if rate.metadata is not None:
        check_free_data("$.metadata", rate.metadata)
    _accept_book(rate, "$")
    if rate.vendor is not None:
        _accept_book(rate.vendor, "$.vendor")
    _charge(rate)
    _check_billing(rate)


def _accept_conditions(rate: ModelRateSet) -> None:
    for unit in rate.minimums or ():
        if unit not in UNITS or not is_duration(unit):
            raise _invalid(f"$.minimums.{unit[:100]}", "Expected a unit of seconds")
    if rate.minimums is not None:
        rate.minimums = {unit: _short(text, SECONDS_DECIMALS) for unit, text in sorted(rate.minimums.items())} or None
    if rate.daily_window is not None and rate.daily_window.start == rate.daily_window.end:
        raise _invalid("$.daily_window.end", "Expected another time than the start: this window never holds")


def _accept_markup(rate: ModelRateSet) -> None:
    if isinstance(rate.markup, str):
        rate.markup = _short(rate.markup, MARKUP_DECIMALS)
    elif rate.markup is not None:
        rate.markup.input = _short(rate.markup.input, MARKUP_DECIMALS)
        rate.markup.output = _short(rate.markup.output, MARKUP_DECIMALS)


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


def _short(text: str, decimals: int = RATE_DECIMALS) -> str:
    return format_scaled(parse_scaled(text, decimals), decimals)


def has_prices(book: PriceBook) -> bool:
    """Whether a book has any price."""
    tiered: list[TieredPrices] = [book, *(book.variants or ())]
    parts: list[Prices] = [*tiered, *(tier for each in tiered for tier in each.tiers or ())]
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
        rate.vendor = mapped(rate, _as_is)
    if rate.vendor is None or not has_prices(rate.vendor):
        raise _invalid("$.vendor", f"Mode {rate.mode} charges the vendor's prices: expected at least one")
    if (rate.mode == "upstream") != (rate.markup is not None):
        raise _invalid("$.markup", "Expected a markup in mode upstream, and in no other")
    charged = mapped(rate.vendor, _marked_up(rate.markup) if rate.markup is not None else _as_is)
    if own and any(getattr(rate, name) != getattr(charged, name) for name in PriceBook.__struct_fields__):
        raise _invalid("$.vendor", f"Mode {rate.mode} makes the charged prices itself: leave them out")
    for name in PriceBook.__struct_fields__:
        setattr(rate, name, getattr(charged, name))


def mapped(book: PriceBook, repricing: Repricing) -> PriceBook:
    """The prices of a book, each put through a function."""
    variants = [
        Variant(**_mapped(v, repricing), tiers=_mapped_tiers(v, repricing), when=dict(v.when))
        for v in book.variants or ()
    ]  # fmt: skip
    return PriceBook(**_mapped(book, repricing), tiers=_mapped_tiers(book, repricing), variants=variants or None)


def _mapped_tiers(prices: TieredPrices, repricing: Repricing) -> list[Tier] | None:
    return [Tier(**_mapped(tier, repricing), above=tier.above) for tier in prices.tiers or ()] or None


def _mapped(prices: Prices, repricing: Repricing) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, unit in NAMED.items():
        text: str | None = getattr(prices, name)
        found[name] = None if text is None else repricing(text, unit)
    lines = prices.lines
    found["lines"] = {unit: repricing(text, unit) for unit, text in lines.items()} if lines else None
    return found


def _as_is(price: str, _unit: str) -> str:
    return price


def _marked_up(markup: str | Markups) -> Repricing:
    def times(price: str, unit: str) -> str:
        factor = markup if isinstance(markup, str) else markup.input if is_input(unit) else markup.output
        product = parse_scaled(price, RATE_DECIMALS) * parse_scaled(factor, MARKUP_DECIMALS)
        return price_text(half_up(product, 10**MARKUP_DECIMALS), "$.markup")

    return times


def price_text(rate_e12: int, path: str) -> str:
    """A computed price as text. Raises InvalidInput, naming the path of what made it too high."""
    if rate_e12 > RATE_E12_MAX:
        raise _invalid(path, "The price would be over 999,999 credits a unit")
    return format_scaled(rate_e12, RATE_DECIMALS)


def _check_billing(rate: ModelRateSet) -> None:
    if not bills(rate, rate.billing):
        raise _invalid(f"$.per_{rate.billing}", f"Billing by {rate.billing} needs this price")


def bills(prices: Prices, billing: Billing) -> bool:
    """Whether prices have the one that a kind of billing needs."""
    lines = prices.lines or {}
    if billing == "call":
        return prices.per_call is not None or REQUESTS in lines
    return billing == "token" or prices.per_second is not None or any(is_duration(unit) for unit in lines)
