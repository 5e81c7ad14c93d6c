"""Re-pricing many models at once: vendor prices with a margin, in credits, as new rates.

A new price is vendor × (1 + margin / 100) / credit_price, rounded half up to ten decimals a unit: prices made here have
ten decimals, posted ones may have twelve. Which rates are taken and what they become depends on the arguments alone, so
a preview and its application agree.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ledger.rate_acceptance import MARKUP_DECIMALS, bills, has_prices, mapped, price_text
from projections.model_rate import RateRow
from schema.acceptance import accept_instant
from schema.errors import FieldError, InvalidInput, OutOfRange
from schema.model_rate import (
    NAMED,
    REPRICED_RATES_MAX,
    ModelRateSet,
    PriceBook,
    Prices,
    Repriced,
    Repricing,
    TieredPrices,
)
from schema.model_rate_view import RepricedRate, SkippedRate, SkipReason
from schema.money import COST_DECIMALS, RATE_DECIMALS, format_scaled, half_up, parse_scaled, percent_moved

_WHOLE = 100 * 10**MARKUP_DECIMALS  # a margin of 0 %
_CREDIT = 10**RATE_DECIMALS
_STEP_E12 = 10 ** (RATE_DECIMALS - COST_DECIMALS)
_NAMES = {unit: name for name, unit in NAMED.items()}


class Plan(Struct, frozen=True):
    """What a re-pricing makes: each new rate with what is told of it, and what it leaves alone."""

    rates: list[ModelRateSet]
    items: list[RepricedRate]
    skipped: list[SkippedRate]


def accept_repricing(request: Repricing) -> None:
    """Bring a request to its normal form in place. Raises InvalidInput or OutOfRange, naming the path."""
    if request.effective_from is not None:
        request.effective_from = accept_instant(request.effective_from, "$.effective_from")
    request.margin_percent = _short(request.margin_percent, MARKUP_DECIMALS)
    request.credit_price = _short(request.credit_price, RATE_DECIMALS)
    if request.credit_price == "0":
        raise OutOfRange(errors=(FieldError("$.credit_price", "Expected more than 0"),))
    if request.models is not None:
        request.models = sorted(set(request.models))


def _short(text: str, decimals: int) -> str:
    return format_scaled(parse_scaled(text, decimals), decimals)


def plan(rows: Sequence[RateRow], request: Repricing, effective_from: str) -> Plan:
    """What becomes of the rates in force. Raises InvalidInput where they are too many or a price is too high."""
    if len(rows) > REPRICED_RATES_MAX:
        raise InvalidInput(f"there are more than {REPRICED_RATES_MAX} rates: name a provider or models")
    found = Plan([], [], [])
    for row in rows:
        rate = row.rate
        book = repriced_book(rate, request)
        reason = _reason(row, book)
        if book is None or reason is not None:
            found.skipped.append(_skipped(rate, reason or "no_vendor_prices"))
            continue
        made = _made(row, book, request, effective_from, len(found.rates) + 1)
        found.rates.append(made)
        found.items.append(item(made, rate, request))
    return found


def _skipped(rate: ModelRateSet, reason: SkipReason) -> SkippedRate:
    return SkippedRate(id=rate.id, provider=rate.provider, model=rate.model, type=rate.type, reason=reason)


def _reason(row: RateRow, book: PriceBook | None) -> SkipReason | None:
    """Why a rate is left alone; that it is deprecated comes last, because it is all that may change afterwards."""
    if book is None or row.rate.vendor is None:
        return "no_vendor_prices"
    vendor = prices_by_place(row.rate.vendor)
    if any(price == 0 and vendor[place] != 0 for place, price in prices_by_place(book).items()):
        return "rounds_to_zero"
    return "deprecated" if row.deprecated else None


def repriced_book(rate: ModelRateSet, request: Repricing) -> PriceBook | None:
    """A rate's vendor prices with the margin, in credits; None where it has none."""
    if rate.vendor is None or not has_prices(rate.vendor) or not bills(rate.vendor, rate.billing):
        return None
    factor = _WHOLE + parse_scaled(request.margin_percent, MARKUP_DECIMALS)
    credit_e12 = parse_scaled(request.credit_price, RATE_DECIMALS)

    def price(text: str, _unit: str) -> str:
        numerator = parse_scaled(text, RATE_DECIMALS) * factor * _CREDIT
        denominator = _WHOLE * credit_e12 * _STEP_E12
        return price_text(half_up(numerator, denominator) * _STEP_E12, "$.margin_percent")

    return mapped(rate.vendor, price)


