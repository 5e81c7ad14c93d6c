"""What a call costs: cases worked out by hand, and a model in fractions that knows nothing of the code."""

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.rating import CONTEXTS_MAX, BothPrices, CompiledPrices, UnclearUsageError, quantities, rounded
from schema.model_call import Usage
from schema.model_rate import PriceBook
from tests.strategies import examples

Json = dict[str, Any]


def compiled(prices: Json, minimums: dict[str, str] | None = None) -> CompiledPrices:
    return CompiledPrices(msgspec.convert(prices, PriceBook), minimums)


def used(usage: Json | None) -> dict[str, int]:
    return quantities(None if usage is None else msgspec.convert(usage, Usage))


def ten(cost_e10: int) -> str:
    return f"{cost_e10 // 10**10}.{cost_e10 % 10**10:010d}"


def tokens(input_: int = 0, output: int = 0, **others: Any) -> Json:  # noqa: ANN401 - the fields of a usage
    return {"input_tokens": input_, "output_tokens": output, **others}


VECTOR = {"input": "0.00000125", "cache_write": "0.0000015625", "cache_read": "0.000000125", "output": "0.00001"}
VECTOR_USAGE = tokens(3334, 567, cache_write_tokens=100, cache_read_tokens=2000)
MILLIONTH = {"input": "0.000001"}
AUDIO = {
    "input": "0.0000025",
    "cache_read": "0.00000125",
    "lines": {"input_audio_tokens": "0.00004", "cache_audio_read_tokens": "0.00002"},
}
TTL = {"input": "0.000003", "cache_write": "0.00000375", "lines": {"cache_write_1h_tokens": "0.000006"}}
TTLS = {"input": "0.000003", "lines": {"cache_write_5m_tokens": "0.00000375", "cache_write_1h_tokens": "0.000006"}}
TTL_USAGE = tokens(1000, cache_write_tokens=500, units={"cache_write_5m_tokens": 300, "cache_write_1h_tokens": 200})
REASONING = {"output": "0.00001", "reasoning": "0.000004"}
CLIFF = {
    "input": "0.00000125", "output": "0.00001",
    "tiers": [{"above": 200_000, "input": "0.0000025", "output": "0.000015"}],
}  # fmt: skip
STEPS = {
    "input": "0.000001",
    "tiers": [{"above": 1000, "input": "0.000002"}, {"above": 5000, "input": "0.000003"}],
}
OUTPUT_TIER = {"input": "0.000001", "output": "0.000002", "tiers": [{"above": 1000, "output": "0.000004"}]}
CACHE_TIER = {"input": "0.000001", "tiers": [{"above": 1000, "cache_read": "0.0000001"}]}
ONLY_TIERS = {"tiers": [{"above": 1000, "input": "0.000001"}, {"above": 2000, "input": "0.000003"}]}
FLEX, EU = {"service_tier": "flex"}, {"region": "eu"}
VARIANTS = {
    "input": "0.000002", "output": "0.000008",
    "variants": [{"when": FLEX, "input": "0.000001"}, {"when": FLEX | EU, "input": "0.0000009", "output": "0.000003"}],
}  # fmt: skip
BATCH = {
    "input": "0.000002", "tiers": [{"above": 1000, "input": "0.000004"}],
    "variants": [{"when": FLEX, "input": "0.000001", "tiers": [{"above": 1000, "input": "0.0000015"}]}],
}  # fmt: skip
FLAT_VARIANT = BATCH | {"variants": [{"when": FLEX, "input": "0.000001"}]}
STEEP_VARIANT = BATCH | {"variants": [{"when": FLEX, "tiers": [{"above": 1000, "input": "0.0000015"}]}]}

