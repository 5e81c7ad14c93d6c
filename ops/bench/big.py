"""`make bench BIG=1`: what the dashboard's questions cost with ten million calls, against a hundredth of them.

Both ledgers span the same week and have the same apps, models and users. Each question is one that a view asks, in UTC
and in Asia/Kathmandu, whose hours begin at a quarter. Its cost is SQLite's own steps for a cell of the answer, and its
time; its plans must not scan a table that has a row a call. Then batches are posted to both services in turn.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import harmonic_mean
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ledger import reads
from ledger.database import open_reader
from ops.bench import ingest
from ops.bench.build import build_ledger
from ops.bench.calls import START_US, BenchCall, Shape, bench_calls
from ops.bench.process import Service, ledger_service
from ops.bench.statistics import steps_of
from projections.bucket import local_date, widened
from projections.model_call_error import ErrorQuery
from schema.model_call_query import DIMENSIONS, CallErrors, CallFilter, Dimension, Granularity, StatQuery
from schema.model_call_view import ModelCallView
from schema.paging import Page
from schema.times import DAY_US

SMALL = int(os.environ.get("BENCH_BIG_BASE", "100000"))
BIG = int(os.environ.get("BENCH_BIG_CALLS", "10000000"))
SHAPE = Shape(apps=20, models=50, users=10_000, failed_percent=3)
DAYS = 7
ZONES = ("UTC", "Asia/Kathmandu")
TOP, TOP_MODELS = 8, 50  # as the dashboard asks
REPEATS = 5
POSTED, ROUNDS = 20_000, 6
BY_CALL = ("model_calls", "model_call_versions", "events")  # tables with a row a call

Ask = Callable[[apsw.Connection], Any]


class Question(Struct):
    """What a view asks, and how many cells its answer is made of."""

    view: str
    zone: str
    ask: Ask
    cells: Callable[[Any], int]


class Cost(Struct):
    """Of one question on both ledgers; cells, steps, milliseconds: of the small one, of the big one."""

    view: str
    zone: str
    cells: tuple[int, int]
    steps: tuple[int, int]
    milliseconds: tuple[float, float]
    scans: list[str]

    @property
    def slower(self) -> float:
        """How many times as long it takes with all calls."""
        return self.milliseconds[1] / self.milliseconds[0]


class Ingest(Struct):
    """Batches of 500 posted to the small and the big ledger in turn, calls per second by round."""

    ids: str
    small_per_s: list[float]
    big_per_s: list[float]

    @property
    def ratio(self) -> float:
        """The big one against the small one."""
        return harmonic_mean(self.big_per_s) / harmonic_mean(self.small_per_s)


def questions() -> Iterator[Question]:
    """What each view asks whose cost could grow with calls."""
    for zone in ZONES:
        for granularity in ("hour", "day"):
            axis = _query(zone, granularity, (), compare=True, fill=True)
            yield Question(f"overview, tokens, cost by {granularity}", zone, _stats(axis), _cells)
            with_percentiles = _query(zone, granularity, (), percentiles=True)
            yield Question(f"speed by {granularity}", zone, _stats(with_percentiles), _cells)
        by_model = _query(zone, "total", ("model",), top=TOP_MODELS, percentiles=True)
        yield Question("speed by model", zone, _stats(by_model), _groups)
        for dimension in DIMENSIONS:
            yield Question(f"top by {dimension}", zone, _stats(_query(zone, "total", (dimension,), top=TOP)), _groups)
            daily = _query(zone, "day", (dimension,), top=TOP)
            yield Question(f"top by {dimension}, daily", zone, _stats(daily), lambda found: DAYS * _groups(found))
        week = CallFilter(from_us=_start(zone), to_us=_end())
        errors = ErrorQuery(filter=week, granularity="day", timezone=zone, top=TOP)
        yield Question("errors by day", zone, partial(_errors, errors), _error_cells)
        yield Question("calls, a page", zone, partial(_page, week), _rows)


def _query(zone: str, granularity: Granularity, group_by: tuple[Dimension, ...], **fields: Any) -> StatQuery:  # noqa: ANN401
    week = CallFilter(from_us=_start(zone), to_us=_end())
    asked: dict[str, Any] = {"percentiles": False, **fields}
    return StatQuery(filter=week, granularity=granularity, timezone=zone, group_by=group_by, **asked)


def _errors(query: ErrorQuery, db: apsw.Connection) -> CallErrors:
    return reads.model_call_errors(db, query)


def _page(call_filter: CallFilter, db: apsw.Connection) -> Page[ModelCallView]:
    return reads.model_calls(db, call_filter, None, 50)


def _start(zone: str) -> int:
    """The midnight at or before the first call."""
    return widened(START_US, START_US + 1, "day", ZoneInfo(zone))[0]


def _end() -> int:
    return START_US + DAYS * DAY_US


def _stats(query: StatQuery) -> Ask:
    return lambda db: reads.model_call_stats(db, query)


def _cells(found: Any) -> int:  # noqa: ANN401 - statistics
    return len(found.buckets)


def _groups(found: Any) -> int:  # noqa: ANN401 - statistics
    """With `top`, every group is a cell that was added up, whether shown apart or in the rest."""
    return found.groups or 1


def _error_cells(found: Any) -> int:  # noqa: ANN401 - errors
    return max(len(found.buckets), DAYS)


def _rows(found: Any) -> int:  # noqa: ANN401 - a page
    return len(found.items)


def measure(directories: Sequence[Path]) -> list[Cost]:
    """Every question on the small and the big ledger."""
    readers = [open_reader(directory / "ledger.db") for directory in directories]
    return [_cost(each, readers) for each in questions()]


def _cost(question: Question, readers: Sequence[apsw.Connection]) -> Cost:
    cells: list[int] = []
    steps: list[int] = []
    milliseconds: list[float] = []
    for db in readers:
        cells.append(question.cells(question.ask(db)))
        steps.append(steps_of(db, partial(question.ask, db)))
        milliseconds.append(_fastest_ms(question.ask, db))
    small, big = range(2)
    return Cost(
        question.view, question.zone, (cells[small], cells[big]), (steps[small], steps[big]),
        (milliseconds[small], milliseconds[big]), scans(readers[big], question.ask),
    )  # fmt: skip


def _fastest_ms(ask: Ask, db: apsw.Connection) -> float:
    """Of several, since whatever else the machine does only adds."""
    found: list[float] = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        ask(db)
        found.append((time.perf_counter() - start) * 1e3)
    return min(found)


def scans(db: apsw.Connection, ask: Ask) -> list[str]:
    """The steps of a question's plans that go through a whole table with a row a call."""
    ran: list[tuple[str, Any]] = []

    def note(_: apsw.Cursor, sql: str, bindings: Any) -> bool:  # noqa: ANN401 - whatever was bound
        ran.append((sql, bindings))
        return True

    db.exec_trace = note
    try:
        ask(db)
    finally:
        db.exec_trace = None
    plans = (
        str(row[3])
        for sql, bound in ran
        if sql.lstrip().startswith(("SELECT", "WITH"))
        for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", bound)
    )
    return sorted({step for step in plans if step.startswith("SCAN") and step.split()[1] in BY_CALL})