def _made(row: RateRow, book: PriceBook, request: Repricing, effective_from: str, n: int) -> ModelRateSet:
    """The new rate: for the same calls, under the same conditions, with other prices; it follows no list."""
    fields = {name: getattr(row.rate, name) for name in ModelRateSet.__struct_fields__}
    fields |= {name: getattr(book, name) for name in PriceBook.__struct_fields__}
    fields |= {"id": f"{request.id}:{n}", "mode": "manual", "markup": None, "listed": None}
    fields["effective_from"] = effective_from
    fields["repriced"] = Repriced(before=row.position, request=bare(request) if n == 1 else None)
    return ModelRateSet(**fields)


def bare(request: Repricing) -> Repricing:
    """The request without what only its post says."""
    return Repricing(**{name: getattr(request, name) for name in Repricing.__struct_fields__})


def item(made: ModelRateSet, before: ModelRateSet, request: Repricing) -> RepricedRate:
    """What is told of a new rate."""
    assert made.vendor is not None
    credit_e12 = parse_scaled(request.credit_price, RATE_DECIMALS)
    vendor = prices_by_place(made.vendor)
    margin = {
        place: percent_moved(vendor[place] * _CREDIT, price * credit_e12)
        for place, price in prices_by_place(made).items()
    }
    return RepricedRate(
        id=made.id, provider=made.provider, model=made.model, type=made.type,
        before=_book(before), after=_book(made), margin=margin,
    )  # fmt: skip


def _book(rate: ModelRateSet) -> PriceBook:
    return PriceBook(**{name: getattr(rate, name) for name in PriceBook.__struct_fields__})


def prices_by_place(book: PriceBook) -> dict[str, int]:
    """Every price of a book in 1e-12 credits: `input`, `input_audio_tokens`, `above 200000: input`, `batch: input`."""
    found = _tiered("", book)
    for variant in book.variants or ():
        when = ", ".join(f"{name} {value}" for name, value in sorted(variant.when.items()))
        for place, price in _tiered(f"{when}: ", variant).items():
            found.setdefault(place, price)  # as calls do, the first that fits
    return found


def _tiered(prefix: str, prices: TieredPrices) -> dict[str, int]:
    found = _plain(prefix, prices)
    for tier in prices.tiers or ():
        found |= _plain(f"{prefix}above {tier.above}: ", tier)
    return found


def _plain(prefix: str, prices: Prices) -> dict[str, int]:
    named: dict[str, str | None] = {name: getattr(prices, name) for name in NAMED}
    named |= {_NAMES.get(unit, unit): text for unit, text in (prices.lines or {}).items()}
    return {f"{prefix}{name}": parse_scaled(text, RATE_DECIMALS) for name, text in named.items() if text is not None}


def same_request(first: Repricing, second: Repricing, effective_from: str | None) -> list[str]:
    """The fields in which a repeated request differs from the first; a date that is left out means the first one's."""
    asked = msgspec.structs.replace(bare(second), effective_from=second.effective_from or effective_from)
    told = msgspec.structs.replace(first, effective_from=first.effective_from or effective_from)
    return [name for name in Repricing.__struct_fields__ if getattr(told, name) != getattr(asked, name)]
