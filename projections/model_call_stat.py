"""Roll-ups of finished calls: what a statistic costs is its buckets, never its calls.

A roll-up is a bucket size and a set of dimensions; dimensions it does not keep are 0. A query reads the narrowest
roll-up that has what it asks for, so a global view never touches per-user rows. `part` splits a cell every 2^22
positions: with at most 10^12 a call, no cell can then pass 2^63, whatever clients post.

Cells are many and scattered, and touching them for each group would dirty a page a call. So every TAIL_EVENTS
positions the whole stretch is folded at once. A read adds the tail, at most TAIL_EVENTS rows, and so is as fresh as
any. Where folds happen depends on positions alone, never on how events were grouped: to change TAIL_EVENTS is to
change the version.

What a call that came whole adds is in its row of `model_calls` (or, once it was changed, in that row's first version).
Every other event's deltas are laid down in a table of their own until they are folded.

Money is kept as whole credits and the rest in 1e-10, because a cell of dear calls would pass 2^63 in one number. What
corrections, voids and re-rates change has cells of its own (`correction` 1): without them a sum is as billed, with them
as corrected.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import apsw
from msgspec import Struct

from projections.bulk import insert
from projections.model_call import NO_USAGE, costs, named_view, quantities
from projections.name import NamedCall, NameTable, counted_names, names_of
from projections.projection import Projection, Table, Target
from schema.correction import Counted, ModelCallChange, ModelCallCorrected, ModelCallRerated
from schema.entry import Recorded
from schema.model_call import (
    FINISHED,
    ModelCallFinished,
    ModelCallRecorded,
    ModelCallStarted,
    ModelCallTimedOut,
    Rating,
)
from schema.model_call_query import Dimension
from schema.money import CREDIT_E10
from schema.times import DAY_US, QUARTER_US, parse_time

PART_BITS = 22
TAIL_EVENTS = 4_096
DIMENSIONS: tuple[Dimension, ...] = ("user_id", "app", "provider", "model", "credential_id", "type", "status")
MEASURES = (
    "calls", "succeeded", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "images", "seconds_e6", "duration_ms_sum", "ttfb_ms_sum", "ttfb_calls", "cost_credits",
    "cost_rest_e10", "vendor_cost_credits", "vendor_cost_rest_e10", "unpriced_calls",
)  # fmt: skip


class Rollup(Struct, frozen=True):
    """Buckets of `bucket_us`, kept apart by these dimensions."""

    code: int
    bucket_us: int
    dimensions: frozenset[str]


def _rollup(code: int, bucket_us: int, *dimensions: str) -> Rollup:
    return Rollup(code, bucket_us, frozenset(dimensions))


_KINDS = ("type", "status")
_CELL = ("app", "provider", "model", "credential_id", *_KINDS)
# Narrowest first: a query takes the first that has its dimensions.
ROLLUPS = (
    _rollup(0, QUARTER_US, *_KINDS),
    _rollup(1, DAY_US, *_KINDS),
    _rollup(2, QUARTER_US, "app", *_KINDS),
    _rollup(3, DAY_US, "app", *_KINDS),
    _rollup(4, QUARTER_US, "provider", "model", *_KINDS),
    _rollup(5, DAY_US, "provider", "model", *_KINDS),
    _rollup(10, QUARTER_US, "credential_id", *_KINDS),
    _rollup(11, DAY_US, "credential_id", *_KINDS),
    _rollup(6, QUARTER_US, *_CELL),
    _rollup(7, DAY_US, *_CELL),
    _rollup(9, DAY_US, "user_id", "app"),
    _rollup(8, QUARTER_US, "user_id", *_CELL),
)
BY_CELL, BY_USER = ROLLUPS[-4:-2], ROLLUPS[-2:]
_BY_CODE = {rollup.code: rollup for rollup in ROLLUPS}
# Roll-ups with few rows: the calls are added up once as the first one keeps them, and all of them are made of that.
# Those of BY_CELL are made of cells with all dimensions but users; those of BY_USER of the calls themselves.
_MADE_OF = {
    code: tuple(_BY_CODE[each] for each in made) for code, made in {2: (2, 3, 0, 1), 4: (4, 5), 10: (10, 11)}.items()
}
assert {*BY_CELL, *BY_USER}.union(*_MADE_OF.values()) == {*ROLLUPS}, "a roll-up would stay empty"
_WITHOUT_USERS = frozenset(_CELL)


def narrowest(rollups: Sequence[Rollup], bucket_us: int, wanted: frozenset[str]) -> Rollup | None:
    """Of these, narrowest first, the one of this bucket size that has these dimensions and the fewest others."""
    return next((r for r in rollups if r.bucket_us == bucket_us and wanted <= r.dimensions), None)


_KEY = f"rollup, bucket, {', '.join(DIMENSIONS)}, part, correction"
_COLUMNS = "\n".join(
    [
        "rollup INTEGER NOT NULL,",
        "bucket INTEGER NOT NULL,",
        *(f"{dimension} INTEGER NOT NULL," for dimension in DIMENSIONS),
        "part INTEGER NOT NULL,",
        "correction INTEGER NOT NULL,",
        *(f"{measure} INTEGER NOT NULL DEFAULT 0," for measure in MEASURES),
        f"PRIMARY KEY ({_KEY})",
    ]
)
DELTAS = "model_call_stat_deltas"
_CELLS, _GROUPS = "call_cells", "call_groups"
_SUMMED = ("started_at_us", "part", "correction", *DIMENSIONS, *MEASURES)
_DELTA_COLUMNS = ("position", "sign", *_SUMMED)
_NOTHING = (0, 0, *NO_USAGE, 0, 0, 0)  # all measures but money
_TIMED_OUT = (1, 0, *NO_USAGE, 0, 0, 0, 0, 0, 0, 0, 1)  # one call without a price
# The measures as a row of `model_calls` has them, where they are no column of their own.
FROM_CALLS = {
    "calls": "1",
    "succeeded": "(status IS (SELECT id FROM names WHERE name = 'success'))",  # interned by the first that does
    "duration_ms_sum": "coalesce(duration_ms, 0)",
    "ttfb_ms_sum": "coalesce(ttfb_ms, 0)",
    "ttfb_calls": "(ttfb_ms IS NOT NULL)",
    "cost_credits": f"(coalesce(cost_e10, 0) / {CREDIT_E10})",
    "cost_rest_e10": f"(coalesce(cost_e10, 0) % {CREDIT_E10})",
    "vendor_cost_credits": f"(coalesce(vendor_cost_e10, 0) / {CREDIT_E10})",
    "vendor_cost_rest_e10": f"(coalesce(vendor_cost_e10, 0) % {CREDIT_E10})",
    "unpriced_calls": "(cost_e10 IS NULL)",
}
# Rows of calls that came whole, as they came: a started call's latest event is never its first once it has ended.
AS_RECORDED = "event_position = position AND times_out_at_us IS NULL AND revision = 0"


def _calls(table: str) -> str:
    """The rows of calls at positions after one and up to another that came whole, in the columns of deltas."""
    taken = {"part": f"position >> {PART_BITS}", "correction": "0", **FROM_CALLS}
    columns = ", ".join(f"{taken[c]} AS {c}" if c in taken else c for c in _SUMMED)
    return f"(SELECT {columns} FROM {table} WHERE position > ? AND position <= ? AND {AS_RECORDED})"


def _laid_down(table: str) -> str:
    return f"(SELECT {', '.join(_SUMMED)} FROM {table} WHERE position > ? AND position <= ?)"


def _sources(target: Target) -> tuple[str, str, str]:
    """All that the events after one position and up to another add, in the columns of deltas."""
    return (
        _calls(target.peer("model_calls")),
        _calls(target.peer("model_call_versions")),
        _laid_down(target.table(DELTAS)),
    )


def tail(db: apsw.Connection) -> tuple[tuple[str, str, str], tuple[int, int]]:
    """The sources of what is not yet folded into the cells, and the positions to bind them with."""
    position = db.execute("SELECT position FROM projections WHERE name = 'model_call_stats'").get or 0
    return _sources(Target(db, NameTable())), (folded(position), position)


def folded(position: int) -> int:
    """Up to where a projection at this position has folded."""
    return position // TAIL_EVENTS * TAIL_EVENTS


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    if any(type(event.data) is not ModelCallRecorded for event in events):
        rows = _deltas(target, target.names.calls(target.db, events))
        insert(target.db, f"INSERT INTO {target.table(DELTAS)}", rows)
    first, boundary = events[0].position, folded(events[-1].position)
    if boundary >= first:
        _fold_tail(target, (folded(first - 1), boundary))


def _fold_tail(target: Target, stretch: tuple[int, int]) -> None:
    """Fold what lies after one position and up to another into the cells.

    Users are summed out once; what remains are few cells, from which every roll-up without users is made: those that
    have few rows by way of one of them.
    """
    db = target.db
    for table in (_CELLS, _GROUPS):
        db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} ({', '.join(f'{c} INTEGER' for c in _SUMMED)})")
    db.execute(f"DELETE FROM temp.{_CELLS}")
    for source in _sources(target):
        db.execute(_summed(_CELLS, source, _WITHOUT_USERS), stretch)
    used = _used(db)
    for code, rollups in _MADE_OF.items():
        db.execute(f"DELETE FROM temp.{_GROUPS}")
        db.execute(_summed(_GROUPS, f"temp.{_CELLS}", _BY_CODE[code].dimensions))
        for rollup in rollups:
            db.execute(_upsert(target.suffix, rollup, f"temp.{_GROUPS}", used))
    for rollup in BY_CELL:
        db.execute(_upsert(target.suffix, rollup, f"temp.{_CELLS}", used))
    *calls, deltas = _sources(target)
    # What a correction moves from one user to another comes to nothing in the cells: so all measures of deltas.
    for source, measures in (*((source, used) for source in calls), (deltas, MEASURES)):
        for rollup in BY_USER:
            db.execute(_upsert(target.suffix, rollup, source, measures), stretch)
    db.execute(f"DELETE FROM {target.table(DELTAS)} WHERE position <= ?", (stretch[1],))


def _used(db: apsw.Connection) -> tuple[str, ...]:
    """The measures that the cells have: adding zeros changes nothing, and most calls leave most measures 0."""
    row: Any = db.execute(f"SELECT {', '.join(f'max({m} IS NOT 0)' for m in MEASURES)} FROM temp.{_CELLS}").fetchone()
    return tuple(m for m, has in zip(MEASURES, row, strict=True) if has) or ("calls",)


@lru_cache(maxsize=64)
def _summed(table: str, source: str, dimensions: frozenset[str]) -> str:
    """Rows of a source added up by quarter of an hour and these dimensions, into a temporary table."""
    shown = [dimension if dimension in dimensions else "0" for dimension in DIMENSIONS]
    quarter = f"started_at_us / {QUARTER_US} * {QUARTER_US}"
    return (
        f"INSERT INTO temp.{table} ({', '.join(_SUMMED)}) "
        f"SELECT {quarter}, part, correction, {', '.join([*shown, *(f'sum({m})' for m in MEASURES)])} "
        f"FROM {source} GROUP BY {', '.join([*(d for d in DIMENSIONS if d in dimensions), '1', '2', '3'])}"
    )


@lru_cache(maxsize=1024)
def _upsert(suffix: str, rollup: Rollup, source: str, used: tuple[str, ...]) -> str:
    """Add rows to the cells of a roll-up, over the measures that they have.

    Those that share a cell are added up first where they are many: else sorting would cost more than it saves.
    """
    # Integer division cuts towards zero, which is the floor because no start is before 1970.
    bucket = f"started_at_us / {rollup.bucket_us} * {rollup.bucket_us}"
    kept = [dimension for dimension in DIMENSIONS if dimension in rollup.dimensions]
    keys = ", ".join(dimension if dimension in kept else "0" for dimension in DIMENSIONS)
    many = rollup.dimensions < _WITHOUT_USERS
    sums = ", ".join(f"sum({measure})" if many else measure for measure in used)
    grouped = f"GROUP BY {', '.join([*kept, '2', 'part', 'correction'])}" if many else ""
    return (
        f"INSERT INTO model_call_stats{suffix} ({_KEY}, {', '.join(used)}) "
        f"SELECT {rollup.code}, {bucket}, {keys}, part, correction, {sums} FROM {source} WHERE true {grouped} "
        f"ON CONFLICT DO UPDATE SET {', '.join(f'{m} = {m} + excluded.{m}' for m in used)}"
    )


def _deltas(target: Target, calls: Sequence[NamedCall]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for event, data, names in calls:
        part = event.position >> PART_BITS
        if isinstance(data, ModelCallRecorded | ModelCallStarted):
            continue
        if isinstance(data, FINISHED):
            found.append((event.position, 1, parse_time(data.started_at), part, 0, *names, *_measures(data)))
            if data.replaces is not None:
                found.append(_taken_back(target, event.position, data.replaces.call))
        elif isinstance(data, ModelCallTimedOut):
            found.append((event.position, 1, parse_time(data.started_at), part, 0, *names, *_TIMED_OUT))
        else:
            found.extend(_changes(target, event.position, data, names))
    return found


def _measures(data: ModelCallFinished | ModelCallCorrected | Counted) -> tuple[int, ...]:
    ttfb = data.ttfb_ms
    return (
        1, int(data.status == "success"), *quantities(data.usage), data.duration_ms or 0, ttfb or 0,
        0 if ttfb is None else 1, *_money(data.rating),
    )  # fmt: skip


def _money(rating: Rating | None) -> tuple[int, ...]:
    """Credits and rest of cost and of vendor cost, and whether the call has no price."""
    cost_e10, _, vendor_e10 = costs(rating)
    return (*divmod(cost_e10 or 0, CREDIT_E10), *divmod(vendor_e10 or 0, CREDIT_E10), int(cost_e10 is None))


def _taken_back(target: Target, position: int, timed_out: ModelCallTimedOut) -> tuple[int, ...]:
    """The time-out that a late end replaces, counted off."""
    names = names_of(timed_out)
    ids = target.names.load(target.db, names)
    started = parse_time(timed_out.started_at)
    return (position, -1, started, position >> PART_BITS, 0, *(ids[name] for name in names), *_minus(_TIMED_OUT))


def _minus(measures: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-measure for measure in measures)


def _changes(
    target: Target, position: int, data: ModelCallCorrected | ModelCallChange, names: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """What a correction, a void or a re-rate adds and takes away."""
    before = data.replaces
    head = (parse_time(before.started_at), position >> PART_BITS, 1)
    if isinstance(data, ModelCallRerated):
        moved = (new - old for new, old in zip(_money(data.rating), _money(before.rating), strict=True))
        return [(position, 1, *head, *names, *_NOTHING, *moved)]
    counted = counted_names(data.app or "", before)
    ids = target.names.load(target.db, counted)
    found = [(position, -1, *head, *(ids[name] for name in counted), *_minus(_measures(before)))]
    if isinstance(data, ModelCallCorrected):
        found.append((position, 1, parse_time(data.started_at), *head[1:], *names, *_measures(data)))
    return found


PROJECTION = Projection(
    name="model_call_stats",
    version=5,
    tables=(
        Table("model_call_stats", _COLUMNS, key=_KEY, options="STRICT, WITHOUT ROWID"),
        Table(
            DELTAS,
            ", ".join([*(f"{column} INTEGER NOT NULL" for column in _DELTA_COLUMNS), "PRIMARY KEY (position, sign)"]),
            key="position, sign",
            options="STRICT, WITHOUT ROWID",
        ),
    ),
    apply=_apply,
    views=(
        (
            "model_call_stats_named",
            named_view("model_call_stats", ("rollup", "bucket", *DIMENSIONS, "part", "correction", *MEASURES)),
        ),
    ),
    needs=("names", "model_calls"),
)
