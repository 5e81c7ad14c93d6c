"""genai-prices in the ledger's terms. The only module that imports the package: loading it takes a second.

Prices are exact decimals for `per` units; here they are integers of 1e-12 credits for one unit, rounded half up. What a
model's conditions mean is the package's own rule (`ModelInfo.get_prices`): the last condition that is active wins, and
where none is active the first price holds; variants are for the calls whose context they name.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import msgspec
from genai_prices.data import providers
from genai_prices.data_units import unit_data
from genai_prices.types import (
    ClauseAnd,
    ClauseOr,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Provider as ListedProvider

from ledger.rate_acceptance import RATE_E12_MAX, accept_rate, has_prices
from ledger.rate_segment import segment
from schema.errors import InvalidInput
from schema.model_rate import NAMED, DailyWindow, ListedPrice, ModelRateSet, PriceBook, Tier, Variant
from schema.money import RATE_DECIMALS, format_scaled
from schema.price_list import OfferedModel, OfferedProvider
from schema.times import DAY_US, format_time
from schema.unit import UNITS

PACKAGE = "genai-prices"
NAME_CHARS_MAX = 200
_EPOCH = date(1970, 1, 1)
_NAMES = {unit: name for name, unit in NAMED.items()}
_UNITS: dict[str, tuple[str, int]] = {each["price_key"]: (unit, each["per"]) for unit, each in unit_data.items()}
# The package's own exception (`ModelInfo.calc_price`): audio is billed as at least so many seconds.
_MINIMUMS = {
    ("groq", model): {"audio_seconds": "10", "input_audio_seconds": "10"}
    for model in ("whisper-large-v3", "whisper-large-v3-turbo")
}

_encode = msgspec.json.Encoder(order="sorted").encode


class _UnrepresentableError(ValueError):
    """A model's prices cannot be said in the ledger's terms; the message is a short stable reason."""


def read(source: str) -> tuple[ListedPrice, list[OfferedProvider]]:
    """The installed list and its providers."""
    offered = [offered_provider(each) for each in providers]
    digest = sha256(_encode(offered)).hexdigest()
    return ListedPrice(source=source, version=version(PACKAGE), hash=digest), offered


def offered_provider(listed: ListedProvider) -> OfferedProvider:
    """A provider of the list."""
    return OfferedProvider(
        id=listed.id,
        name=listed.name,
        website=(listed.pricing_urls or [None])[0],
        fallback_providers=listed.fallback_model_providers or None,
        models=[offered_model(listed, model) for model in listed.models],
    )


def offered_model(provider: ListedProvider, model: ModelInfo) -> OfferedModel:
    """A model with its dated prices, or the problem that it has."""
    found = OfferedModel(
        model=model.id, display_name=_display_name(model), context_window=model.context_window, rates=[]
    )  # fmt: skip
    try:
        found.rates = list(_rates(provider, model))
    except _UnrepresentableError as error:
        found.problem = str(error)
    except InvalidInput as error:
        found.problem = f"refused: {error.errors[0].path}"
    return found


def _display_name(model: ModelInfo) -> str | None:
    """A name is shown, so it has printable characters only; a stray one costs the model no price."""
    return "".join(each for each in model.name or "" if each.isprintable()).strip()[:NAME_CHARS_MAX] or None


def _rates(provider: ListedProvider, model: ModelInfo) -> Iterator[ModelRateSet]:
    """The rates of every date on which something changes, each date's windows after its rate for the whole day."""
    before: tuple[bytes, ...] = ()
    for day in sorted({_EPOCH, *_dates(model)}):
        rates = [
            _rate(provider, model, day, window, prices) for window, prices in _holding(_conditions(model), day)
        ]  # fmt: skip
        content = segment(0, rates).content
        if content != before:
            yield from rates
        before = content


def _conditions(model: ModelInfo) -> Sequence[ConditionalPrice]:
    found = [ConditionalPrice(prices=model.prices)] if isinstance(model.prices, ModelPrice) else model.prices
    if not any(_stated(each.prices) for each in found):
        raise _UnrepresentableError("no_price")
    if not all(_stated(each.prices) for each in found):
        raise _UnrepresentableError("no_price_at_times")
    return found


def _dates(model: ModelInfo) -> Iterator[date]:
    conditions = [] if isinstance(model.prices, ModelPrice) else model.prices
    for each in (*conditions, *(model.price_variants or ())):
        if isinstance(each.constraint, StartDateConstraint):
            yield max(each.constraint.start_date, _EPOCH)


