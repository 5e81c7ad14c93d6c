"""Budgets: periods at the edges of zones, rolling windows, what came before, crossings, limits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ledger.budget_opening
import ledger.commands.budget
from ledger.writer import Appended, Writer
from ops.verify import verify
from schema.budget import Budget, BudgetCrossed, BudgetScope, check_budget, scope_of
from schema.errors import InvalidInput, LimitReached, OutOfRange
from schema.hold import HoldDeclined
from schema.times import parse_time
from tests.accounts import create_account, credit, hold, settle, sweep_accounts
from tests.budgets import change_budget, create_budget, read_budget, retire_budget
from tests.changes import a_rate, carry_on, correction, rerate
from tests.histories import APP, DAY_US, HOUR_US, NOON_US, SECOND_US, call, finish, open_book, reading, select, start


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Writer]:
    """A ledger where a token costs a tenth of a credit."""
    with open_book(tmp_path) as writer:
        done(writer, a_rate("r-1", "0.1"))
        yield writer


def done(writer: Writer, *commands: Any) -> list[Appended]:  # noqa: ANN401 - any commands
    outcomes = writer.write(commands)
    assert [each for each in outcomes if not isinstance(each, Appended)] == []
    return [each for each in outcomes if isinstance(each, Appended)]


def costing(credits: int, id_: str, at: str | int = NOON_US, **fields: Any) -> Any:  # noqa: ANN401
    at_us = parse_time(at) if isinstance(at, str) else at
    return call(id_, at_us=at_us, usage={"input_tokens": credits * 10, "output_tokens": 0}, **fields)


def crossings(writer: Writer) -> list[tuple[int, str, str]]:
    with reading(writer.path) as db:
        query = "SELECT entry FROM events WHERE type = 'budget.crossed.v1' ORDER BY position"
        rows = [msgspec.json.decode(entry)["data"] for (entry,) in select(db, query)]
    return [(row["threshold"], row["spent"], row["period_start"]) for row in rows]


@pytest.mark.parametrize(
    ("zone", "period", "last", "first"),
    [
        ("America/New_York", "day", "2026-03-08T04:59:59.999999Z", "2026-03-08T05:00:00Z"),  # 23 hours follow
        ("America/New_York", "day", "2026-03-09T03:59:59.999999Z", "2026-03-09T04:00:00Z"),
        ("America/New_York", "day", "2026-11-02T04:59:59.999999Z", "2026-11-02T05:00:00Z"),  # after 25 hours
        ("Asia/Kathmandu", "day", "2026-11-22T18:14:59.999999Z", "2026-11-22T18:15:00Z"),
        ("America/Sao_Paulo", "day", "2018-11-04T02:59:59.999999Z", "2018-11-04T03:00:00Z"),  # no midnight that day
        ("Europe/Berlin", "month", "2026-03-31T21:59:59.999999Z", "2026-03-31T22:00:00Z"),
        ("Pacific/Kiritimati", "month", "2026-02-28T09:59:59.999999Z", "2026-02-28T10:00:00Z"),
        ("UTC", "month", "2027-12-31T23:59:59.999999Z", "2028-01-01T00:00:00Z"),
    ],
)
def test_a_period_ends_at_midnight_of_its_zone(tmp_path: Path, zone: str, period: str, last: str, first: str) -> None:
    """The last microsecond is in it, the next is in the one that follows, whatever the clock does."""
    with open_book(tmp_path) as writer:
        rate = a_rate("r-1", "0.1", effective_from="2018-01-01T00:00:00Z")
        before_us, after_us = parse_time(last), parse_time(first)
        assert after_us == before_us + 1
        done(writer, rate, create_budget("100", period=period, timezone=zone, at_us=before_us))
        done(writer, costing(3, "c-1", before_us), costing(4, "c-2", after_us))
        before, after = (read_budget(writer.path, at_us=at_us) for at_us in (before_us, after_us))
        assert (before.spent, after.spent) == ("3", "4")
        assert parse_time(before.period_end) == parse_time(after.period_start) == after_us


def test_a_rolling_window_is_never_shorter_than_it_says(book: Writer) -> None:
    """Whole hours: what started up to three hours ago counts, and nothing from before that hour."""
    at = "2026-11-22T12:40:00Z"
    done(book, create_budget("100", period="rolling", window_hours=3, at_us=parse_time("2026-11-22T08:00:00Z")))
    for n, when in enumerate(("2026-11-22T08:59:59Z", "2026-11-22T09:00:00Z", "2026-11-22T09:40:01Z", at)):
        done(book, costing(10**n, f"c-{n}", when))
    assert read_budget(book.path, at_us=parse_time(at)).spent == "1110"
    assert read_budget(book.path, at_us=parse_time("2026-11-22T13:00:00Z")).spent == "1000"
    view = read_budget(book.path, at_us=parse_time(at))
    assert (view.period_start[11:16], view.period_end[11:16]) == ("09:00", "13:00")


def test_a_crossing_is_told_once_a_period_and_threshold(book: Writer) -> None:
    """Also where the spending falls and rises again, and again in the next period."""
    done(book, create_budget("10", thresholds=[50, 100, 100]))
    done(book, costing(4, "c-1"), costing(1, "c-2"), costing(1, "c-3"), costing(9, "c-4"))
    assert crossings(book) == [(50, "5", "2026-11-22T00:00:00.000000Z"), (100, "15", "2026-11-22T00:00:00.000000Z")]
    done(book, correction("c-4", void=True), costing(9, "c-5"))
    assert len(crossings(book)) == 2
    view = read_budget(book.path)
    assert [each.threshold for each in view.crossed] == [50, 100]
    done(book, costing(20, "c-6", NOON_US + DAY_US))
    assert [each[0] for each in crossings(book)] == [50, 100, 50, 100]
    assert [each.threshold for each in read_budget(book.path, at_us=NOON_US + DAY_US).crossed] == [50, 100]


def test_a_rolling_crossing_is_told_again_a_window_later(book: Writer) -> None:
    """Not at each call above it."""
    done(book, create_budget("10", thresholds=[100], period="rolling", window_hours=2))
    told = [
        len(crossings(book)) for hours in range(6) if done(book, costing(20, f"c-{hours}", NOON_US + hours * HOUR_US))
    ]
    assert told == [1, 1, 2, 2, 3, 3]


def test_a_late_call_crosses_the_period_it_belongs_to(book: Writer) -> None:
    """Yesterday's budget, not today's."""
    done(book, create_budget("10", thresholds=[100], at_us=NOON_US - DAY_US))
    late = costing(11, "c-1", NOON_US - HOUR_US, started_us=NOON_US - DAY_US)
    done(book, late)
    assert crossings(book) == [(100, "11", "2026-11-21T00:00:00.000000Z")]
    assert (read_budget(book.path).spent, read_budget(book.path, at_us=NOON_US - DAY_US).spent) == ("0", "11")


SCOPES: list[tuple[str, str, dict[str, str]]] = [
    ("app", APP, {}), ("user", "ann", {}), ("user", "ann", {"app": APP}), ("model", "gpt-4o", {"app": APP}),
    ("tag", "search", {"key": "feature"}), ("tag", "search", {"key": "feature", "app": APP}), ("account", "acc", {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "id_", "more"), SCOPES)
@pytest.mark.parametrize(
    ("period", "fields"), [("day", {"timezone": "Asia/Tokyo"}), ("month", {}), ("rolling", {"window_hours": 30})]
)
def test_a_budget_counts_its_first_period_whole(
    book: Writer, kind: str, id_: str, more: dict[str, str], period: str, fields: dict[str, Any]
) -> None:
    """What came before it, as it stands then; and what changes of that afterwards, calls of tomorrow among it."""
    mine: dict[str, Any] = {"user_id": "ann", "metadata": {"feature": "search"}}
    done(book, create_account(), credit("1000"))
    done(book, costing(1, "c-1", **mine), costing(2, "c-2", **mine), costing(4, "c-3", **mine))
    done(
        book, costing(8, "c-4", NOON_US - 40 * DAY_US, **mine), costing(16, "c-5", NOON_US, app="other", user_id="eve")
    )
    done(book, costing(32, "c-6", NOON_US, started_us=NOON_US + DAY_US, **mine), correction("c-2", void=True))
    done(book, create_budget("100", kind=kind, scope_id=id_, scope=more, period=period, **fields))
    ahead = 32 if period == "month" else 0
    assert read_budget(book.path).spent == str(5 + ahead)
    done(book, correction("c-1", "a", usage={"input_tokens": 30, "output_tokens": 0}))
    done(
        book,
        correction("c-3", "b", void=True),
        correction("c-4", "c", void=True),
        correction("c-5", app="other", void=True),
    )
    assert read_budget(book.path).spent == str(3 + ahead)
    assert read_budget(book.path, at_us=NOON_US + DAY_US).spent == ("35" if period != "day" else "32")


def test_too_many_calls_before_are_not_counted_and_it_says_so(book: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of an account looks at calls one by one, and only at so many."""
    done(book, create_account(), credit("1000"), *(costing(1, f"c-{n}") for n in range(4)))
    monkeypatch.setattr(ledger.budget_opening, "CALLS_MAX", 4)
    done(book, create_budget("100", "b-1", "account", "acc"))
    done(book, costing(1, "c-4"))
    later = NOON_US + SECOND_US
    done(book, create_budget("100", "b-2", "account", "acc", at_us=later))
    assert [read_budget(book.path, id_).spent for id_ in ("b-1", "b-2")] == ["5", "0"]
    assert parse_time(read_budget(book.path, "b-2").counts_from) == later
    done(book, correction("c-4", void=True), costing(2, "c-5", later))
    assert [read_budget(book.path, id_).spent for id_ in ("b-1", "b-2")] == ["6", "2"]