# (name, prices, usage, cost); the sum worked out by hand stands beside each.
CASES: list[tuple[str, Json, Json | None, str]] = [
    # 1234 × 1.25e-6 + 100 × 1.5625e-6 + 2000 × 1.25e-7 + 567 × 1e-5 = .0015425 + .00015625 + .00025 + .00567
    ("the design's vector", VECTOR, VECTOR_USAGE, "0.0076187500"),
    # 1000 × 1.5e-7 + 500 × 6e-7 = .00015 + .0003
    ("chat", {"input": "0.00000015", "output": "0.0000006"}, tokens(1000, 500), "0.0004500000"),
    # 12345 × 2e-8
    ("embedding", {"input": "0.00000002"}, tokens(12_345), "0.0002469000"),
    # 3 × .04
    ("image generation", {"image": "0.04"}, {"images": 3}, "0.1200000000"),
    # 12.345678 × .0001 = .0012345678
    ("audio generation by seconds", {"per_second": "0.0001"}, {"seconds": "12.345678"}, "0.0012345678"),
    # 8 × .35
    ("video by seconds", {"per_second": "0.35"}, {"seconds": "8"}, "2.8000000000"),
    ("custom by call", {"per_call": "0.005"}, tokens(9, 9), "0.0050000000"),
    # .01 + 1500 × 1e-6 + 500 × 2e-6 = .01 + .0015 + .001
    (
        "a call and its tokens", {"per_call": "0.01", "input": "0.000001", "output": "0.000002"}, tokens(1500, 500),
        "0.0125000000",
    ),
    ("a call without usage, by call", {"per_call": "0.01"}, None, "0.0100000000"),
    ("a call without usage, by token", VECTOR, None, "0.0000000000"),
    ("a call by line", {"lines": {"requests": "0.01"}}, None, "0.0100000000"),
    # (1000 − 400) × 1e-6
    ("cache for nothing", MILLIONTH | {"cache_read": "0"}, tokens(1000, cache_read_tokens=400), "0.0006000000"),
    # 1000 × 1e-6: without a price of their own cached tokens are input
    ("cache without a price", MILLIONTH, tokens(1000, cache_read_tokens=400), "0.0010000000"),
    ("cache writes without a price", MILLIONTH, tokens(1000, cache_write_tokens=300), "0.0010000000"),
    # 700 × 1e-6 + 300 × 1.25e-6 = .0007 + .000375
    (
        "cache writes", MILLIONTH | {"cache_write": "0.00000125"}, tokens(1000, cache_write_tokens=300),
        "0.0010750000",
    ),
    # 500 × 3e-6 + 300 × 3.75e-6 + 200 × 6e-6 = .0015 + .001125 + .0012
    ("cache writes, one kind apart", TTL, TTL_USAGE, "0.0038250000"),
    ("cache writes, both kinds apart", TTLS, TTL_USAGE, "0.0038250000"),
    # 500 × 3e-6 + 500 × 3.75e-6 = .0015 + .001875
    ("cache writes, kinds without prices", TTL | {"lines": {}}, TTL_USAGE, "0.0033750000"),
    # 400 × 1e-5 + 600 × 4e-6 = .004 + .0024
    ("reasoning", REASONING, tokens(0, 1000, reasoning_tokens=600), "0.0064000000"),
    ("reasoning without a price", {"output": "0.00001"}, tokens(0, 1000, reasoning_tokens=600), "0.0100000000"),
    ("reasoning for nothing", REASONING | {"reasoning": "0"}, tokens(0, 1000, reasoning_tokens=600), "0.0040000000"),
    # 900 × 2.5e-6 + 100 × 4e-5 = .00225 + .004
    ("audio in", AUDIO, tokens(1000, units={"input_audio_tokens": 100, "cache_audio_read_tokens": 0}), "0.0062500000"),
    # 50 × 1e-5 + 150 × 8e-5 = .0005 + .012
    (
        "audio out", {"output": "0.00001", "lines": {"output_audio_tokens": "0.00008"}},
        tokens(0, 200, units={"output_audio_tokens": 150}), "0.0125000000",
    ),
    # 60 × 2.5e-6 + 90 × 1.25e-6 + 40 × 4e-5 + 10 × 2e-5 = .00015 + .0001125 + .0016 + .0002
    (
        "cached audio, where two parts overlap", AUDIO,
        tokens(200, cache_read_tokens=100, units={"input_audio_tokens": 50, "cache_audio_read_tokens": 10}),
        "0.0020625000",
    ),
    # 742 × 2e-6 + 258 × 5e-6 = .001484 + .00129
    (
        "image tokens", {"input": "0.000002", "lines": {"input_image_tokens": "0.000005"}},
        tokens(1000, units={"input_image_tokens": 258}), "0.0027740000",
    ),
    # 1000 × 1e-6 + 3 × .01
    (
        "searches", MILLIONTH | {"lines": {"web_searches": "0.01"}}, tokens(1000, units={"web_searches": 3}),
        "0.0310000000",
    ),
    # 500 × 1e-6 + 2 × .02
    ("images and tokens", MILLIONTH | {"image": "0.02"}, tokens(500, images=2), "0.0405000000"),
    # 30 × .0001
    ("plain seconds of audio", {"lines": {"audio_seconds": "0.0001"}}, {"seconds": "30"}, "0.0030000000"),
    # 1e-4 × 1e-6 = 1e-10
    ("a microsecond", {"per_second": "0.0001"}, {"seconds": "0.000001"}, "0.0000000001"),
    # 5e-5 × 1e-6 = 5e-11, exactly half
    ("half a step, of seconds", {"per_second": "0.00005"}, {"seconds": "0.000001"}, "0.0000000001"),
    # 4.9999999e-5 × 1e-6
    ("just below half, of seconds", {"per_second": "0.000049999999"}, {"seconds": "0.000001"}, "0.0000000000"),
    ("the least of all", {"per_second": "0.000000000001"}, {"seconds": "0.000001"}, "0.0000000000"),
    ("half a step, of tokens", {"input": "0.00000000005"}, tokens(1), "0.0000000001"),
    ("just below half, of tokens", {"input": "0.000000000049"}, tokens(1), "0.0000000000"),
    # 3 × 5e-11 = 1.5e-10
    ("one and a half", {"input": "0.00000000005"}, tokens(3), "0.0000000002"),
    # 2.5e-11 + 2.5e-11
    ("a half of two parts", {"input": "0.000000000025", "output": "0.000000000025"}, tokens(1, 1), "0.0000000001"),
    # 4e-11 + 4e-11: each alone is nothing
    ("parts are not rounded", {"input": "0.00000000004", "output": "0.00000000004"}, tokens(1, 1), "0.0000000001"),
    # 7 × 3e-12 + 9 × 7e-12 = 8.4e-11
    ("twelve decimals count", {"input": "0.000000000003", "output": "0.000000000007"}, tokens(7, 9), "0.0000000001"),
    ("a million small ones", {"input": "0.0000004375"}, tokens(10**6), "0.4375000000"),
    ("10^12 of the least price", {"input": "0.000000000001"}, tokens(10**12), "1.0000000000"),
    # (10^6 − 10^-12) × 10^12 = 10^18 − 1
    (
        "10^12 of the highest price", {"input": "999999.999999999999"}, tokens(10**12),
        "999999999999999999.0000000000",
    ),
    # 1 × 250e-12 + (10^12 − 1) × 1e-12 = 1.000000000249
    (
        "one apart from 10^12", {"input": "0.00000000025", "cache_read": "0.000000000001"},
        tokens(10**12, cache_read_tokens=10**12 - 1), "1.0000000002",
    ),
    # 999999.999999 × .000001 = .999999999999
    ("the longest duration", {"per_second": "0.000001"}, {"seconds": "999999.999999"}, "1.0000000000"),
    ("free", {"input": "0", "output": "0"}, tokens(10**12, 10**12), "0.0000000000"),
    # 199999 × 1.25e-6 + 1000 × 1e-5 = .24999875 + .01
    ("one below the edge", CLIFF, tokens(199_999, 1000), "0.2599987500"),
    ("at the edge", CLIFF, tokens(200_000, 1000), "0.2600000000"),
    # 200001 × 2.5e-6 + 1000 × 1.5e-5 = .5000025 + .015: the whole call
    ("one above the edge", CLIFF, tokens(200_001, 1000), "0.5150025000"),
    ("cached tokens count for the edge", CLIFF, tokens(200_001, cache_read_tokens=200_001), "0.5000025000"),
    ("output does not count for the edge", CLIFF, tokens(0, 200_001), "2.0000100000"),
    ("two edges, at the first", STEPS, tokens(1000), "0.0010000000"),
    ("two edges, above the first", STEPS, tokens(1001), "0.0020020000"),
    ("two edges, at the second", STEPS, tokens(5000), "0.0100000000"),
    ("two edges, above the second", STEPS, tokens(5001), "0.0150030000"),
    # 1001 × 1e-6 + 100 × 4e-6
    ("a tier of output alone", OUTPUT_TIER, tokens(1001, 100), "0.0014010000"),
    ("cache has a price above the edge only: at it", CACHE_TIER, tokens(1000, cache_read_tokens=500), "0.0010000000"),
    # 1000 × 1e-6 + 1000 × 1e-7
    ("cache has a price above the edge only: above", CACHE_TIER, tokens(2000, cache_read_tokens=1000), "0.0011000000"),
    ("only tiers, at the edge", ONLY_TIERS, tokens(1000), "0.0000000000"),
    ("only tiers, above the edge", ONLY_TIERS, tokens(1001), "0.0010010000"),
    ("only tiers, above the second", ONLY_TIERS, tokens(2001), "0.0060030000"),
    ("only tiers, no usage", ONLY_TIERS, None, "0.0000000000"),
]  # fmt: skip


