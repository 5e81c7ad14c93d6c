"""Histograms of durations and times to first byte by quarter of an hour and day, of which percentiles are read.

Like statistics they are folded a stretch at a time, and a read adds what is not folded yet: so a group of calls pays
nothing, and a stretch touches its few cells once. Where folds happen depends on positions alone. What a call that came
whole took is in its row of `model_calls` (or in that row's first version); every other event's values are laid down
until they are folded.

A cell has three parts: what was billed, what corrections added and what they took away. None is ever negative, and a
histogram as corrected is the first two without the third.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import cast

import apsw

from projections import model_call_stat
from projections.bulk import insert
from projections.histogram import Histogram, bin_sql, of_counts, pack, unpack
from projections.model_call_stat import AS_RECORDED
from projections.name import NameTable
from projections.projection import Projection, Table, Target
from schema.correction import Counted, ModelCallCorrected, ModelCallVoided
from schema.entry import Recorded
from schema.model_call import FINISHED, ModelCallFinished, ModelCallRecorded
from schema.times import DAY_US, QUARTER_US, parse_time

MEASURES = ("duration_ms", "ttfb_ms")
BILLED, ADDED, TAKEN = PARTS = (0, 1, 2)
DELTAS = "model_call_latency_deltas"

Cell = tuple[int, int, int]  # size of the bucket, its start, part
Pair = tuple[Histogram, Histogram]  # of each measure

_BIN_BITS = 12  # a bin is less than 2^12
_BIN = (1 << _BIN_BITS) - 1
_DELTA_COLUMNS = ("position", "part", "started_at_us", *MEASURES)


def sources(target: Target) -> tuple[tuple[str, int], ...]:
    """All that the events after position ?1 and up to ?2 add, each with its part: start and measures."""
    within = "position > ?1 AND position <= ?2"
    shown = ", ".join(("started_at_us", *MEASURES))
    whole = (target.peer("model_calls"), target.peer("model_call_versions"))
    deltas = target.table(DELTAS)
    return (
        *((f"(SELECT {shown} FROM {table} WHERE {within} AND {AS_RECORDED})", BILLED) for table in whole),
        *((f"(SELECT {shown} FROM {deltas} WHERE {within} AND part = {part})", part) for part in PARTS),
    )


def tail(db: apsw.Connection) -> tuple[tuple[tuple[str, int], ...], tuple[int, int]]:
    """The sources of what is not folded yet, and the positions to bind them with."""
    position = db.execute("SELECT position FROM projections WHERE name = ?", (PROJECTION.name,)).get or 0
    return sources(Target(db, NameTable())), (_folded(position), position)


def _folded(position: int) -> int:
    """Up to where a projection at this position has folded: as the statistics, so that the rows are still at hand."""
    return position // model_call_stat.TAIL_EVENTS * model_call_stat.TAIL_EVENTS


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    if any(type(event.data) is not ModelCallRecorded for event in events):
        insert(target.db, f"INSERT INTO {target.table(DELTAS)}", list(_deltas(events)))
    first, last = events[0].position, events[-1].position
    if _folded(last) >= first:
        _fold(target, (_folded(first - 1), _folded(last)))


def _deltas(events: Sequence[Recorded]) -> Iterator[tuple[int | None, ...]]:
    """What events of calls that did not come whole add and take away; how long a call timed out took nobody knows."""
    for event in events:
        data = event.data
        if isinstance(data, ModelCallRecorded):
            continue  # its row tells
        if isinstance(data, FINISHED):
            yield _delta(event.position, BILLED, data)
        elif isinstance(data, ModelCallCorrected | ModelCallVoided):
            yield _delta(event.position, TAKEN, data.replaces)
            if isinstance(data, ModelCallCorrected):
                yield _delta(event.position, ADDED, data)


def _delta(position: int, part: int, data: ModelCallFinished | ModelCallCorrected | Counted) -> tuple[int | None, ...]:
    return (position, part, parse_time(data.started_at), data.duration_ms, data.ttfb_ms)


def _fold(target: Target, stretch: tuple[int, int]) -> None:
    """Add what lies after one position and up to another to the cells."""
    cells: defaultdict[Cell, Pair] = defaultdict(lambda: (0, 0))
    for source, part in sources(target):
        for quarter, pair in quarters(target.db, source, stretch).items():
            for size in (QUARTER_US, DAY_US):
                cell = (size, quarter // size * size, part)
                cells[cell] = _sum(cells[cell], pair)
    table = target.table("model_call_latencies")
    for cell in cells:
        cells[cell] = _sum(cells[cell], _stored(target.db, table, cell))
    rows = [(*cell, *map(pack, pair)) for cell, pair in sorted(cells.items())]
    adding = ", ".join(f"{m} = excluded.{m}" for m in MEASURES)
    insert(target.db, f"INSERT INTO {table}", rows, f"ON CONFLICT DO UPDATE SET {adding}")
    target.db.execute(f"DELETE FROM {target.table(DELTAS)} WHERE position <= ?", (stretch[1],))


def quarters(db: apsw.Connection, source: str, stretch: tuple[int, int]) -> dict[int, Pair]:
    """The histograms of a source's calls by the quarter of an hour of their start.

    Counted outside SQLite, whose GROUP BY sorts and takes twice as long; no step of it is Python's own a call.
    """
    # Counted from the first one's quarter, keys are small, and small integers cost half.
    first = (db.execute(f"SELECT started_at_us FROM {source} LIMIT 1", stretch).get or 0) // QUARTER_US
    keyed = (f"(started_at_us / {QUARTER_US} - ?3 << {_BIN_BITS}) | {bin_sql(measure)}" for measure in MEASURES)
    rows = cast("list[Pair]", db.execute(f"SELECT {', '.join(keyed)} FROM {source}", (*stretch, first)).fetchall())
    durations, ttfbs = [_by_quarter(Counter(column), first) for column in zip(*rows, strict=True)] or [{}, {}]
    return {quarter: (durations.get(quarter, 0), ttfbs.get(quarter, 0)) for quarter in {**durations, **ttfbs}}


def _by_quarter(counts: Counter[int | None], first: int) -> dict[int, Histogram]:
    """Counts by quarter and bin as a histogram a quarter."""
    found: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for key, count in counts.items():
        if key is not None:  # a call without this measure
            found[key >> _BIN_BITS][key & _BIN] = count
    return {(first + quarter) * QUARTER_US: of_counts(bins) for quarter, bins in found.items()}


def _sum(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]


def _stored(db: apsw.Connection, table: str, cell: Cell) -> Pair:
    sql = f"SELECT {', '.join(MEASURES)} FROM {table} WHERE bucket_us = ? AND bucket = ? AND part = ?"
    rows = cast("list[tuple[bytes, bytes]]", db.execute(sql, cell).fetchall())
    return (unpack(rows[0][0]), unpack(rows[0][1])) if rows else (0, 0)


_KEY = "bucket_us, bucket, part"
PROJECTION = Projection(
    name="model_call_latencies",
    version=1,
    tables=(
        Table(
            "model_call_latencies",
            "bucket_us INTEGER NOT NULL, bucket INTEGER NOT NULL, part INTEGER NOT NULL, "
            f"{', '.join(f'{measure} BLOB NOT NULL' for measure in MEASURES)}, PRIMARY KEY ({_KEY})",
            key=_KEY,
        ),
        Table(
            DELTAS,
            "position INTEGER NOT NULL, part INTEGER NOT NULL, started_at_us INTEGER NOT NULL, "
            f"{', '.join(f'{measure} INTEGER' for measure in MEASURES)}, PRIMARY KEY (position, part)",
            key="position, part",
            options="STRICT, WITHOUT ROWID",
        ),
    ),
    apply=_apply,
    needs=("names", "model_calls"),
)
