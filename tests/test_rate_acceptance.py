"""Accepting a rate: its normal form, what is charged in each mode, and where a refusal points."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ledger import model_match
from ledger.rate_acceptance import accept_rate
from schema.errors import InvalidInput
from schema.model_rate import LINES_MAX, TIERS_MAX, VARIANTS_MAX, ModelRateSet
from schema.unit import UNITS

Json = dict[str, Any]
WHEN = {"service_tier": "flex"}


def decoded(**fields: Any) -> ModelRateSet:  # noqa: ANN401 - a rate's fields
    whole = {"id": "r", "provider": "p", "model": "m", **fields}
    return msgspec.json.decode(msgspec.json.encode(whole), type=ModelRateSet)


def accepted(**fields: Any) -> Json:  # noqa: ANN401 - a rate's fields
    rate = decoded(**fields)
    accept_rate(rate)
    return msgspec.to_builtins(rate)


def charged(**fields: Any) -> Json:  # noqa: ANN401 - a rate's fields
    rate = accepted(**fields)
    prices = ("input", "output", "cache_read", "per_call", "image", "lines", "tiers", "variants")
    return {name: rate[name] for name in prices if name in rate}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "$.input"),
        ({"tiers": [{"above": 1}]}, "$.input"),
        ({"lines": {}}, "$.input"),
        ({"input": "1", "effective_from": "2026-13-01T00:00:00Z"}, "$.effective_from"),
        ({"input": "1", "effective_from": "2026-01-01T00:00:00"}, "$.effective_from"),
        ({"input": "1", "provider": "a\nb"}, "$.provider"),
        ({"input": "1", "model": "a\u202eb"}, "$.model"),
        ({"input": "1", "display_name": "\t"}, "$.display_name"),
        ({"input": "1", "match": {"like": "x"}}, "$.match"),
        ({"input": "1", "match": {"or": [{"equals": ""}]}}, "$.match.or[0]"),
        ({"input": "1", "minimums": {"input_tokens": "1"}}, "$.minimums.input_tokens"),
        ({"input": "1", "minimums": {"hours": "1"}}, "$.minimums.hours"),
        ({"input": "1", "daily_window": {"start": "10:00", "end": "10:00"}}, "$.daily_window.end"),
        ({"input": "1", "metadata": {"x": "y" * 16_384}}, "$.metadata"),
        ({"lines": {"hours": "1"}}, "$.lines.hours"),
        ({"input": "1", "lines": {"input_tokens": "1"}}, "$.lines.input_tokens"),
        ({"input": "1", "tiers": [{"above": 1, "lines": {"x": "1"}}]}, "$.tiers[0].lines.x"),
        ({"input": "1", "tiers": [{"above": 1}, {"above": 1}]}, "$.tiers[1].above"),
        ({"input": "1", "variants": [{"when": WHEN, "lines": {"x": "1"}}]}, "$.variants[0].lines.x"),
        (
            {"input": "1", "variants": [{"when": WHEN, "tiers": [{"above": 1, "lines": {"x": "1"}}]}]},
            "$.variants[0].tiers[0].lines.x",
        ),
        ({"input": "1", "vendor": {"lines": {"x": "1"}}}, "$.vendor.lines.x"),
        ({"input": "1", "vendor": {"tiers": [{"above": 2}, {"above": 2}]}}, "$.vendor.tiers[1].above"),
        ({"input": "1", "markup": "1.2"}, "$.markup"),
        ({"mode": "auto"}, "$.vendor"),
        ({"mode": "auto", "vendor": {}}, "$.vendor"),
        ({"mode": "auto", "vendor": {"input": "1"}, "markup": "2"}, "$.markup"),
        ({"mode": "auto", "vendor": {"input": "1"}, "input": "2"}, "$.vendor"),
        ({"mode": "upstream", "markup": "2"}, "$.vendor"),
        ({"mode": "upstream", "markup": "2", "input": "1"}, "$.vendor"),
        ({"mode": "upstream", "vendor": {"input": "1"}}, "$.markup"),
        ({"mode": "upstream", "vendor": {"input": "1"}, "markup": "2", "input": "1"}, "$.vendor"),
        ({"mode": "upstream", "vendor": {"input": "999999"}, "markup": "1.000002"}, "$.markup"),
        ({"input": "1", "billing": "call"}, "$.per_call"),
        ({"input": "1", "billing": "second"}, "$.per_second"),
    ],
)
def test_a_refusal_names_its_path(fields: Json, path: str) -> None:
    rate = decoded(**fields)
    with pytest.raises(InvalidInput) as caught:
        accept_rate(rate)
    assert [error.path for error in caught.value.errors] == [path]


@pytest.mark.parametrize(
    "price", ["0", "0.000000000001", "999999.999999999999", "999999", "1.0", "000001"]
)  # fmt: skip
def test_prices_up_to_the_bounds_are_taken(price: str) -> None:
    assert accepted(input=price)


@pytest.mark.parametrize(
    "price",
    ["0.0000000000001", "1000000", "-1", "+1", "1e-6", "1.", ".5", "", " 1", "1\n", "1,5", "NaN", "٣", 1, 0.5, True],
)
def test_what_is_no_price_is_refused(price: object) -> None:
    """One digit too many on either side, a sign, an exponent, a number that is no string."""
    with pytest.raises(msgspec.ValidationError, match=r"\$\.input"):
        decoded(input=price)


BOUNDS: list[tuple[Callable[[int], Json], int]] = [
    (lambda n: {"tiers": [{"above": above, "input": "1"} for above in range(n)]}, TIERS_MAX),
    (lambda n: {"variants": [{"when": {"n": str(each)}, "input": "1"} for each in range(n)]}, VARIANTS_MAX),
    (lambda n: {"lines": dict.fromkeys([*UNITS, *map(str, range(n))][:n], "1")}, LINES_MAX),
    (lambda n: {"variants": [{"when": {str(each): "1" for each in range(n)}, "input": "1"}]}, 8),
    (lambda n: {"input": "1", "description": "x" * n}, 1_000),
    (lambda n: {"input": "1", "tiers": [{"above": n}]}, 10**12),
    (lambda n: {"id": "x" * n, "input": "1"}, 128),
    (lambda n: {"model": "x" * n, "input": "1"}, 200),
]


@pytest.mark.parametrize(("fields", "over"), BOUNDS)
def test_bounds_hold_at_max_and_not_above(fields: Callable[[int], Json], over: int) -> None:
    decoded(**fields(over))
    with pytest.raises(msgspec.ValidationError):
        decoded(**fields(over + 1))


@pytest.mark.parametrize(
    ("markup", "ok"), [("9999.999999", True), ("10000", False), ("1.0000001", False), ("-1", False), ("0", True)]
)
def test_markups_have_bounds(markup: str, ok: bool) -> None:  # noqa: FBT001 - a table
    fields = {"mode": "upstream", "vendor": {"input": "0.001"}, "markup": markup}
    if ok:
        assert accepted(**fields)
    else:
        with pytest.raises(msgspec.ValidationError):
            decoded(**fields)


def test_the_normal_form() -> None:
    """Decimals shortened, tiers and lines in order, times in UTC with six digits, nothing empty."""
    rate = accepted(
        input="01.500", lines={"web_searches": "0.10", "audio_seconds": "2.0"},
        effective_from="2026-01-01T02:00:00+02:00",
        tiers=[{"above": 9, "input": "3.0"}, {"above": 2, "input": "2"}], variants=[], minimums={"seconds": "010.50"},
        vendor={"input": "1.0", "lines": {}, "tiers": []},
    )  # fmt: skip
    assert rate["input"] == "1.5"
    assert list(rate["lines"].items()) == [("audio_seconds", "2"), ("web_searches", "0.1")]
    assert rate["effective_from"] == "2026-01-01T00:00:00.000000Z"
    assert rate["tiers"] == [{"input": "2", "above": 2}, {"input": "3", "above": 9}]
    assert "variants" not in rate
    assert rate["minimums"] == {"seconds": "10.5"}
    assert rate["vendor"] == {"input": "1"}


def test_accepting_twice_changes_nothing() -> None:
    for fields in (
        {"input": "1.50", "tiers": [{"above": 5, "output": "2.0"}]},
        {"mode": "auto", "input": "1.0"},
        {"mode": "upstream", "vendor": {"input": "3"}, "markup": "1.10"},
    ):
        once = accepted(**fields)
        rate = msgspec.convert(once, ModelRateSet)
        accept_rate(rate)
        assert msgspec.to_builtins(rate) == once


def test_manual_charges_what_was_posted() -> None:
    assert charged(input="2", vendor={"input": "1"}) == {"input": "2"}
    assert accepted(variants=[{"when": WHEN, "tiers": [{"above": 1, "input": "1"}]}])["variants"]


def test_auto_charges_the_vendors_prices() -> None:
    """Which may be given as the rate's own: then they are the vendor's."""
    book = {"input": "1", "tiers": [{"above": 5, "input": "2"}], "variants": [{"when": WHEN, "input": "0.5"}]}
    for fields in ({"vendor": book}, book, {"vendor": book, **book}):
        rate = accepted(mode="auto", **fields)
        assert {name: rate[name] for name in book} == rate["vendor"] == msgspec.to_builtins(rate["vendor"])
        assert rate["input"] == "1"


@pytest.mark.parametrize(
    ("price", "markup", "expected"),
    [
        ("0.000001", "1.2", "0.0000012"),
        ("0.000000000001", "1.5", "0.000000000002"),  # 1.5 steps, half up
        ("0.000000000001", "1.499999", "0.000000000001"),
        ("0.000000000003", "0.5", "0.000000000002"),
        ("0.000000000001", "0.499999", "0"),
        ("0.000000000001", "0.5", "0.000000000001"),
        ("3", "0.333333", "0.999999"),
        ("123.456", "0", "0"),
        ("999999.999999999999", "1", "999999.999999999999"),
        ("100", "9999.99", "999999"),
    ],
)
def test_a_markup_multiplies_and_rounds_half_up(price: str, markup: str, expected: str) -> None:
    assert charged(mode="upstream", vendor={"input": price}, markup=markup) == {"input": expected}


def test_a_markup_reaches_every_price() -> None:
    """Input and cache by the one, output and all else by the other, in tiers and variants too."""
    vendor = {
        "input": "1", "output": "1", "cache_read": "1", "per_call": "1", "image": "1",
        "lines": {"input_audio_tokens": "1", "web_searches": "1"}, "tiers": [{"above": 5, "input": "1", "output": "1"}],
        "variants": [{"when": WHEN, "output": "1", "tiers": [{"above": 7, "input": "1"}]}],
    }  # fmt: skip
    rate = accepted(mode="upstream", vendor=vendor, markup={"input": "2.0", "output": "3"})
    assert rate["markup"] == {"input": "2", "output": "3"}
    assert charged(mode="upstream", vendor=vendor, markup={"input": "2", "output": "3"}) == {
        "input": "2", "output": "3", "cache_read": "2", "per_call": "3", "image": "3",
        "lines": {"input_audio_tokens": "2", "web_searches": "3"}, "tiers": [{"input": "2", "output": "3", "above": 5}],
        "variants": [{"output": "3", "when": WHEN, "tiers": [{"input": "2", "above": 7}]}],
    }  # fmt: skip
    assert rate["vendor"]["input"] == "1"


@pytest.mark.parametrize(
    "fields",
    [
        {"billing": "call", "per_call": "1"}, {"billing": "call", "lines": {"requests": "1"}},
        {"billing": "second", "per_second": "1"}, {"billing": "second", "lines": {"audio_seconds": "1"}},
        {"billing": "token", "per_call": "1"},
    ],
)  # fmt: skip
def test_billing_finds_its_price_by_either_name(fields: Json) -> None:
    assert accepted(**fields)


@pytest.mark.parametrize("regex", ["(a+)+$", "(a|a)*$", "x(ab){3,}", r"(.)\1", "a*b*c*", "a{1,}b+c+"])
def test_an_expression_that_may_never_end_is_refused(regex: str) -> None:
    """Callers choose the names that it is tried on: one that backtracks would stall the writer."""
    with pytest.raises(InvalidInput) as caught:
        model_match.check({"regex": regex})
    assert [error.path for error in caught.value.errors] == ["$.match"]
    model_match.check({"regex": r"^gpt-4.*-\d{4}-\d\d-\d+$"})