@pytest.mark.parametrize(("prices", "usage", "cost"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_cost_worked_out_by_hand(prices: Json, usage: Json | None, cost: str) -> None:
    book = compiled(prices)
    found = book.cost(used(usage))
    assert ten(found.cost_e10) == cost
    assert rounded(sum(line.amount_e18 for line in book.lines(used(usage)))) == found.cost_e10


@pytest.mark.parametrize(
    ("prices", "usage", "context", "cost"),
    [
        # 1000 × 1e-6 + 100 × 8e-6: the variant has no output price
        (VARIANTS, tokens(1000, 100), FLEX, "0.0018000000"),
        # 1000 × 1e-6 + 100 × 3e-6: input of the first that fits, output of the second
        (VARIANTS, tokens(1000, 100), FLEX | EU, "0.0013000000"),
        # 1000 × 2e-6 + 100 × 8e-6
        (VARIANTS, tokens(1000, 100), {"service_tier": "priority"}, "0.0028000000"),
        (VARIANTS, tokens(1000, 100), EU, "0.0028000000"),
        (VARIANTS, tokens(1000, 100), {}, "0.0028000000"),
        (VARIANTS, tokens(1000, 100), None, "0.0028000000"),
        (VARIANTS, tokens(1000, 100), FLEX | {"speed": "fast"}, "0.0018000000"),
        (BATCH, tokens(1000), FLEX, "0.0010000000"),
        (BATCH, tokens(1001), FLEX, "0.0015015000"),  # 1001 × 1.5e-6
        (BATCH, tokens(1001), None, "0.0040040000"),
        # the variant's price goes on above the rate's own edge: 2000 × 1e-6
        (FLAT_VARIANT, tokens(2000), FLEX, "0.0020000000"),
        (STEEP_VARIANT, tokens(500), FLEX, "0.0010000000"),  # 500 × 2e-6, the rate's own
        (STEEP_VARIANT, tokens(2000), FLEX, "0.0030000000"),  # 2000 × 1.5e-6
    ],
)
def test_a_cost_by_kind_of_service(prices: Json, usage: Json, context: dict[str, str] | None, cost: str) -> None:
    """Of several variants that fit, each unit takes the first that has a price for it; then the rate's own."""
    assert ten(compiled(prices).cost(used(usage), context).cost_e10) == cost


@pytest.mark.parametrize(
    ("seconds", "cost"),
    [("3.5", "0.1000000000"), ("10", "0.1000000000"), ("12.5", "0.1250000000"), ("0", "0.0000000000")],
)
def test_the_least_that_is_charged(seconds: str, cost: str) -> None:
    """A vendor's minimum of 10 seconds at .01; nothing used is nothing charged."""
    assert ten(compiled({"per_second": "0.01"}, {"seconds": "10"}).cost(used({"seconds": seconds})).cost_e10) == cost


def test_input_has_its_part_of_the_cost() -> None:
    """.0015425 + .00015625 + .00025 of the vector; calls, images and seconds are no input."""
    assert ten(compiled(VECTOR).cost(used(VECTOR_USAGE)).input_cost_e10) == "0.0019487500"
    assert compiled({"per_call": "1", "image": "1", "per_second": "1"}).cost(used({"images": 1})).input_cost_e10 == 0


def test_lines_tell_each_part() -> None:
    """The most specific units first; quantities in their own unit, durations in microseconds."""
    found = compiled({"input": "0.000001", "cache_read": "0.0000001", "per_second": "0.5"}).lines(
        used({"input_tokens": 10, "cache_read_tokens": 4, "seconds": "1.5"})
    )
    assert [(line.unit, line.quantity, line.rate_e12, line.amount_e18) for line in found] == [
        ("cache_read_tokens", 4, 100_000, 4 * 10**11),
        ("input_tokens", 6, 1_000_000, 6 * 10**12),
        ("seconds", 1_500_000, 500_000_000_000, 750_000_000_000_000_000),
    ]


@pytest.mark.parametrize(
    ("prices", "usage", "uncovered"),
    [
        (VECTOR, VECTOR_USAGE, False),
        (MILLIONTH, tokens(1), False),
        (MILLIONTH, tokens(1, 1), True),
        (MILLIONTH, tokens(1, images=1), True),
        (MILLIONTH, tokens(1, seconds="1"), True),
        (MILLIONTH, tokens(1, cache_read_tokens=1), False),
        ({"cache_read": "0.1"}, tokens(1, cache_read_tokens=1), True),
        ({"per_call": "1"}, tokens(1), True),
        ({"per_call": "1"}, None, False),
        (ONLY_TIERS, tokens(1000), True),
        (ONLY_TIERS, tokens(1001), False),
        ({"lines": {"audio_seconds": "1"}}, {"seconds": "1"}, False),
    ],
)
def test_what_has_no_price_is_told(prices: Json, usage: Json | None, uncovered: bool) -> None:  # noqa: FBT001 - a table
    assert compiled(prices).cost(used(usage)).uncovered is uncovered


@pytest.mark.parametrize(
    ("prices", "usage"),
    [
        (MILLIONTH | {"cache_read": "0"}, tokens(1, cache_read_tokens=2)),
        (MILLIONTH | {"cache_read": "0", "cache_write": "0"}, tokens(9, cache_read_tokens=5, cache_write_tokens=5)),
        (TTL, tokens(9, cache_write_tokens=1, units={"cache_write_1h_tokens": 2})),
        (TTL, tokens(9, units={"cache_write_1h_tokens": 2})),
        (REASONING, tokens(0, 1, reasoning_tokens=2)),
        (AUDIO, tokens(9, cache_read_tokens=2, units={"input_audio_tokens": 2})),
        ({"per_second": "1"}, tokens(0, units={"audio_seconds": 2})),
    ],
)
def test_usage_that_contradicts_itself_has_no_cost(prices: Json, usage: Json) -> None:
    """More inside than outside, a part without its whole, or an overlap that is not reported."""
    with pytest.raises(UnclearUsageError):
        compiled(prices).cost(used(usage))
    with pytest.raises(UnclearUsageError):
        compiled(prices).lines(used(usage))


@pytest.mark.parametrize(
    ("prices", "free", "nothing"),
    [
        ({"input": "0"}, True, False),
        ({"input": "0.1"}, False, False),
        ({"input": "0", "tiers": [{"above": 1, "input": "1"}]}, False, False),
        ({"input": "0", "variants": [{"when": FLEX, "input": "1"}]}, False, False),
        ({"tiers": [{"above": 1, "input": "1"}]}, False, False),
        ({}, True, True),
    ],
)
def test_whether_a_book_is_free_or_empty(prices: Json, free: bool, nothing: bool) -> None:  # noqa: FBT001 - a table
    """All prices count, those of tiers and variants too."""
    book = compiled(prices)
    assert (book.is_free, book.prices_nothing) == (free, nothing)


def test_combinations_of_variants_are_kept_up_to_a_number() -> None:
    """Who posts calls cannot fill the memory with contexts."""
    names = [f"n{n}" for n in range(9)]
    book = compiled({"variants": [{"when": {name: "1"}, "per_call": "1"} for name in names]})
    for mask in range(1, 2 ** len(names)):
        context = {name: "1" for n, name in enumerate(names) if mask >> n & 1}
        assert book.cost({"requests": 1}, context).cost_e10 == 10**10
        assert len(book._by_context) <= CONTEXTS_MAX


# Against a model in fractions

# Each unit with the units directly inside it.
INSIDE = {
    "input_tokens": ("cache_read_tokens", "cache_write_tokens", "input_image_tokens"),
    "cache_write_tokens": ("cache_write_5m_tokens", "cache_write_1h_tokens"),
    "output_tokens": ("output_reasoning_tokens",),
}
SINGLE = ("images", "web_searches", "requests", "seconds")
TREE_UNITS = sorted({*INSIDE, *(unit for units in INSIDE.values() for unit in units)})
MODELLED = (*TREE_UNITS, *SINGLE)

prices_e12 = st.sampled_from((0, 1, 50, 10**6, 999_999_999_999_999_999)) | st.integers(0, 10**9)
books = st.dictionaries(st.sampled_from(MODELLED), prices_e12, max_size=len(MODELLED))
tier_books = st.dictionaries(st.sampled_from((0, 1, 10, 1000)), books, max_size=3)
own_amounts = st.fixed_dictionaries(
    {unit: st.sampled_from((0, 1, 7, 500, 10**11)) | st.integers(0, 10**11) for unit in (*TREE_UNITS, *SINGLE[:2])}
)
microseconds = st.integers(0, 10**12 - 1)
Prices = dict[str, int]


def whole(unit: str, own: dict[str, int]) -> int:
    return own[unit] + sum(whole(part, own) for part in INSIDE.get(unit, ()))


def totals(own: dict[str, int], seconds_us: int) -> dict[str, int]:
    return {
        **{unit: whole(unit, own) for unit in TREE_UNITS},
        **{unit: own[unit] for unit in SINGLE[:2]},
        "requests": 1,
        "seconds": seconds_us,
    }


def taken_out(unit: str, amounts: dict[str, int], prices: Prices) -> int:
    """What of a unit is priced by units inside it."""
    parts = INSIDE.get(unit, ())
    return sum(amounts[part] if part in prices else taken_out(part, amounts, prices) for part in parts)


def expected_e10(base: Prices, tiers: dict[int, Prices], amounts: dict[str, int]) -> int:
    prices = dict(base)
    for above in sorted(tiers):
        if amounts["input_tokens"] > above:
            prices.update(tiers[above])
    cost = Fraction(0)
    for unit, price in prices.items():
        amount = Fraction(amounts[unit] - taken_out(unit, amounts, prices), 10**6 if unit == "seconds" else 1)
        cost += amount * Fraction(price, 10**12)
    return (cost * 10**10 + Fraction(1, 2)).__floor__()


def lines(prices: Prices) -> Json:
    return {"lines": {unit: f"{price // 10**12}.{price % 10**12:012d}" for unit, price in prices.items()}}


@examples(400)
@given(books, tier_books, own_amounts, microseconds)
def test_a_cost_equals_the_model_in_fractions(
    base: Prices, tiers: dict[int, Prices], own: dict[str, int], seconds_us: int
) -> None:
    """Any prices, any tiers, any usage that is consistent."""
    book = compiled(lines(base) | {"tiers": [{"above": above, **lines(tier)} for above, tier in tiers.items()]})
    amounts = totals(own, seconds_us)
    assert book.cost(amounts).cost_e10 == expected_e10(base, tiers, amounts)


@examples(100)
@given(books, own_amounts, own_amounts, microseconds, microseconds)
def test_exact_amounts_add_up(
    base: Prices, first: dict[str, int], second: dict[str, int], first_us: int, second_us: int
) -> None:
    """Without tiers and a price for the call, two calls cost what one of both would, before rounding."""
    base.pop("requests", None)
    book = compiled(lines(base))
    both = {unit: first[unit] + second[unit] for unit in first}
    apart = [totals(first, first_us), totals(second, second_us)]
    exact = [sum(line.amount_e18 for line in book.lines(amounts)) for amounts in apart]
    together = sum(line.amount_e18 for line in book.lines(totals(both, first_us + second_us)))
    assert sum(exact) == together
    assert abs(sum(book.cost(amounts).cost_e10 for amounts in apart) - rounded(together)) <= 1


field_prices = st.dictionaries(st.sampled_from(("input", "output", "cache_read", "cache_write")), prices_e12)
field_tiers = st.dictionaries(st.sampled_from((0, 1, 10, 1000)), field_prices, max_size=2)
field_amounts = st.dictionaries(
    st.sampled_from(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")),
    st.sampled_from((0, 1, 7, 10, 11, 1000, 1001, 10**11)),
)


def fields(base: Prices, tiers: dict[int, Prices]) -> Json:
    def texts(prices: Prices) -> Json:
        return {name: f"{price // 10**12}.{price % 10**12:012d}" for name, price in prices.items()}

    return texts(base) | {"tiers": [{"above": above, **texts(tier)} for above, tier in tiers.items()]}


@examples(600)
@given(field_prices, field_tiers, field_prices, field_tiers, st.lists(field_amounts, min_size=1, max_size=4))
def test_both_costs_at_once_are_those_told_apart(
    base: Prices, tiers: dict[int, Prices], vendor_base: Prices, vendor_tiers: dict[int, Prices], usages: list[Json]
) -> None:
    """Charged and vendor's cost in one pass equal the two apart, or are left to them; never where one is unclear."""
    charged, vendor = compiled(fields(base, tiers)), compiled(fields(vendor_base, vendor_tiers))
    both = BothPrices(charged, vendor)
    for usage in usages:
        amounts = used(usage)
        found = both.cost(amounts)
        if found is not None:
            ours, theirs = charged.cost(amounts), vendor.cost(amounts)
            assert found == (ours.cost_e10, ours.input_cost_e10, theirs.cost_e10)
            assert not any((ours.uncovered, theirs.uncovered))


@pytest.mark.parametrize("usage", [tokens(1_000, 200), tokens(1_001, 200, cache_read_tokens=400), tokens(0, 5)])
def test_plain_calls_are_priced_in_one_pass(usage: Json) -> None:
    """A usage that the prices cover is not left to the longer way."""
    charged = compiled({"input": "1", "output": "2", "cache_read": "0.5", "tiers": [{"above": 1_000, "input": "3"}]})
    assert BothPrices(charged, compiled({"input": "1", "output": "1"})).cost(used(usage)) is not None


@pytest.mark.parametrize("usage", [None, tokens(10, seconds="1.5"), tokens(10, 10, images=1)])
def test_what_is_not_plain_is_left_to_the_longer_way(usage: Json | None) -> None:
    """No usage, media, or something without a price."""
    prices = compiled({"input": "1", "output": "2"})
    assert BothPrices(prices, prices).cost(used(usage)) is None
    assert BothPrices(prices, compiled({"input": "1", "output": "2"}, {"seconds": "1"})).cost(used(tokens(1))) is None


@examples(200)
@given(st.integers(0, 10**36))
def test_rounding_is_half_up(amount_e18: int) -> None:
    assert rounded(amount_e18) == (Fraction(amount_e18, 10**8) + Fraction(1, 2)).__floor__()


def test_a_million_calls_are_exact() -> None:
    """10^6 × 4.375e-7, as one call and as a million."""
    book = compiled({"input": "0.0000004375"})
    assert book.cost(used(tokens(10**6))).cost_e10 == 10**6 * book.cost(used(tokens(1))).cost_e10 == 4_375_000_000
