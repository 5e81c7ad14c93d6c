"""One row a call: what lists filter by and what range edges add up. The rest is read from the call's latest entry."""

from collections.abc import Sequence
from typing import cast

from projections.bulk import Row, Value, insert, insert_flat, row_of
from projections.name import CallEvent, NamedCall
from projections.projection import Projection, Table, Target
from schema.correction import ModelCallCorrected, ModelCallRerated, ModelCallVoided
from schema.entry import Recorded
from schema.model_call import (
    ModelCall,
    ModelCallCompleted,
    ModelCallEvent,
    ModelCallFailed,
    ModelCallRecorded,
    ModelCallStarted,
    ModelCallTimedOut,
    Rating,
    Usage,
)
from schema.model_call_view import UNRATED, rating_of
from schema.money import SECONDS_DECIMALS, amount_e10, parse_scaled
from schema.times import parse_time

_COLUMNS = """
    position           INTEGER PRIMARY KEY,  -- of the call's first event
    event_position     INTEGER NOT NULL,     -- of its latest event
    id                 TEXT NOT NULL,
    user_id            INTEGER NOT NULL,
    app                INTEGER NOT NULL,
    provider           INTEGER NOT NULL,
    model              INTEGER NOT NULL,
    credential_id      INTEGER NOT NULL,
    type               INTEGER NOT NULL,
    status             INTEGER NOT NULL,
    request_id         TEXT,
    trace_id           TEXT,
    started_at_us      INTEGER NOT NULL,
    duration_ms        INTEGER,
    ttfb_ms            INTEGER,
    input_tokens       INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    cache_read_tokens  INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    images             INTEGER NOT NULL,
    seconds_e6         INTEGER NOT NULL,
    error_code         TEXT,
    error_message      TEXT,
    times_out_at_us    INTEGER,              -- while it is processing
    cost_e10           INTEGER,              -- credits; null while it has no price
    input_cost_e10     INTEGER,
    vendor_cost_e10    INTEGER,
    cost_status        TEXT NOT NULL,
    cost_reason        TEXT,
    rate               INTEGER,              -- position of the rate it was priced by
    rated              INTEGER NOT NULL,     -- position of the event that priced or voided it
    revision           INTEGER NOT NULL,     -- how often it was corrected, voided or re-rated; -1 before it ended
    voided             INTEGER NOT NULL
"""
_VERSION_COLUMNS = _COLUMNS.replace(
    "position           INTEGER PRIMARY KEY,", "position           INTEGER NOT NULL,", 1
)
NO_USAGE = (0, 0, 0, 0, 0, 0, 0)
_NO_COSTS = (None, None, None)
_FIRST = (ModelCallRecorded, ModelCallStarted)
_LATER = (ModelCallCompleted, ModelCallFailed, ModelCallTimedOut)
UNENDED = -1  # the revision of what was known of a call before the event that ended it for good
CHANGED = (ModelCallCorrected, ModelCallVoided, ModelCallRerated)
_NAMED = ("app", "user_id", "provider", "model", "credential_id", "type", "status")


def quantities(usage: Usage | None) -> tuple[int, ...]:
    """input, output, cache read, cache write, reasoning, images, microseconds of media."""
    if usage is None:
        return NO_USAGE
    seconds = usage.seconds
    return (
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        usage.cache_read_tokens or 0,
        usage.cache_write_tokens or 0,
        usage.reasoning_tokens or 0,
        usage.images or 0,
        0 if seconds == "0" or seconds is None else parse_scaled(seconds, SECONDS_DECIMALS),
    )


def started_at_us(event: Recorded, data: ModelCallEvent | ModelCallCorrected) -> int:
    """The call's start; for a recorded call the event's own time is just that."""
    return event.time_us if isinstance(data, ModelCallRecorded) else parse_time(data.started_at)


def costs(rating: Rating | None) -> tuple[int | None, int | None, int | None]:
    """Cost, input cost and vendor cost in 1e-10 credits."""
    if rating is None or rating.status == "unpriced":
        return _NO_COSTS
    cost, input_cost, vendor_cost = rating.cost, rating.input_cost, rating.vendor_cost
    return (
        None if cost is None else amount_e10(cost),
        None if input_cost is None else amount_e10(input_cost),
        None if vendor_cost is None else amount_e10(vendor_cost),
    )


def _recorded_row(event: Recorded, data: ModelCallRecorded, names: tuple[int, ...]) -> Row:
    """The row of a call that came whole, as nearly all do."""
    error = data.error
    rating = data.rating or UNRATED
    return (
        event.position, event.position, data.id, *names, data.request_id, data.trace_id, event.time_us,
        data.duration_ms, data.ttfb_ms, *quantities(data.usage), error and error.code, error and error.message, None,
        *costs(rating), rating.status, rating.reason, rating.rate, event.position, 0, 0,
    )  # fmt: skip