def _holding(conditions: Sequence[ConditionalPrice], day: date) -> Iterator[tuple[DailyWindow | None, ModelPrice]]:
    """What holds on a day: the last price without hours, else the first of all; then the hours that come after it."""
    base = max(
        (
            n
            for n, each in enumerate(conditions)
            if not isinstance(each.constraint, TimeOfDateConstraint) and _started(each.constraint, day)
        ),
        default=None,
    )
    yield None, conditions[base or 0].prices
    for each in conditions[0 if base is None else base + 1 :]:
        if isinstance(each.constraint, TimeOfDateConstraint):
            start, end = _day_time(each.constraint.start_time), _day_time(each.constraint.end_time)
            yield DailyWindow(start=start, end=end), each.prices


def _started(constraint: StartDateConstraint | None, day: date) -> bool:
    return constraint is None or constraint.start_date <= day


def _day_time(listed: time) -> str:
    """A time of the UTC day."""
    if listed.tzinfo is not None:
        listed = datetime.combine(_EPOCH, listed).astimezone(UTC).time()
    if listed.microsecond:
        raise _UnrepresentableError("hours_too_fine")
    return listed.isoformat("seconds" if listed.second else "minutes")


def _rate(
    provider: ListedProvider, model: ModelInfo, day: date, window: DailyWindow | None, prices: ModelPrice
) -> ModelRateSet:
    book = _book(prices, [each for each in model.price_variants or () if _holds(each, day)])
    rate = ModelRateSet(
        id="",
        provider=provider.id,
        model=model.id,
        effective_from=format_time((day - _EPOCH).days * DAY_US),
        mode="auto",
        daily_window=window,
        match=clause(model.match),
        minimums=_MINIMUMS.get((provider.id, model.id)),
        display_name=_display_name(model),
        **{name: getattr(book, name) for name in PriceBook.__struct_fields__},
    )
    if not has_prices(rate):
        raise _UnrepresentableError("no_price")
    accept_rate(rate)
    return rate


def _holds(variant: PriceVariant, day: date) -> bool:
    if isinstance(variant.constraint, TimeOfDateConstraint):
        raise _UnrepresentableError("variant_by_hours")
    return _started(variant.constraint, day)


def _book(prices: ModelPrice, variants: Iterable[PriceVariant]) -> PriceBook:
    own, tiers = _prices(prices)
    found: list[Variant] = []
    for variant in variants:
        priced, its_tiers = _prices(variant.prices)
        found.append(Variant(when=dict(variant.when), tiers=its_tiers, **priced))
    return PriceBook(tiers=tiers, variants=found or None, **own)


def _stated(prices: ModelPrice) -> dict[str, Decimal | TieredPrices]:
    stored = prices.__dict__
    return {key: value for key, value in stored.items() if value is not None and not key.startswith("_")}


def _prices(prices: ModelPrice) -> tuple[dict[str, Any], list[Tier] | None]:
    """The fields of a Prices, and its tiers."""
    own: dict[str, str] = {}
    above: dict[int, dict[str, str]] = {}
    for key, value in _stated(prices).items():
        unit, per = _UNITS.get(key, (key, 1))
        if unit not in UNITS:
            raise _UnrepresentableError(f"unknown_unit {key}"[:NAME_CHARS_MAX])
        own[unit] = _price(value.base if isinstance(value, TieredPrices) else value, per)
        for tier in value.tiers if isinstance(value, TieredPrices) else ():
            above.setdefault(tier.start, {})[unit] = _price(tier.price, per)
    tiers = [Tier(above=start, **_fields(units)) for start, units in sorted(above.items())]
    return _fields(own), tiers or None


def _fields(by_unit: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {_NAMES[unit]: price for unit, price in by_unit.items() if unit in _NAMES}
    lines = {unit: price for unit, price in by_unit.items() if unit not in _NAMES}
    return found | ({"lines": lines} if lines else {})


def rate_e12(price: Decimal, per: int) -> int:
    """A price for `per` units as 1e-12 credits for one, rounded half up, exactly."""
    numerator, denominator = price.as_integer_ratio()
    whole = denominator * per
    return (2 * numerator * 10**RATE_DECIMALS + whole) // (2 * whole)


def _price(price: Decimal, per: int) -> str:
    rate = rate_e12(price, per)
    if rate > RATE_E12_MAX:
        raise _UnrepresentableError("price_too_high")
    return format_scaled(rate, RATE_DECIMALS)


def clause(match: Any) -> dict[str, Any]:  # noqa: ANN401 - the package's union of clauses
    """A clause as JSON: `{"or": [{"equals": …}, …]}`."""
    if isinstance(match, ClauseOr):
        return {"or": [clause(part) for part in match.or_]}
    if isinstance(match, ClauseAnd):
        return {"and": [clause(part) for part in match.and_]}
    return dataclasses.asdict(match)
