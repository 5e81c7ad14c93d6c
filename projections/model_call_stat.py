"""Roll-ups of finished calls: what a statistic costs is its buckets, never its calls.

A roll-up is a bucket size and a set of dimensions; dimensions it does not keep are 0. A query reads the narrowest
roll-up that has what it asks for, so a global view never touches per-user rows. `part` splits a cell every 2^22
positions: with at most 10^12 a call, no cell can then pass 2^63, whatever clients post.
"""

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from projections.bulk import insert
from projections.model_call import NO_USAGE, name_ids, named_view, quantities, started_at_us
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.model_call import FINISHED, ModelCall, ModelCallFinished, ModelCallRecorded, ModelCallTimedOut
from schema.times import DAY_US, HOUR_US, parse_time

PART_BITS = 22
DIMENSIONS = ("user_id", "app", "provider", "model", "credential_id", "type", "status")
MEASURES = (
    "calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "images",
    "seconds_e6", "duration_ms_sum", "ttfb_ms_sum", "ttfb_calls",
)  # fmt: skip


class Rollup(Struct, frozen=True):
    """Buckets of `bucket_us`, kept apart by these dimensions; type and status are always among them."""

    code: int
    bucket_us: int
    dimensions: frozenset[str]


def _rollup(code: int, bucket_us: int, *dimensions: str) -> Rollup:
    return Rollup(code, bucket_us, frozenset({*dimensions, "type", "status"}))


# Narrowest first: a query takes the first that has its dimensions.
ROLLUPS = (
    _rollup(0, HOUR_US),
    _rollup(1, DAY_US),
    _rollup(2, HOUR_US, "app"),
    _rollup(3, DAY_US, "app"),
    _rollup(4, HOUR_US, "provider", "model"),
    _rollup(5, DAY_US, "provider", "model"),
    _rollup(6, HOUR_US, "app", "provider", "model", "credential_id"),
    _rollup(7, HOUR_US, "user_id", "app", "provider", "model", "credential_id"),
)

_KEY = f"rollup, bucket, {', '.join(DIMENSIONS)}, part"
_COLUMNS = "\n".join(
    [
        "rollup INTEGER NOT NULL,",
        "bucket INTEGER NOT NULL,",
        *(f"{dimension} INTEGER NOT NULL," for dimension in DIMENSIONS),
        "part INTEGER NOT NULL,",
        *(f"{measure} INTEGER NOT NULL DEFAULT 0," for measure in MEASURES),
        f"PRIMARY KEY ({_KEY})",
    ]
)
_STAGE = "call_deltas"
_STAGED = ("started_at_us", "part", *DIMENSIONS, *MEASURES)


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    ids = target.names.of_batch(target.db, events)
    deltas = [delta for event in events for delta in _deltas(event, ids)]
    if not deltas:
        return
    columns = list(zip(*deltas, strict=True))
    used = tuple(m for m, column in zip(MEASURES, columns[-len(MEASURES) :], strict=True) if any(column))
    db = target.db
    db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {_STAGE} ({', '.join(f'{c} INTEGER' for c in _STAGED)})")
    db.execute(f"DELETE FROM temp.{_STAGE}")
    insert(db, f"INSERT INTO temp.{_STAGE}", deltas)
    for statement in _statements(target.table("model_call_stats"), used):
        db.execute(statement)


def _deltas(event: Recorded, ids: dict[str, int]) -> list[tuple[int, ...]]:
    data = event.data
    if isinstance(data, FINISHED):
        found = [_finished(event, data, ids)]
        if not isinstance(data, ModelCallRecorded) and data.replaces is not None:
            found.append(_timed_out(event, data.replaces.call, ids, -1))
        return found
    if isinstance(data, ModelCallTimedOut):
        return [_timed_out(event, data, ids, 1)]
    return []


def _finished(event: Recorded, data: ModelCallFinished, ids: dict[str, int]) -> tuple[int, ...]:
    return (
        started_at_us(event, data),
        event.position >> PART_BITS,
        *_dimensions(data, ids),
        1,
        *quantities(data.usage),
        data.duration_ms or 0,
        data.ttfb_ms or 0,
        0 if data.ttfb_ms is None else 1,
    )


def _timed_out(event: Recorded, data: ModelCallTimedOut, ids: dict[str, int], sign: int) -> tuple[int, ...]:
    started = parse_time(data.started_at)
    return (started, event.position >> PART_BITS, *_dimensions(data, ids), sign, *NO_USAGE, 0, 0, 0)


def _dimensions(data: ModelCall | ModelCallTimedOut, ids: dict[str, int]) -> tuple[int, ...]:
    app, user, *rest = name_ids(ids, data)
    return (user, app, *rest)


@lru_cache(maxsize=256)
def _statements(table: str, used: tuple[str, ...]) -> tuple[str, ...]:
    """One upsert a roll-up, over the measures that the batch has: most calls leave most of them 0."""
    return tuple(_statement(table, rollup, used) for rollup in ROLLUPS)


def _statement(table: str, rollup: Rollup, used: tuple[str, ...]) -> str:
    # Integer division cuts towards zero, which is the floor because no start is before 1970.
    bucket = f"started_at_us / {rollup.bucket_us} * {rollup.bucket_us}"
    kept = [dimension for dimension in DIMENSIONS if dimension in rollup.dimensions]
    keys = [dimension if dimension in kept else "0" for dimension in DIMENSIONS]
    return (
        f"INSERT INTO {table} ({_KEY}, {', '.join(used)}) "
        f"SELECT {rollup.code}, {bucket} AS bucket, {', '.join(keys)}, part, {', '.join(f'sum({m})' for m in used)} "
        f"FROM temp.{_STAGE} WHERE true GROUP BY {', '.join(['2', *kept, 'part'])} "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{m} = {m} + excluded.{m}' for m in used)}"
    )


PROJECTION = Projection(
    name="model_call_stats",
    version=1,
    tables=(Table("model_call_stats", _COLUMNS, key=_KEY, options="STRICT, WITHOUT ROWID"),),
    apply=_apply,
    views=(
        (
            "model_call_stats_named",
            named_view("model_call_stats", ("rollup", "bucket", *DIMENSIONS, "part", *MEASURES)),
        ),
    ),
    needs=("names",),
)
