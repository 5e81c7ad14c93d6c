"""Why calls failed: any history comes to what a plain fold says, from cells and from calls, and costs its cells."""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import journal, reads, rebuild
from ledger.database import open_reader, open_writer
from ops.bench.statistics import steps_of
from projections import model_call_error, model_call_stat
from projections.engine import Engine, registry
from projections.model_call_error import ErrorQuery, read_errors
from schema.model_call_query import CallErrors, CallFilter
from schema.times import format_time, parse_time
from tests.histories import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    NOON_US,
    QUARTER_US,
    Fields,
    call,
    finish,
    kind_of,
    open_book,
    reading,
    replayed,
    start,
    sweep,
    tables,
    write_in_groups,
)
from tests.serving import APP, CALLS, Json, a_call, prepare, record, serving
from tests.strategies import apps, examples, group_sizes, optional, statuses, tails
from tests.test_api_stats import DAYS_ASKED, FIRST_US, RANGE, TAIL_STEPS_MAX, label
from tests.test_changes import BASES, GRANULARITIES, History, models, ranges, runs

ERRORS = "/v1/model-call-errors"
ZONES = ("UTC", "Asia/Kathmandu", "Europe/Berlin")
DST_US = parse_time("2026-10-25T01:00:00Z")  # where Berlin's clock goes back
CODES = ("busy", "quota", "timed_out", "é\x00", "Z")
STARTS_US = (
    NOON_US, NOON_US - 1, NOON_US - 20 * MINUTE_US, NOON_US - HOUR_US, NOON_US - 13 * HOUR_US, DST_US, DST_US - 1,
    DST_US - HOUR_US, DST_US - 2 * HOUR_US - QUARTER_US,
)  # fmt: skip
FAILING = {"failed", "timed_out"}
CUT = CallFilter(from_us=DST_US - HOUR_US + 1, to_us=NOON_US - 20 * MINUTE_US + 1)
Cells = dict[tuple[object, str | None, bool], int]  # by bucket, reason, and whether that is of all the others

fields = st.fixed_dictionaries(
    {"started_at": st.sampled_from(STARTS_US).map(format_time), "status": statuses},
    optional={
        "model": models, "type": st.sampled_from(("chat_completion", "embedding")),
        "user_id": optional(st.just("u-1")), "credential_id": optional(st.just("k")),
        "error": optional(st.fixed_dictionaries({"code": st.sampled_from(CODES)})),
    },
)  # fmt: skip
few = st.sampled_from(("c-1", "c-2"))  # so that calls are changed often
step = st.one_of(
    st.tuples(st.just("call"), few, apps, fields),
    st.tuples(st.just("call"), few, apps, fields),
    st.tuples(st.just("long"), few, apps, fields, st.booleans()),
    st.tuples(st.just("left"), few, apps, fields),
    st.tuples(st.just("rate"), models, st.just("0.5")),
    st.tuples(st.just("correct"), few, apps, st.none(), fields),
    st.tuples(st.just("void"), few, apps),
    st.tuples(st.just("rerate"), runs, ranges, optional(models)),
)


class Failures(History):
    """Histories with codes, and with calls that time out and never end: those cannot be changed."""

    def __init__(self, steps: list[tuple[Any, ...]]) -> None:
        self.left: dict[tuple[str, str], Fields] = {}
        super().__init__(steps)

    def _long(self, _: int, id_: str, app: str, posted: Fields, late: bool) -> None:  # noqa: FBT001 - as drawn
        if (app, id_) in self.taken:
            return
        self._begin(id_, app, posted, late=late)
        error = {"error": posted["error"]} if "error" in posted else {}
        self.commands.append(finish(id_, posted["status"], app=app, at_us=NOON_US, **error))
        self._record(id_, app, posted)

    def _left(self, _: int, id_: str, app: str, posted: Fields) -> None:
        if (app, id_) in self.taken:
            return
        self._begin(id_, app, posted, late=True)
        whole = {"app": app, "provider": "openai", "model": "gpt-4o", "type": "chat_completion", **posted}
        self.left[app, id_] = {**whole, "status": "timed_out", "error": None}

    def _begin(self, id_: str, app: str, posted: Fields, *, late: bool) -> None:
        self.taken.add((app, id_))
        begun = {name: value for name, value in posted.items() if name not in {"status", "error"}}
        self.commands.append(start(id_, app=app, at_us=NOON_US, timeout_us=0 if late else MINUTE_US, **begun))
        if late:
            self.commands.append(sweep(NOON_US))

    def failed(self, call_filter: CallFilter) -> list[Fields]:
        """The calls that failed, of those that the filter selects."""
        calls = [*(each.fields for each in self.plain.calls(call_filter.basis)), *self.left.values()]
        low, high = call_filter.from_us or 0, call_filter.to_us or 2 * NOON_US
        return [
            each
            for each in calls
            if each["status"] in FAILING
            and low <= parse_time(each["started_at"]) < high
            and all(each.get(name) == value for name, value in call_filter.dimensions().items())
        ]