def posted(services: Sequence[Service], start_us: int, *, random_ids: bool) -> Ingest:
    """The next calls, to both services in turn."""
    found = Ingest("random ids" if random_ids else "time-ordered ids", [], [])
    calls = list(bench_calls(POSTED, seed=7 + random_ids, random_ids=random_ids, shape=SHAPE, start_us=start_us))
    for n in range(ROUNDS):
        part = calls[n * POSTED // ROUNDS : (n + 1) * POSTED // ROUNDS]
        pairs: list[tuple[Service, list[float]]] = [(services[0], found.small_per_s), (services[1], found.big_per_s)]
        for service, per_s in pairs if n % 2 else reversed(pairs):
            per_s.append(_per_s(service, part))
    return found


def _per_s(service: Service, part: list[BenchCall]) -> float:
    return len(part) / ingest.post_batches(service, part).seconds


def main() -> None:
    """Build, ask, post, show; raises AssertionError where a plan scans."""
    console = Console()
    with ingest.scratch() as directory, Progress(console=console) as progress:

        def fill(count: int) -> Callable[[Path], None]:
            task = progress.add_task(f"{count:,} calls", total=count)
            return lambda data_dir: build_ledger(
                data_dir / "ledger.db", count, span_us=DAYS * DAY_US, shape=SHAPE,
                told=lambda more: progress.advance(task, more),
            )  # fmt: skip

        with (
            ledger_service(directory / "small", fill(SMALL)) as small,
            ledger_service(directory / "big", fill(BIG)) as big,
        ):
            costs = measure([directory / "small", directory / "big"])
            later = START_US + DAYS * DAY_US
            runs = [
                posted([small, big], later, random_ids=False),
                posted([small, big], later + DAY_US, random_ids=True),
            ]
    _show(console, costs, runs)
    results = Path("bench-results")
    results.mkdir(exist_ok=True)
    report = {"costs": costs, "ingest": [{**msgspec.to_builtins(run), "ratio": run.ratio} for run in runs]}
    path = results / f"big-{local_date(time.time_ns() // 1_000, ZoneInfo('UTC'))}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    console.print(f"written to {path}")
    assert not [cost for cost in costs if cost.scans], "a plan goes through a table with a row a call"


def _show(console: Console, costs: list[Cost], runs: list[Ingest]) -> None:
    steps = [f"steps a cell, {count:,}" for count in (SMALL, BIG)]
    table = Table("question", "zone", "cells", *steps, "ms", "ms", "slower")
    for cost in sorted(costs, key=lambda cost: -cost.slower):
        per_cell = [f"{steps / max(cells, 1):,.0f}" for steps, cells in zip(cost.steps, cost.cells, strict=True)]
        times = [f"{each:.1f}" for each in cost.milliseconds]
        table.add_row(cost.view, cost.zone, f"{cost.cells[1]:,}", *per_cell, *times, f"{cost.slower:.2f}")
    console.print(table)
    for run in runs:
        console.print(f"batches of 500, {run.ids}: {run.ratio:.2f} of the rate with {SMALL:,} calls")


if __name__ == "__main__":
    main()
