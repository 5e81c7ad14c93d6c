"""The installed price list: our prices of its models are those of its own calculator, to the last decimal."""

import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from random import Random
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.data_units import unit_data
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
    Usage,
)

from ledger.rate_book import RateBook
from ops.genai_price_list import offered_model, rate_e12
from ops.price_list import installed
from projections.model_rate import RateRow
from schema.model_rate import ModelRateSet
from schema.price_list import OfferedModel
from schema.times import parse_time
from schema.unit import REQUESTS, UNITS, includes, is_duration

SAMPLE_MODELS = 260
USAGES = 6
SEED = 20261122
PROVIDERS = {each.id: each for each in providers}
PER = {each["price_key"]: each["per"] for each in unit_data.values()}
UNIT_OF = {each["price_key"]: unit for unit, each in unit_data.items()}
# Why a listed model is not compared: what its own calculator would call free is unpriced here.
REASONS = {"no_price"}
OWN_UNITS = {"images", "seconds"}

OFFERED = {each.id: each for each in installed().load()[1]}
MODELS = [
    (provider, model, listed)
    for provider in providers
    for model, listed in zip(OFFERED[provider.id].models, provider.models, strict=True)
]
PRICED = [each for each in MODELS if each[1].problem is None]


def book_of(rates: list[ModelRateSet]) -> RateBook:
    book = RateBook()
    for position, rate in enumerate(rates, 1):
        from_us = parse_time(rate.effective_from or "")
        book._add(RateRow(position, from_us, 0, deprecated=False, deprecated_reason=None, rate=rate))
    return book


@cache
def whole_book() -> RateBook:
    book = book_of([rate for each in OFFERED.values() for model in each.models for rate in model.rates])
    book._fallbacks = {each.id: each.fallback_providers for each in OFFERED.values() if each.fallback_providers}
    return book


# The list's own calculator, fed with prices rounded to 1e-12 for one unit


def rounded(prices: ModelPrice) -> ModelPrice:
    def one(value: Decimal, per: int) -> Decimal:
        return Decimal(rate_e12(value, per)) * per / Decimal(10**12)

    found: dict[str, Any] = {}
    for key, value in prices.__dict__.items():
        if isinstance(value, TieredPrices):
            tiers = [Tier(tier.start, one(tier.price, PER[key])) for tier in value.tiers]
            found[key] = TieredPrices(one(value.base, PER[key]), tiers)
        elif value is not None:
            found[key] = one(value, PER[key])
    return ModelPrice(**found)


def their_price(provider: Provider, model: ModelInfo, used: dict[str, int], at: datetime, context: Any) -> Decimal:  # noqa: ANN401
    copy = ModelInfo(id=model.id, match=model.match, prices=rounded(model.get_prices(at, context)))
    usage = Usage(**{unit: amount for unit, amount in used.items() if unit != REQUESTS})
    return copy.calc_price(usage, provider, genai_request_timestamp=at).total_price


def in_e10(price: Decimal) -> int:
    return int((price * 10**10).quantize(Decimal(1), ROUND_HALF_UP))


# Usages


def stated(prices: ModelPrice) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in prices.__dict__.items() if value is not None)


def all_prices(model: ModelInfo) -> list[ModelPrice]:
    own = [model.prices] if isinstance(model.prices, ModelPrice) else [each.prices for each in model.prices]
    return own + [each.prices for each in model.price_variants or ()]


def edges(model: ModelInfo) -> list[int]:
    found = {
        tier.start
        for prices in all_prices(model)
        for _, value in stated(prices)
        if isinstance(value, TieredPrices)
        for tier in value.tiers
    }
    return sorted({edge + step for edge in found for step in (-1, 0, 1) if edge + step >= 0})


def usages(model: ModelInfo, dice: Random) -> Iterator[dict[str, int]]:
    """Totals that hold what is inside them: each unit gets a part of its own plus all that it includes."""
    units = {UNIT_OF[key] for prices in all_prices(model) for key, _ in stated(prices)} | {"input_tokens"}
    for total in [*edges(model), *(None for _ in range(USAGES))]:
        own = {unit: dice.choice((0, 1, dice.randrange(100), dice.randrange(10**6))) for unit in units - {REQUESTS}}
        if total is not None:
            own = {unit: amount for unit, amount in own.items() if not includes("input_tokens", unit)}
            own["input_tokens"] = total
        yield {unit: sum(own[part] for part in own if includes(unit, part)) for unit in own}