def reason_of(failed: Fields) -> str | None:
    error: Fields = failed.get("error") or {}
    code: str | None = error.get("code")
    return code or ("timed_out" if failed["status"] == "timed_out" else None)


def bucket_of(started_at: str, query: ErrorQuery) -> object:
    zone = ZoneInfo(query.timezone)
    return None if query.granularity == "total" else label(parse_time(started_at), query.granularity, zone)


def by_hand(calls: Iterable[Fields], query: ErrorQuery) -> tuple[list[tuple[str | None, int, int]], Cells]:
    """The top reasons and the rest, and both by bucket."""
    told = [(bucket_of(each["started_at"], query), reason_of(each)) for each in calls]
    counts = Counter(reason for _, reason in told)
    order = sorted(counts, key=lambda reason: (-counts[reason], reason or ""))
    kept, others = order[: query.top], order[query.top :]
    found = [(reason, counts[reason], 0) for reason in kept]
    if others:
        found.append((None, sum(counts[reason] for reason in others), len(others)))
    cells = Counter((bucket, None if reason in others else reason, reason in others) for bucket, reason in told)
    return found, dict(cells)


def shown(found: CallErrors, query: ErrorQuery) -> tuple[list[tuple[str | None, int, int]], Cells]:
    cells = {(bucket_of(each.start, query), each.reason, each.others > 0): each.calls for each in found.buckets}
    assert len(cells) == len(found.buckets)
    return [(each.reason, each.calls, each.others) for each in found.reasons], cells


FILTERS = (
    CallFilter(), CUT, CallFilter(app="a"), CallFilter(provider="openai", model="gpt-4o"), CallFilter(type="embedding"),
    CallFilter(status="timed_out"), CallFilter(status="failed", app="b"), CallFilter(credential_id="k"),
    CallFilter(user_id="u-1"), CallFilter(as_of=10**9), CallFilter(status="success"), CallFilter(app="nobody"),
    CallFilter(from_us=NOON_US - 13 * HOUR_US, model="sonnet"),
)  # fmt: skip


def check_errors(db: apsw.Connection, history: Failures) -> None:
    """Every filter, basis, granularity and zone, from cells and from the calls themselves."""
    questions = product(FILTERS, BASES, GRANULARITIES, ZONES, (1, 3, 10))
    for n, (asked, basis, granularity, zone, top) in enumerate(questions):
        named = {name: getattr(asked, name) for name in CallFilter.__struct_fields__ if name != "basis"}
        query = ErrorQuery(
            filter=CallFilter(**named, basis=basis), granularity=granularity, timezone=zone, top=top
        )  # fmt: skip
        calls = history.failed(query.filter)
        expected = by_hand(calls, query)
        found = reads.model_call_errors(db, query) if n % 2 else read_errors(db, query)
        assert (found.failed, found.since) == (len(calls), None)
        assert shown(found, query) == expected, query
        if n % 7 == 0:
            assert shown(read_errors(db, query, folded=False), query) == expected, query


@examples(15)
@given(st.lists(step, min_size=2, max_size=25), group_sizes, tails)
def test_failures_come_to_what_a_plain_fold_says(steps: list[Any], sizes: list[int], tail: int) -> None:
    """As billed and as corrected; in any groups, replayed and rebuilt."""
    history = Failures(steps)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory:
        patch.setattr(model_call_stat, "TAIL_EVENTS", tail)
        with open_book(Path(directory)) as book:
            outcomes = write_in_groups(book, history.commands, sizes)
            assert "internal_error" not in set(map(kind_of, outcomes))
            with reading(book.path) as db:
                check_errors(db, history)
                events, live = journal.read(db, 0, 10**6), tables(db)
            for size in {1, sizes[0], len(events)} if events else ():
                assert replayed(events, size) == live
            db = open_writer(book.path, "os")
            for name in ("model_call_failures", "model_calls"):
                rebuild.rebuild(db, Engine(db), registry()[name])
            assert tables(db) == live
            db.close()


def test_a_reason_that_was_corrected_is_counted_as_what_it_became(tmp_path: Path) -> None:
    """From one code to another, to success and to nothing; as billed each stays what it first was."""
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path) as service:
        patch.setattr(model_call_stat, "TAIL_EVENTS", 1)  # everything is folded
        for id_ in ("a", "b", "c", "d"):
            service.post(CALLS, a_call(id_, status="failed", error={"code": "busy"}))
        changes: list[tuple[str, Json]] = [
            ("a", {"set": {"error": {"code": "quota"}}}), ("b", {"set": {"status": "success"}}), ("c", {"void": True}),
        ]  # fmt: skip
        for id_, change in changes:
            assert service.post(f"{CALLS}/{id_}/corrections", {"id": "x", "reason": "r", **change}).status_code == 201
        for basis, expected in (("billed", {"busy": 4}), ("corrected", {"busy": 1, "quota": 1})):
            answer = service.get(f"{ERRORS}?basis={basis}").json()
            assert {each["reason"]: each["calls"] for each in answer["reasons"]} == expected
        assert service.read("SELECT count(*) FROM model_call_failure_deltas") == [(0,)]


