"""Failed and timed-out calls by reason, by quarter of an hour and day: why calls fail costs what the reasons are.

A reason is the error's code as posted, `timed_out`, or empty where none was given. The roll-ups, the stretches that are
folded and the tail that a read adds are those of statistics; a cell has one measure, and a stretch in which no call
failed adds nothing. A call that came whole is in its row of `model_calls` (or in that row's first version); what any
other event adds and takes away is laid down until it is folded. Events do not tell the reason that they replace: it is
in the version that `model_calls` keeps of the call until just that event.
"""

from collections.abc import Iterator, Sequence
from typing import cast

import apsw

from projections.bulk import Row, insert
from projections.model_call import first_position
from projections.model_call_stat import AS_RECORDED, Rollup, folded
from projections.name import CallEvent, NameTable, status_of
from projections.projection import Projection, Table, Target
from schema.correction import ModelCallCorrected, ModelCallRerated, ModelCallVoided
from schema.entry import Recorded
from schema.model_call import FINISHED, ModelCall, ModelCallRecorded, ModelCallStarted
from schema.times import DAY_US, QUARTER_US, parse_time

FAILED = "status IN (SELECT id FROM names WHERE name IN ('failed', 'timed_out'))"
REASON = "coalesce(error_code, iif(status = (SELECT id FROM names WHERE name = 'timed_out'), 'timed_out', ''))"
DIMENSIONS = ("app", "provider", "model", "credential_id", "type", "status", "reason")
CELLS = "model_call_failures"
DELTAS = "model_call_failure_deltas"

_FAILING = {"failed", "timed_out"}
_KINDS = ("type", "status", "reason")
_KEPT = (_KINDS, ("app", *_KINDS), ("provider", "model", *_KINDS), DIMENSIONS)
# Narrowest first: a query takes the first that has its dimensions.
ROLLUPS = tuple(
    Rollup(2 * n + m, size, frozenset(kept))
    for n, kept in enumerate(_KEPT)
    for m, size in enumerate((QUARTER_US, DAY_US))
)
_SUMMED = ("started_at_us", *DIMENSIONS, "correction", "calls")
_DELTA_COLUMNS = ("position", "sign", *_SUMMED)
_STRETCH = "model_call_failure_stretch"
_BILLED, _CORRECTED = 0, 1


def tail(db: apsw.Connection) -> tuple[tuple[str, ...], tuple[int, int]]:
    """The sources of what is not folded into the cells yet, and the positions to bind them with."""
    position = db.execute("SELECT position FROM projections WHERE name = ?", (PROJECTION.name,)).get or 0
    return _sources(Target(db, NameTable())), (folded(position), position)


def _sources(target: Target) -> tuple[str, ...]:
    """All that the events after one position and up to another add, in the columns of deltas."""
    within = "WHERE position > ? AND position <= ?"
    taken = {"reason": f"{REASON} AS reason", "correction": f"{_BILLED} AS correction", "calls": "1 AS calls"}
    columns = ", ".join(taken.get(column, column) for column in _SUMMED)
    return (
        *(
            f"(SELECT {columns} FROM {target.peer(table)} {within} AND {FAILED} AND {AS_RECORDED})"
            for table in ("model_calls", "model_call_versions")
        ),
        f"(SELECT {', '.join(_SUMMED)} FROM {target.table(DELTAS)} {within})",
    )


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    if any(type(event.data) is not ModelCallRecorded for event in events):
        rows = [row for call in target.names.calls(target.db, events) for row in _deltas(target, *call)]
        insert(target.db, f"INSERT INTO {target.table(DELTAS)}", rows)
    first, boundary = events[0].position, folded(events[-1].position)
    if boundary >= first:
        _fold(target, (folded(first - 1), boundary))