def test_a_rerate_and_its_crossing(book: Writer) -> None:
    """A dearer rate, then the run over all calls: what they cost now is what is spent."""
    done(book, create_budget("10", thresholds=[100]), costing(2, "c-1"), costing(3, "c-2"))
    done(book, a_rate("r-2", "0.3"), rerate("again"))
    carry_on(book, "again", 1)
    assert read_budget(book.path).spent == "15"
    assert [each[:2] for each in crossings(book)] == [(100, "15")]


def test_a_change_is_compared_at_once_and_a_retired_one_no_more(book: Writer) -> None:
    """A lower amount may have been reached before; what is retired counts and declines nothing."""
    done(book, create_account(), credit("1000"), create_budget("100", enforcement="hard"), costing(9, "c-1"))
    done(book, change_budget(amount="9", thresholds=[100]))
    assert [each[:2] for each in crossings(book)] == [(100, "9")]
    done(book, hold("1", "h-1"), retire_budget(), hold("1", "h-2"), costing(9, "c-2"))
    with reading(book.path) as db:
        assert select(db, "SELECT id, status FROM holds ORDER BY id") == [("h-1", "declined"), ("h-2", "open")]
    view = read_budget(book.path)
    assert (view.retired, view.spent, view.held) == (True, "9", "0")