def _row(event: Recorded, data: ModelCallEvent | ModelCallCorrected, names: tuple[int, ...]) -> list[Value]:
    finished = data if isinstance(data, ModelCall) else None
    error = finished.error if finished else None
    rating = rating_of(data)
    return [
        first_position(event, data),
        event.position,
        data.id or "",
        *names,
        data.request_id,
        data.trace_id,
        started_at_us(event, data),
        finished.duration_ms if finished else None,
        finished.ttfb_ms if finished else None,
        *quantities(finished.usage if finished else None),
        error.code if error else None,
        error.message if error else None,
        parse_time(data.times_out_at) if isinstance(data, ModelCallStarted) else None,
        *costs(rating),
        rating.status,
        rating.reason,
        rating.rate,
        event.position,
        0,
        0,
    ]


def first_position(event: Recorded, data: CallEvent) -> int:
    """The position that a call is known by: its first event's."""
    if isinstance(data, _FIRST):
        return event.position
    return data.started if isinstance(data, _LATER) else data.recorded


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    """Of several events of one call the last one stands; what an end or a change replaces is kept as a version."""
    calls = target.names.calls(target.db, events)
    values: list[Value] = []
    for event, data, names in calls:
        if type(data) is not ModelCallRecorded:
            _apply_each(target, calls, events[0].position)
            return
        values += _recorded_row(event, data, names)
    insert_flat(target.db, f"INSERT INTO {target.table('model_calls')}", row_of(len(_NAMES)), values)


def _apply_each(target: Target, calls: Sequence[NamedCall], first: int) -> None:
    """The same where not all came whole, from position `first` on."""
    rows: dict[int, list[Value]] = {}
    versions: list[Row] = []
    for event, data, names in calls:
        if isinstance(data, ModelCallRecorded):
            rows[event.position] = [*_recorded_row(event, data, names)]
            continue
        position = first_position(event, data)
        if isinstance(data, ModelCallStarted):
            rows[position] = _row(event, data, names)
            continue
        row = rows.get(position) or _stored(target, position)
        if isinstance(data, CHANGED):
            versions.append((*row, event.position))
            rows[position] = _changed(row, event, data, names)
        else:
            versions.append((*row[:_REVISION], UNENDED, *row[_REVISION + 1 :], event.position))
            rows[position] = _row(event, data, names)
    table = target.table("model_calls")
    insert(target.db, f"INSERT INTO {table}", [row for position, row in rows.items() if position >= first])
    insert(target.db, f"REPLACE INTO {table}", [row for position, row in rows.items() if position < first])
    insert(target.db, f"INSERT INTO {target.table('model_call_versions')}", versions)


def _stored(target: Target, position: int) -> list[Value]:
    query = f"SELECT * FROM {target.table('model_calls')} WHERE position = ?"
    (row,) = cast("list[Row]", target.db.execute(query, (position,)).fetchall())
    return list(row)


def _changed(row: list[Value], event: Recorded, data: CallEvent, names: tuple[int, ...]) -> list[Value]:
    """The row after a correction, a void or a re-rate."""
    revision = cast("int", row[_REVISION]) + 1
    if isinstance(data, ModelCallCorrected):
        found = _row(event, data, names)
    else:
        found = list(row)
        if isinstance(data, ModelCallRerated):
            rating = data.rating
            found[_COST : _RATED + 1] = [*costs(rating), rating.status, rating.reason, rating.rate, event.position]
        else:
            found[_RATED], found[_VOIDED] = event.position, 1
    found[_REVISION] = revision
    return found


def _named_view(table: str, columns: Sequence[str]) -> str:
    shown = [f"n_{c}.name AS {c}" if c in _NAMED else f"t.{c}" for c in columns]
    joins = [f"JOIN names n_{c} ON n_{c}.id = t.{c}" for c in columns if c in _NAMED]
    return f"SELECT {', '.join(shown)} FROM {table} t {' '.join(joins)}"


def column_names(columns: str) -> tuple[str, ...]:
    """The names in a table's DDL, one column a line."""
    return tuple(line.split()[0] for line in columns.strip().splitlines())


_NAMES = column_names(_COLUMNS)
_COST, _RATED, _REVISION, _VOIDED = (_NAMES.index(name) for name in ("cost_e10", "rated", "revision", "voided"))

PROJECTION = Projection(
    name="model_calls",
    version=3,
    tables=(
        Table(
            "model_calls",
            _COLUMNS,
            key="position",
            indexes=(
                ("model_calls_started_at", "(started_at_us)"),
                ("model_calls_times_out_at", "(times_out_at_us) WHERE times_out_at_us IS NOT NULL"),
            ),
        ),
        Table(
            "model_call_versions",  # what was true of a call until the event at `until`
            f"{_VERSION_COLUMNS.rstrip()},\n    until INTEGER NOT NULL,\n    PRIMARY KEY (position, until)",
            key="position, until",
            options="STRICT, WITHOUT ROWID",
            indexes=(("model_call_versions_started_at", "(started_at_us, position)"),),
        ),
    ),
    apply=_apply,
    views=(("model_calls_named", _named_view("model_calls", _NAMES)),),
    needs=("names",),
    blocking=True,
)
named_view = _named_view