def moments(model: ModelInfo) -> list[datetime]:
    """Around every date of a model, at times around every hour that it names."""
    conditions: list[Any] = [] if isinstance(model.prices, ModelPrice) else list(model.prices)
    constraints = [each.constraint for each in (*conditions, *(model.price_variants or ()))]
    days = {date(2020, 1, 1), date(2026, 11, 22)}
    times = {time(0, 0), time(12, 0)}
    for each in constraints:
        if isinstance(each, StartDateConstraint):
            days |= {each.start_date, each.start_date - timedelta(days=1)}
        elif isinstance(each, TimeOfDateConstraint):
            for edge in (each.start_time, each.end_time):
                exact = datetime.combine(date(2026, 1, 1), edge.replace(tzinfo=None))
                times |= {exact.time(), (exact - timedelta(microseconds=1)).time()}
    return [datetime.combine(day, each, UTC) for day in sorted(days) for each in sorted(times)]


def contexts(model: ModelInfo) -> list[dict[str, str] | None]:
    found = [dict(each.when) for each in model.price_variants or ()]
    return [None, {"unheard": "of"}, *found, *([{k: v for each in found for k, v in each.items()}] if found else [])]


def compare(provider: Provider, offered: OfferedModel, model: ModelInfo, dice: Random) -> int:
    """How many prices were compared."""
    book = book_of(offered.rates)
    compared = 0
    asked = list(usages(model, dice))
    for at in moments(model):
        rate = book.find(provider.id, model.id, "custom", parse_time(at.isoformat()))
        assert rate is not None
        for context in contexts(model):
            for used in asked if context is None else asked[:3]:
                ours = {u: n * 10**6 if is_duration(u) else n for u, n in used.items()} | {REQUESTS: 1}
                theirs = in_e10(their_price(provider, model, used, at, context))
                told = f"{provider.id}/{model.id} at {at}, {context}, {used}, seed {SEED}"
                assert rate.charged.cost(ours, context).cost_e10 == theirs, told
                compared += 1
    return compared


def check(models: list[tuple[Provider, OfferedModel, ModelInfo]]) -> int:
    dice = Random(SEED)
    return sum(compare(*each, dice) for each in models)


def is_special(model: ModelInfo) -> bool:
    """Has dates, hours, variants, tiers or a price that is not by the million tokens."""
    found = [cell for prices in all_prices(model) for cell in stated(prices)]
    rare = any(not key.endswith("_mtok") or isinstance(value, TieredPrices) for key, value in found)
    return not isinstance(model.prices, ModelPrice) or bool(model.price_variants) or rare


def test_prices_of_a_sample_are_those_of_the_lists_own_calculator() -> None:
    """Around every tier's edge, date and hour, in every variant: equal after one rounding to ten decimals."""
    dice = Random(SEED)
    special = [each for each in PRICED if is_special(each[2])]
    hours = [each for each in PRICED if any(rate.daily_window for rate in each[1].rates)]
    plain = [each for each in PRICED if not is_special(each[2])]
    assert len(hours) == 5
    assert check([*hours, *dice.sample(special, 90), *dice.sample(plain, SAMPLE_MODELS - 95)]) > 2_000


@pytest.mark.torture
def test_prices_of_all_models_are_those_of_the_lists_own_calculator() -> None:
    compared = check(PRICED)
    assert compared > 50_000


def test_what_is_not_compared_has_a_reason() -> None:
    """Each model that is left out is so for one of few reasons, and has no rates."""
    left = [(offered, listed) for _, offered, listed in MODELS if offered.problem is not None]
    assert {offered.problem for offered, _ in left} == REASONS
    assert all(not offered.rates for offered, _ in left)
    assert all(not list(stated(prices)) for _, listed in left for prices in all_prices(listed))
    assert len(PRICED) > 2_000


def test_a_minimum_of_seconds_is_the_lists() -> None:
    groq = PROVIDERS["groq"]
    model = next(each for each in groq.models if each.id == "whisper-large-v3-turbo")
    offered = next(each for each in OFFERED["groq"].models if each.model == model.id)
    prices = book_of(offered.rates).find("groq", model.id, "custom", 0)
    assert prices is not None
    for seconds in (0, 1, 9, 10, 11, 3600):
        theirs = in_e10(their_price(groq, model, {"audio_seconds": seconds}, datetime(2026, 1, 1, tzinfo=UTC), None))
        assert prices.charged.cost({"seconds": seconds * 10**6, REQUESTS: 1}).cost_e10 == theirs


# Names


def names() -> Iterator[tuple[Provider, str]]:
    for provider in providers:
        for model in provider.models:
            yield provider, model.id
            yield provider, model.id.upper()
            yield provider, f"{model.id}-20260115"
            yield provider, f"{model.id}-2026-01-15"
            yield provider, f"{model.id}-latest"
            yield provider, f"x/{model.id}"
            yield provider, model.id[:-1]
    for model in (*PROVIDERS["openai"].models, *PROVIDERS["anthropic"].models, *PROVIDERS["deepseek"].models):
        for id_ in ("azure", "google", "openrouter"):
            yield PROVIDERS[id_], model.id