def test_open_holds_count_until_they_end(book: Writer) -> None:
    """By their time, whether or not that was recorded; settled by a call they give way to what it cost."""
    done(book, create_account(), credit("1000"), create_budget("10", enforcement="hard"))
    outcomes = done(book, hold("6", "h-1", expires_in_s=60), hold("6", "h-2"), hold("4", "h-3", call_id="c-1"))
    assert [type(each.recorded.data).__name__ for each in outcomes if each.recorded] == [
        "HoldPlaced", "HoldDeclined", "HoldPlaced",
    ]  # fmt: skip
    later = NOON_US + 60 * SECOND_US
    assert (read_budget(book.path).held, read_budget(book.path, at_us=later).held) == ("10", "4")
    done(book, hold("6", "h-4", at_us=later), sweep_accounts(later), costing(1, "c-1", later))
    view = read_budget(book.path, at_us=later)
    assert (view.spent, view.held, view.remaining) == ("1", "6", "3")


def test_a_hold_settled_by_hand_is_spent(book: Writer) -> None:
    """The credit is gone, so there is no room for more; also where its time was over. Its call takes its place."""
    done(book, create_account(), credit("1000"), create_budget("10", enforcement="hard"))
    done(book, hold("6", "h-1", call_id="c-1"), settle("8", "h-1"), hold("1", "h-2", expires_in_s=60))
    [declined] = done(book, hold("2", "h-3"))
    assert declined.recorded is not None
    assert isinstance(declined.recorded.data, HoldDeclined)
    assert (declined.recorded.data.missing, crossings(book)[-1][:2]) == ("1", (80, "8"))
    late = NOON_US + 60 * SECOND_US
    done(book, sweep_accounts(late))
    done(book, settle("1.5", "h-2", at_us=late))
    view = read_budget(book.path, at_us=late)
    assert (view.spent, view.held, view.remaining) == ("9.5", "0", "0.5")
    done(book, costing(3, "c-1", late))
    done(book, correction("c-1", usage={"input_tokens": 40, "output_tokens": 0}), costing(3, "c-1", late))
    assert read_budget(book.path, at_us=late).spent == "5.5"
    assert verify(book.path).ok


def test_what_was_settled_by_hand_is_counted_when_that_was(book: Writer) -> None:
    """Its call by when it began; neither counts in a budget that has come since, or is retired."""
    tomorrow = NOON_US + DAY_US
    done(book, create_account(), credit("1000"), create_budget("10"), create_budget("10", "b-2"))
    done(book, hold("6", "h-1", call_id="c-1", expires_in_s=60), retire_budget("b-2"))
    done(book, settle("5", "h-1", at_us=tomorrow), create_budget("10", "b-3", at_us=tomorrow))
    assert [read_budget(book.path, id_, tomorrow).spent for id_ in ("b-1", "b-2", "b-3")] == ["5", "0", "0"]
    done(book, call("c-1", at_us=tomorrow, started_us=NOON_US, usage={"input_tokens": 20, "output_tokens": 0}))
    spent = [read_budget(book.path, id_, at).spent for id_ in ("b-1", "b-3") for at in (NOON_US, tomorrow)]
    assert spent == ["2", "0", "0", "0"]
    assert verify(book.path).ok


