"""What was known at a position or a time can be asked for ever after, whatever came later."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import journal, reads
from ledger.account_reads import position_at
from schema.errors import InvalidInput, NotFound
from schema.model_call_query import CallFilter, StatQuery
from tests.changes import a_rate, correction, one
from tests.histories import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    NOON_US,
    call,
    finish,
    open_book,
    reading,
    start,
    sweep,
)
from tests.serving import CALLS, Json, Service, a_call, serving
from tests.strategies import examples
from tests.test_changes import BASES, GROUPS, History, step
from tests.test_correction import correct, plan

STOPS = 5  # so often are a history's answers kept
RANGE: dict[str, Any] = {"from_us": NOON_US - HOUR_US, "to_us": NOON_US + 1}
FILTERS = [
    *(CallFilter(basis=basis) for basis in BASES), *(CallFilter(basis=basis, **RANGE) for basis in BASES),
    CallFilter(app="shop"), CallFilter(model="sonnet", basis="billed"), CallFilter(status="success"),
]  # fmt: skip


def known(db: apsw.Connection, as_of: int | None = None) -> list[Any]:
    """All that can be asked of calls."""
    found: list[Any] = []
    for call_filter in (replace(each, as_of=as_of) for each in FILTERS):
        page = reads.model_calls(db, call_filter, None, 1_000)
        found.append((page, reads.usage_logs(db, call_filter, None, 1_000)))
        found += [
            reads.model_call_stats(db, StatQuery(filter=call_filter, granularity="hour", group_by=group))
            for group in GROUPS[:3]
        ]
        found += [
            reads.model_call(db, view.app, view.id, as_of) for view in page.items if call_filter.basis == "corrected"
        ]
    return found


@examples(15)
@given(st.lists(step, max_size=12))
def test_at_every_position_answers_are_those_of_then(steps: list[Any]) -> None:
    with TemporaryDirectory() as directory, open_book(Path(directory)) as writer, reading(writer.path) as db:
        answers: dict[int, list[Any]] = {}
        commands = History(steps).commands
        stops = {len(commands) * n // STOPS for n in range(1, STOPS + 1)}
        for n, command in enumerate(commands, 1):
            one(writer, command)
            if n in stops:
                answers[journal.head_position(db)] = known(db)
        for position, expected in answers.items():
            found = known(db, position)
            assert found == expected


def test_each_state_of_a_long_call_is_kept(tmp_path: Path) -> None:
    """Processing, timed out, ended late, corrected, re-priced by hand, voided: of each there is one at its position."""
    usage = {"input_tokens": 5, "output_tokens": 1}
    with open_book(tmp_path) as writer, reading(writer.path) as db:
        for command in (
            start("c-1", at_us=NOON_US, timeout_us=MINUTE_US), sweep(NOON_US + MINUTE_US),
            finish("c-1", at_us=NOON_US + DAY_US, usage=usage), correction("c-1", model="sonnet"),
            correction("c-1", "void-1", void=True),
        ):  # fmt: skip
            one(writer, command)
        states: list[tuple[object, ...]] = []
        for position in range(1, 6):
            view = reads.model_call(db, None, "c-1", position)
            listed = reads.model_calls(db, CallFilter(as_of=position), None, 10).items
            totals = reads.model_call_stats(db, StatQuery(filter=CallFilter(as_of=position))).totals
            assert listed == [view] or (position == 5 and listed == [])
            states.append((view.status, view.model, view.cost_status, totals.calls, totals.succeeded))
        assert states == [
            ("processing", "gpt-4o", states[0][2], 0, 0), ("timed_out", "gpt-4o", "unpriced", 1, 0),
            ("success", "gpt-4o", "unpriced", 1, 1), ("success", "sonnet", "unpriced", 1, 1),
            ("success", "sonnet", states[4][2], 0, 0),
        ]  # fmt: skip
        with pytest.raises(NotFound):
            reads.model_call(db, None, "c-1", 0)


def test_a_group_keeps_what_is_known_within_it(tmp_path: Path) -> None:
    """Started, ended and corrected in one transaction: the states between are there all the same."""
    with open_book(tmp_path) as writer, reading(writer.path) as db:
        usage = {"input_tokens": 5, "output_tokens": 1}
        writer.write([start("c-1"), finish("c-1", usage=usage), call("c-2"), correction("c-2", model="sonnet")])
        found = [
            [(each.id, each.status, each.model) for each in reads.model_calls(db, CallFilter(as_of=n), None, 9).items]
            for n in range(1, 5)
        ]
        assert found == [
            [("c-1", "processing", "gpt-4o")], [("c-1", "success", "gpt-4o")],
            [("c-2", "success", "gpt-4o"), ("c-1", "success", "gpt-4o")],
            [("c-2", "success", "sonnet"), ("c-1", "success", "gpt-4o")],
        ]  # fmt: skip


def test_a_question_that_would_look_at_too_many_calls_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.model_call_stat_rows.CALLS_MAX", 3)
    with open_book(tmp_path) as writer, reading(writer.path) as db:
        writer.write([call(f"c-{n}", started_at=f"2026-01-0{n}T00:00:00Z", at_us=NOON_US) for n in range(1, 6)])
        few = CallFilter(as_of=9, from_us=NOON_US - DAY_US, to_us=NOON_US)
        assert reads.model_call_stats(db, StatQuery(filter=few)).totals.calls == 0
        with pytest.raises(InvalidInput, match=r"\$.from"):
            reads.model_call_stats(db, StatQuery(filter=CallFilter(as_of=9)))


@pytest.mark.parametrize("basis", BASES)
def test_the_past_is_found_by_index(tmp_path: Path, basis: Any) -> None:  # noqa: ANN401 - a basis
    with open_book(tmp_path) as writer, reading(writer.path) as db:
        writer.write([a_rate("r"), call("c-1"), correction("c-1", model="sonnet")])
        asked = CallFilter(as_of=2, basis=basis, **RANGE)
        query = StatQuery(filter=asked)
        steps = plan(db, lambda: (reads.model_calls(db, asked, None, 5), reads.model_call_stats(db, query)))
        tables = [step for step in steps if "model_call" in step]
        assert tables
        assert all(step.startswith("SEARCH") and "started_at" in step for step in tables)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def test_over_http_by_position_and_by_time(service: Service) -> None:
    service.post(CALLS, a_call())
    then: Json = service.get(f"{CALLS}/c-1").json()
    service.clock.now_us += DAY_US
    assert correct(service, model="sonnet").status_code == 201
    service.post(CALLS, a_call("c-2"))
    for as_of in (str(then["position"]), then["recorded_at"]):
        assert service.get(f"{CALLS}/c-1?as_of={as_of}").json() == then
        assert service.get(f"{CALLS}?as_of={as_of}").json()["items"] == [then]
        stats = service.get(f"/v1/model-call-stats?as_of={as_of}&group_by=model").json()
        assert [(each["group"]["model"], each["calls"]) for each in stats["buckets"]] == [("gpt-4o", 1)]
        exported = service.get(f"{CALLS}.csv?as_of={as_of}")
        assert "gpt-4o" in exported.text
        assert "sonnet" not in exported.text
        assert exported.headers["export-position"] == str(then["position"])
        assert service.get(f"{CALLS}/c-2?as_of={as_of}").json()["code"] == "not_found"
        assert service.get(f"/v1/usage-logs?as_of={as_of}").json()["items"][0]["model"] == "gpt-4o"
    assert service.get(f"{CALLS}?as_of=1970-01-01T00:00:00Z").json()["items"] == []


@pytest.mark.parametrize("as_of", ["yesterday", "-1", "1.5", "", "9" * 19, "null", "2026-13-01T00:00:00Z"])
@pytest.mark.parametrize("path", [CALLS, "/v1/model-call-stats", f"{CALLS}/c-1", f"{CALLS}.csv"])
def test_what_is_no_position_and_no_time_is_refused(service: Service, path: str, as_of: str) -> None:
    answer: Json = service.get(f"{path}?as_of={as_of}").json()
    assert (answer["status"], answer["code"], answer["errors"][0]["path"]) == (400, "invalid_input", "$.as_of")


def test_the_last_position_at_a_time_is_meant(tmp_path: Path) -> None:
    with open_book(tmp_path) as writer, reading(writer.path) as db:
        writer.write([call("c-1", at_us=NOON_US), call("c-2", at_us=NOON_US)])
        writer.write([call("c-3", at_us=NOON_US + 1)])
        assert [position_at(db, NOON_US + n) for n in (-1, 0, 1, DAY_US)] == [0, 2, 3, 3]
        assert msgspec.json.encode(reads.model_calls(db, CallFilter(as_of=10**9), None, 9))  # what is to come is as now
