"""Which rate a call takes: of its model, its type, its time."""

import msgspec
import pytest

from ledger import model_match
from ledger.model_match import matches
from ledger.rate_book import RateBook
from projections.model_rate import RateRow
from schema.errors import InvalidInput
from schema.model_rate import ModelRateSet
from schema.times import parse_time

JANUARY, FEBRUARY, MARCH = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"
NIGHT = {"start": "22:00", "end": "06:30"}
NOON = {"start": "12:00", "end": "13:00:30"}


def a_rate(id_: str, from_: str = JANUARY, **fields: object) -> ModelRateSet:
    whole = {"id": id_, "provider": "p", "model": "m", "effective_from": from_, "per_call": "1", **fields}
    return msgspec.convert(whole, ModelRateSet)


def book_of(*rates: ModelRateSet) -> RateBook:
    book = RateBook()
    for position, rate in enumerate(rates, 1):
        book._add(
            RateRow(
                position, parse_time(rate.effective_from or ""), 0, deprecated=False, deprecated_reason=None, rate=rate
            )
        )
    return book


def found(book: RateBook, at: str = MARCH, model: str = "m", type_: str = "video", provider: str = "p") -> str | None:
    rate = book.find(provider, model, type_, parse_time(at))
    return rate and rate.id


@pytest.mark.parametrize(
    ("at", "id_"),
    [
        ("2025-12-31T23:59:59.999999Z", None),
        (JANUARY, "january"),
        ("2026-01-31T23:59:59.999999Z", "january"),
        (FEBRUARY, "february"),
        ("2026-02-01T00:00:00.000001Z", "february"),
    ],
)
def test_the_rate_in_force_at_the_start_holds(at: str, id_: str | None) -> None:
    """From its instant on, that instant included; a call that ends under another price keeps that of its start."""
    assert found(book_of(a_rate("january"), a_rate("february", FEBRUARY)), at) == id_


def test_the_order_of_posting_does_not_matter_for_other_dates() -> None:
    assert found(book_of(a_rate("february", FEBRUARY), a_rate("january"))) == "february"


def test_of_two_from_the_same_instant_the_later_posted_holds() -> None:
    assert found(book_of(a_rate("first"), a_rate("second"))) == "second"


def test_a_rate_of_the_type_comes_before_one_of_any() -> None:
    """Even where the other is newer; a type without a rate in force takes the other."""
    book = book_of(a_rate("video", type="video", from_=FEBRUARY), a_rate("any", MARCH), a_rate("older"))
    assert found(book) == "video"
    assert found(book, type_="embedding") == "any"
    assert found(book, JANUARY) == "older"


def test_the_very_model_comes_before_one_that_matches() -> None:
    book = book_of(a_rate("family", MARCH, model="a", match={"starts_with": "m"}), a_rate("exact"))
    assert found(book) == "exact"
    assert found(book, model="m-2") == "family"
    assert found(book, model="x") is None
    assert found(book, provider="q") is None


def test_a_matching_model_fills_in_before_the_models_own_first_rate() -> None:
    book = book_of(a_rate("family", model="a", match={"starts_with": "m"}), a_rate("exact", MARCH))
    assert found(book, FEBRUARY) == "family"
    assert found(book, MARCH) == "exact"


@pytest.mark.parametrize(
    ("at", "id_"),
    [
        ("2026-03-05T11:59:59.999999Z", "base"),
        ("2026-03-05T12:00:00Z", "noon"),
        ("2026-03-05T13:00:29.999999Z", "noon"),
        ("2026-03-05T13:00:30Z", "base"),
        ("2026-03-05T21:59:59.999999Z", "base"),
        ("2026-03-05T22:00:00Z", "night"),
        ("2026-03-05T23:59:59.999999Z", "night"),
        ("2026-03-06T00:00:00Z", "night"),
        ("2026-03-06T06:29:59.999999Z", "night"),
        ("2026-03-06T06:30:00Z", "base"),
        ("2026-03-06T01:00:00+02:00", "night"),
        ("2026-01-15T12:00:00Z", "base"),
    ],
)
def test_windows_of_the_day(at: str, id_: str) -> None:
    """In UTC, the end excluded, over midnight too; outside of them the next older rate holds."""
    book = book_of(
        a_rate("base"), a_rate("noon", FEBRUARY, daily_window=NOON), a_rate("night", FEBRUARY, daily_window=NIGHT)
    )
    assert found(book, at) == id_


def test_vendor_prices_of_mode_auto_are_the_charged_ones() -> None:
    book = book_of(a_rate("auto", mode="auto", vendor={"per_call": "1"}), a_rate("own", model="n"))
    auto, own = book.find("p", "m", "video", parse_time(MARCH)), book.find("p", "n", "video", parse_time(MARCH))
    assert auto is not None
    assert own is not None
    assert auto.vendor is auto.charged
    assert own.vendor is None


@pytest.mark.parametrize(
    ("clause", "name", "expected"),
    [
        ({"equals": "GPT-4o"}, "gpt-4o", True),
        ({"regex": "^GPT-4[a-z]$"}, "gpt-4o", True),
        ({"regex": "^gpt-4$"}, "gpt-4o", False),
        ({"and": [{"starts_with": "g"}, {"ends_with": "O"}]}, "gpt-4o", True),
        ({"or": [{"contains": "x"}, {"contains": "4"}]}, "gpt-4o", True),
        ({"or": []}, "gpt-4o", False),
    ],
)
def test_letters_case_does_not_count_in_any_clause(clause: dict[str, object], name: str, expected: bool) -> None:  # noqa: FBT001 - a table
    model_match.check(clause)
    assert matches(clause, name) is expected


@pytest.mark.parametrize(
    "clause",
    [{}, [], "m", {"equals": 1}, {"equals": ""}, {"equals": "x" * 201}, {"like": "m"}, {"regex": "("}, {"or": "m"},
     {"regex": "a{99999999999999999999}"}, {"equals": "a", "regex": "b"}, {"or": [{"equals": "a"}] * 200}],
)  # fmt: skip
def test_what_is_no_clause_is_refused(clause: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        model_match.check(clause)
    assert caught.value.errors[0].path.startswith("$.match")
