"""One row a call: what lists filter by and what range edges add up. The rest is read from the call's latest entry."""

from collections.abc import Sequence

from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.model_call import (
    ModelCall,
    ModelCallEvent,
    ModelCallRecorded,
    ModelCallStarted,
    Usage,
)
from schema.money import SECONDS_DECIMALS, parse_scaled
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
    times_out_at_us    INTEGER               -- while it is processing
"""
NO_USAGE = (0, 0, 0, 0, 0, 0, 0)
_FIRST = (ModelCallRecorded, ModelCallStarted)
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


def started_at_us(event: Recorded, data: ModelCallEvent) -> int:
    """The call's start; for a recorded call the event's own time is just that."""
    return event.time_us if isinstance(data, ModelCallRecorded) else parse_time(data.started_at)


def _row(event: Recorded, data: ModelCallEvent, names: tuple[int, ...]) -> Row:
    finished = data if isinstance(data, ModelCall) else None
    error = finished.error if finished else None
    return (
        event.position if isinstance(data, _FIRST) else data.started,
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
    )


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    # Of several events of one call the last one stands.
    rows = {row[0]: row for row in (_row(*call) for call in target.names.calls(target.db, events))}
    insert(target.db, f"REPLACE INTO {target.table('model_calls')}", list(rows.values()))


def _named_view(table: str, columns: Sequence[str]) -> str:
    shown = [f"n_{c}.name AS {c}" if c in _NAMED else f"t.{c}" for c in columns]
    joins = [f"JOIN names n_{c} ON n_{c}.id = t.{c}" for c in columns if c in _NAMED]
    return f"SELECT {', '.join(shown)} FROM {table} t {' '.join(joins)}"


def column_names(columns: str) -> tuple[str, ...]:
    """The names in a table's DDL, one column a line."""
    return tuple(line.split()[0] for line in columns.strip().splitlines())


PROJECTION = Projection(
    name="model_calls",
    version=1,
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
    ),
    apply=_apply,
    views=(("model_calls_named", _named_view("model_calls", column_names(_COLUMNS))),),
    needs=("names",),
    blocking=True,
)
named_view = _named_view