def _deltas(target: Target, event: Recorded, data: CallEvent, names: tuple[int, ...]) -> Iterator[Row]:
    """What an event of a call that did not come whole adds and takes away."""
    if isinstance(data, ModelCallRecorded | ModelCallStarted | ModelCallRerated):
        return  # its row tells; it has not ended; it fails as it did
    changed = isinstance(data, ModelCallCorrected | ModelCallVoided)
    correction = _CORRECTED if changed else _BILLED
    if _replaces_a_failure(data):
        yield (event.position, -1, *_replaced(target, first_position(event, data), event.position), correction, -1)
    if not isinstance(data, ModelCallVoided) and (status := status_of(data)) in _FAILING:
        error = data.error if isinstance(data, ModelCall) else None
        reason = error.code if error else "timed_out" if status == "timed_out" else ""
        yield (event.position, 1, parse_time(data.started_at), *names[1:], reason, correction, 1)


def _replaces_a_failure(data: object) -> bool:
    if isinstance(data, ModelCallCorrected | ModelCallVoided):
        return data.replaces.status in _FAILING
    return isinstance(data, FINISHED) and not isinstance(data, ModelCallRecorded) and data.replaces is not None


def _replaced(target: Target, call: int, until: int) -> Row:
    """What the row of a call was until an event: start, names and reason."""
    columns = ", ".join(REASON if column == "reason" else column for column in ("started_at_us", *DIMENSIONS))
    query = f"SELECT {columns} FROM {target.peer('model_call_versions')} WHERE position = ? AND until = ?"
    (row,) = cast("list[Row]", target.db.execute(query, (call, until)).fetchall())
    return row


def _fold(target: Target, stretch: tuple[int, int]) -> None:
    """Add what lies after one position and up to another to the cells.

    What comes to nothing is added too: whether it is folded at once or in parts, the same rows must be there.
    """
    db, sources = target.db, _sources(target)
    keys = (f"started_at_us / {QUARTER_US} * {QUARTER_US}", *_SUMMED[1:-1])
    columns = ", ".join(f"{column} {'TEXT' if column == 'reason' else 'INTEGER'}" for column in _SUMMED)
    db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {_STRETCH} ({columns})")
    db.execute(f"DELETE FROM temp.{_STRETCH}")
    db.execute(
        f"INSERT INTO temp.{_STRETCH} SELECT {', '.join(keys)}, sum(calls) FROM "
        f"({' UNION ALL '.join(f'SELECT * FROM {source}' for source in sources)}) "
        f"GROUP BY {', '.join(map(str, range(1, len(keys) + 1)))}",
        stretch * len(sources),
    )
    if db.changes():
        for rollup in ROLLUPS:
            db.execute(_upsert(target.table(CELLS), rollup))
    db.execute(f"DELETE FROM {target.table(DELTAS)} WHERE position <= ?", (stretch[1],))


def _upsert(table: str, rollup: Rollup) -> str:
    """Add the cells of a stretch to those of a roll-up."""
    bucket = f"started_at_us / {rollup.bucket_us} * {rollup.bucket_us}"
    keys = ", ".join(dimension if dimension in rollup.dimensions else "0" for dimension in DIMENSIONS)
    grouped = ", ".join(dimension for dimension in DIMENSIONS if dimension in rollup.dimensions)
    return (
        f"INSERT INTO {table} ({', '.join(_KEY)}, calls) "
        f"SELECT {rollup.code}, {bucket}, {keys}, correction, sum(calls) FROM temp.{_STRETCH} WHERE true "
        f"GROUP BY 2, {grouped}, correction ON CONFLICT DO UPDATE SET calls = calls + excluded.calls"
    )


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f"{name} {'TEXT' if name == 'reason' else 'INTEGER'} NOT NULL" for name in names)


_KEY = ("rollup", "bucket", *DIMENSIONS, "correction")
PROJECTION = Projection(
    name="model_call_failures",
    version=1,
    tables=(
        Table(
            CELLS,
            f"{_columns((*_KEY, 'calls'))}, PRIMARY KEY ({', '.join(_KEY)})",
            key=", ".join(_KEY),
            options="STRICT, WITHOUT ROWID",
        ),
        Table(
            DELTAS,
            f"{_columns(_DELTA_COLUMNS)}, PRIMARY KEY (position, sign)",
            key="position, sign",
            options="STRICT, WITHOUT ROWID",
        ),
    ),
    apply=_apply,
    needs=("names", "model_calls"),
)
