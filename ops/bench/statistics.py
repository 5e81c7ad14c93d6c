"""What a statistic costs as calls grow: time and SQLite's own steps, against adding up the calls."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct

from ledger.database import open_reader
from ledger.reads import model_call_stats
from ops.bench.build import build_ledger
from ops.bench.calls import START_US
from schema.model_call_query import CallFilter, Dimension, StatQuery
from schema.times import DAY_US

DAYS = 30
REPEATS = 5


class Cost(Struct):
    """Of one query on one ledger."""

    calls: int
    group_by: str
    cells: int
    steps: int
    milliseconds: float
    scan_milliseconds: float


def measure(directory: Path, calls: int) -> list[Cost]:
    """Daily statistics over 30 days, in total and by model, by app and by both."""
    path = directory / f"stats-{calls}.db"
    build_ledger(path, calls, span_us=DAYS * DAY_US)
    db = open_reader(path)
    groups: tuple[tuple[Dimension, ...], ...] = ((), ("model",), ("app",), ("app", "model"))
    return [_cost(db, calls, group) for group in groups]


def _cost(db: apsw.Connection, calls: int, group: tuple[Dimension, ...]) -> Cost:
    query = StatQuery(
        filter=CallFilter(from_us=START_US, to_us=START_US + DAYS * DAY_US), granularity="day", group_by=group
    )
    cells = len(model_call_stats(db, query).buckets)
    steps = steps_of(db, lambda: model_call_stats(db, query))
    start = time.perf_counter()
    for _ in range(REPEATS):
        model_call_stats(db, query)
    milliseconds = (time.perf_counter() - start) * 1e3 / REPEATS
    return Cost(calls, ",".join(group) or "total", cells, steps, milliseconds, _scan_ms(db, group))


def steps_of(db: apsw.Connection, read: Callable[[], object]) -> int:
    """Virtual-machine steps of what a read runs."""
    found = 0

    def trace(event: dict[str, Any]) -> None:
        nonlocal found
        found += int(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])

    tracing: Any = db  # its stub leaves the events' type open
    tracing.trace_v2(apsw.SQLITE_TRACE_PROFILE, trace)
    read()
    tracing.trace_v2(0, None)
    return found


def _scan_ms(db: apsw.Connection, group: tuple[Dimension, ...]) -> float:
    """Without roll-ups: adding up the calls."""
    keys = ", ".join([f"started_at_us / {DAY_US}", *group])
    start = time.perf_counter()
    db.execute(
        f"SELECT {keys}, count(*), sum(input_tokens), sum(output_tokens) FROM model_calls GROUP BY {keys}"
    ).fetchall()
    return (time.perf_counter() - start) * 1e3