def test_a_call_that_happened_is_kept_whatever_a_hard_budget_says(book: Writer) -> None:
    """It goes below zero, and says so."""
    done(book, create_budget("1", enforcement="hard"), costing(5, "c-1"), start("c-2"))
    done(book, finish("c-2", usage={"input_tokens": 10, "output_tokens": 0}))
    view = read_budget(book.path)
    assert (view.spent, view.remaining) == ("6", "-5")


def test_a_hold_counts_for_the_user_whose_account_it_is(book: Writer) -> None:
    """Unless it names another."""
    done(book, create_account("acc", "user", "ann"), credit("100"))
    done(book, create_budget("5", kind="user", scope_id="ann", enforcement="hard"))
    outcomes = done(book, hold("4", "h-1"), hold("4", "h-2"), hold("4", "h-3", user_id="bob"))
    assert [type(each.recorded.data).__name__ for each in outcomes if each.recorded] == [
        "HoldPlaced", "HoldDeclined", "HoldPlaced",
    ]  # fmt: skip


def test_budgets_are_bounded(book: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many of one scope, so many in all; a retired one makes room."""
    monkeypatch.setattr(ledger.commands.budget, "SCOPE_BUDGETS_MAX", 2)
    monkeypatch.setattr(ledger.commands.budget, "BUDGETS_MAX", 3)
    done(book, create_budget("1", "b-1"), create_budget("1", "b-2"))
    (refused,) = book.write([create_budget("1", "b-3")])
    assert isinstance(refused, LimitReached)
    done(book, create_budget("1", "b-4", scope_id="other"))
    (refused,) = book.write([create_budget("1", "b-5", scope_id="third")])
    assert isinstance(refused, LimitReached)
    done(book, retire_budget("b-1"), create_budget("1", "b-6"))


def test_a_crossing_is_an_event_of_its_budget(book: Writer) -> None:
    """Who reads the budget's stream meets it; the call's receipt stays the call's."""
    done(book, create_budget("1", thresholds=[100]))
    (outcome,) = done(book, costing(2, "c-1"))
    assert outcome.recorded is not None
    assert outcome.recorded.type == "model_call.recorded.v2"
    assert outcome.events == 2
    with reading(book.path) as db:
        ((subject, actor),) = select(
            db, "SELECT subject, entry ->> '$.actor' FROM events WHERE type = 'budget.crossed.v1'"
        )
    assert (subject, actor) == ("budget/b-1", "ledger")
    assert BudgetCrossed.__struct_fields__[0] == "id"


@pytest.mark.parametrize(
    "scope",
    [
        BudgetScope(kind="account", id="a:b"),
        BudgetScope(kind="app", id="shop"),
        BudgetScope(kind="user", id="a/b//c"),
        BudgetScope(kind="model", id="x/y", app="shop"),
        BudgetScope(kind="tag", id="a=b/c", key="k"),
        BudgetScope(kind="tag", id="v", key="k", app="shop"),
    ],
)
def test_a_scope_is_what_its_text_says(scope: BudgetScope) -> None:
    """Whatever is in a name."""
    assert scope_of(scope.text) == scope


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"window_hours": 3}, "$.window_hours"),
        ({"period": "rolling"}, "$.window_hours"),
        ({"period": "rolling", "window_hours": 3, "timezone": "Asia/Tokyo"}, "$.timezone"),
        ({"scope": {"kind": "tag", "id": "x"}}, "$.scope.key"),
        ({"scope": {"kind": "app", "id": "x", "key": "k"}}, "$.scope.key"),
        ({"scope": {"kind": "account", "id": "x", "app": "shop"}}, "$.scope.app"),
        ({"scope": {"kind": "user", "id": "\x07"}}, "$.scope.id"),
        ({"amount": "0"}, "$.amount"),
        ({"amount": "100000000.1"}, "$.amount"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], path: str) -> None:
    """By its place."""
    posted = {"id": "b-1", "scope": {"kind": "app", "id": APP}, "amount": "1", "period": "day", **fields}
    with pytest.raises((InvalidInput, OutOfRange)) as caught:
        check_budget(msgspec.convert(posted, Budget))
    assert [error.path for error in caught.value.errors] == [path]