def check_names(asked: list[tuple[Provider, str]]) -> Counter[str]:
    """Each name means the list's model, or a model of this very name; what the list cannot price means nothing."""
    book = whole_book()
    unpriced = {id(listed) for _, offered, listed in MODELS if offered.problem is not None}
    ids = {(provider.id, offered.model) for provider, offered, _ in PRICED}
    found: Counter[str] = Counter()
    for provider, name in asked:
        theirs = provider.find_model(name, all_providers=providers)
        rate = book.find(provider.id, name, "custom", parse_time("2026-11-22T12:00:00Z"))
        ours = None if rate is None else rates_by_position()[rate.position].model
        if (provider.id, name) in ids:
            wanted = name
            found["exact, and another on the list"] += theirs is None or theirs.id != name
        else:
            wanted = None if theirs is None or id(theirs) in unpriced else theirs.id
        assert ours == wanted, (provider.id, name)
        found["some" if ours else "none"] += 1
    return found


def test_some_names_mean_the_model_that_the_list_finds() -> None:
    found = check_names(Random(SEED).sample(list(names()), 3_000))
    assert min(found["some"], found["none"]) > 500


@pytest.mark.torture
def test_all_names_mean_the_model_that_the_list_finds() -> None:
    found = check_names(list(names()))
    assert min(found.values()) > 50


@cache
def rates_by_position() -> dict[int, ModelRateSet]:
    rates = [rate for each in OFFERED.values() for model in each.models for rate in model.rates]
    return dict(enumerate(rates, 1))


def test_units_are_those_of_the_list() -> None:
    ours = {unit: dimensions for unit, dimensions in UNITS.items() if unit not in OWN_UNITS}
    assert ours == {unit: each["dimensions"] for unit, each in unit_data.items()}


# Conditions that the installed list may not have today


def made(prices: ModelPrice | list[ConditionalPrice], variants: list[PriceVariant] | None = None) -> OfferedModel:
    model = ModelInfo(id="m", match=ClauseEquals("m"), name="M\ufe0f\u200b", prices=prices, price_variants=variants)
    return offered_model(Provider(id="p", name="P", api_pattern="p", models=[model]), model)


def price(text: str) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(text))


TOO_FINE = TimeOfDateConstraint(time(1, 0, 0, 5), time(2))
HOURS = TimeOfDateConstraint(time(22, 0, tzinfo=UTC), time(6, 30, tzinfo=UTC))
AT_NO_PRICE = ConditionalPrice(HOURS, prices=ModelPrice())


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (made(ModelPrice()), "no_price"),
        (made([]), "no_price"),
        (made([ConditionalPrice(prices=price("1")), AT_NO_PRICE]), "no_price_at_times"),
        (made(price("1"), [PriceVariant({"a": "b"}, price("2"), HOURS)]), "variant_by_hours"),
        (made(ModelPrice(input_dreams=Decimal(1))), "unknown_unit input_dreams"),
        (made([ConditionalPrice(TOO_FINE, prices=price("1"))]), "hours_too_fine"),
        (made(ModelPrice(input_mtok=Decimal("1e15"))), "price_too_high"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_a_problem(model: OfferedModel, problem: str) -> None:
    assert (model.problem, model.rates) == (problem, [])


def test_dates_and_hours_become_segments() -> None:
    """A date that comes after hours in the list hides them; one that changes nothing is left out."""
    model = made(
        [
            ConditionalPrice(prices=price("1")),
            ConditionalPrice(HOURS, prices=price("2")),
            ConditionalPrice(StartDateConstraint(date(2026, 5, 1)), prices=price("3")),
        ],
        [PriceVariant({"tier": "flex"}, price("0.5"), StartDateConstraint(date(2026, 6, 1)))],
    )
    assert [
        ((rate.effective_from or "")[:10], rate.daily_window and rate.daily_window.end, rate.input, bool(rate.variants))
        for rate in model.rates
    ] == [
        ("1970-01-01", None, "0.000001", False),
        ("1970-01-01", "06:30", "0.000002", False),
        ("2026-05-01", None, "0.000003", False),
        ("2026-06-01", None, "0.000003", True),
    ]
    assert model.display_name == "M\ufe0f"


def test_prices_are_rounded_half_up_to_twelve_decimals() -> None:
    assert rate_e12(Decimal("0.0000005"), 1_000_000) == 1
    assert rate_e12(Decimal("0.00000049"), 1_000_000) == 0
    assert rate_e12(Decimal("0.111"), 3_600) == 30_833_333


def test_a_list_is_read_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listed, offered = installed().load()
    assert (listed.source, len(listed.hash), len(offered)) == ("genai-prices", 64, len(providers))