def test_too_large_an_answer_is_refused(tmp_path: Path) -> None:
    """From cells and from calls alike, one cell beyond the bound."""
    with serving(tmp_path) as service, pytest.MonkeyPatch.context() as patch:
        codes = [f"e-{n}" for n in range(4)]
        service.post(CALLS, [a_call(code, status="failed", error={"code": code}) for code in codes])
        for more, cells in product(("", "&q=e-"), (4, 3)):
            patch.setattr(model_call_error, "CELLS_MAX", cells)
            answer = service.get(f"{ERRORS}?top=9{more}")
            assert answer.status_code == (200 if cells == 4 else 400)
        assert service.get(f"{ERRORS}?top=2").status_code == 200


def test_while_it_is_rebuilt_calls_are_looked_at(tmp_path: Path) -> None:
    """An answer with the same numbers, within the bound of a scan."""
    with open_book(tmp_path) as book:
        book.write([call(f"c-{n}", status="failed") for n in range(3)])
        db = open_writer(book.path, "os")
        db.execute("UPDATE projections SET version = 99 WHERE name = 'model_call_failures'")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model_call_error, "ERROR_SCAN_ROWS_MAX", 2)
            assert (found := reads.model_call_errors(db, ErrorQuery(filter=CallFilter()))).failed == 2
            assert found.since is not None
        db.close()


# What an answer costs

FEW = 10_000
QUESTIONS = {
    "days": ErrorQuery(filter=RANGE, granularity="day"),
    "Berlin's hours": ErrorQuery(filter=RANGE, granularity="hour", timezone="Europe/Berlin"),
    "Kathmandu's days, the top": ErrorQuery(filter=RANGE, granularity="day", timezone="Asia/Kathmandu", top=1),
    "an app": ErrorQuery(filter=CallFilter(from_us=RANGE.from_us, to_us=RANGE.to_us, app=APP), granularity="day"),
    "a model's total": ErrorQuery(filter=CallFilter(provider="openai", model="m-1")),
}  # fmt: skip


def spread(count: int) -> Iterator[Json]:
    """Half of them failed, of the same few cells over the same days."""
    for n in range(count):
        status = ("success", "failed")[n % 2]
        yield {
            "id": f"c-{n}", "app": APP, "provider": "openai", "model": f"m-{n % 3}", "type": "chat_completion",
            "status": status, "started_at": format_time(FIRST_US + n * (DAYS_ASKED * DAY_US // count)),
            **({"error": {"code": f"e-{n % 3}"}} if n % 2 else {}),
        }  # fmt: skip


def costs(directory: Path, count: int) -> dict[str, int]:
    directory.mkdir()
    prepare(directory, lambda ledger: record(ledger, spread(count), at_once=10_000))
    db = open_reader(directory / "ledger.db")
    try:
        for query in QUESTIONS.values():
            assert reads.model_call_errors(db, query).failed >= count // 6
        return {name: steps_of(db, partial(reads.model_call_errors, db, query)) for name, query in QUESTIONS.items()}
    finally:
        db.close()


def test_reasons_cost_what_their_cells_cost(tmp_path: Path) -> None:
    """Ten times the calls in the same cells take about the same number of steps."""
    few, many = costs(tmp_path / "few", FEW), costs(tmp_path / "many", 10 * FEW)
    assert {name: (few[name], many[name]) for name in few if many[name] > 1.2 * few[name] + TAIL_STEPS_MAX} == {}


def test_reasons_are_read_by_the_key_of_their_cells(tmp_path: Path) -> None:
    """For whole quarters of hours no calls are looked at but those of the tail, and no table is gone through."""
    with serving(tmp_path) as service:
        record(service.ledger, spread(5_000))
        db = open_reader(service.ledger.path)
        statements: list[str] = []

        def note(_: apsw.Cursor, sql: str, __: object) -> bool:
            statements.append(sql)
            return True

        for name, query in QUESTIONS.items():
            statements.clear()
            db.exec_trace = note
            reads.model_call_errors(db, query)
            db.exec_trace = None
            selects = [sql for sql in statements if sql.lstrip().startswith(("SELECT", "WITH"))]
            plan = [
                str(row[3])
                for sql in selects
                for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?"))
            ]
            assert any(each.startswith("SEARCH s USING PRIMARY KEY (rollup=? AND bucket") for each in plan), (
                name,
                plan,
            )
            seen = {each for each in plan if "model_calls " in each}
            assert seen <= {
                "SEARCH model_calls USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",  # the tail
                "SEARCH model_calls USING COVERING INDEX model_calls_started_at",  # the first and the last start
            }, (name, plan)
            assert not [each for each in plan if each in {"SCAN s", "SCAN model_call_failures"}], (name, plan)
        db.close()
