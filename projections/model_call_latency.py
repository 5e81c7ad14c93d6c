"""Histograms of durations and times to first byte by quarter of an hour and day, of which percentiles are read.

They are kept of all calls, by app, and by provider and model. Like statistics they are folded a stretch at a time, and
a read adds what is not folded yet. A stretch is four of theirs: a cell that is touched is unpacked and packed again,
and the longer the stretch the fewer calls pay for it. Where folds happen depends on positions alone. What a call that
came whole took is in its row of `model_calls` (or in that row's first version); every other event's values are laid
down until they are folded.

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
from projections.name import NameTable, counted_names
from projections.projection import Projection, Table, Target
from schema.correction import ModelCallCorrected, ModelCallVoided
from schema.entry import Recorded
from schema.model_call import FINISHED, ModelCallRecorded
from schema.times import DAY_US, QUARTER_US, parse_time

MEASURES = ("duration_ms", "ttfb_ms")
DIMENSIONS = ("app", "provider", "model")
KINDS: tuple[tuple[str, ...], ...] = ((), ("app",), ("provider", "model"))  # which dimensions cells are kept apart by
BILLED, ADDED, TAKEN = PARTS = (0, 1, 2)
DELTAS = "model_call_latency_deltas"

Cell = tuple[int, int, int, int, int, int, int]  # kind, size of the bucket, its start, app, provider, model, part
Pair = tuple[Histogram, Histogram]  # of each measure
Column = tuple[int | None, ...]

_STRETCHES = 4
_COLUMNS = ("started_at_us", *DIMENSIONS, *MEASURES)
_DELTA_COLUMNS = ("position", "part", *_COLUMNS)


def sources(target: Target) -> tuple[tuple[str, int], ...]:
    """All that the events after one position and up to another add, each with its part."""
    within = "position > ? AND position <= ?"
    shown = ", ".join(_COLUMNS)
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
    """Up to where a projection at this position has folded."""
    stretch = _STRETCHES * model_call_stat.TAIL_EVENTS
    return position // stretch * stretch


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    if any(type(event.data) is not ModelCallRecorded for event in events):
        insert(target.db, f"INSERT INTO {target.table(DELTAS)}", list(_deltas(target, events)))
    first, boundary = events[0].position, _folded(events[-1].position)
    if boundary >= first:
        _fold(target, (_folded(first - 1), boundary))


def _deltas(target: Target, events: Sequence[Recorded]) -> Iterator[tuple[int | None, ...]]:
    """What events of calls that did not come whole add and take away; how long a call timed out took nobody knows."""
    for event, data, names in target.names.calls(target.db, events):
        if isinstance(data, ModelCallRecorded):
            continue  # its row tells
        _, *now, _, _, _ = names
        if isinstance(data, FINISHED):
            yield (event.position, BILLED, parse_time(data.started_at), *now, data.duration_ms, data.ttfb_ms)
        elif isinstance(data, ModelCallCorrected | ModelCallVoided):
            before = data.replaces
            counted = counted_names(data.app or "", before)
            ids = target.names.load(target.db, counted)
            then = (ids[name] for name in counted[1:4])
            yield (event.position, TAKEN, parse_time(before.started_at), *then, before.duration_ms, before.ttfb_ms)
            if isinstance(data, ModelCallCorrected):
                yield (event.position, ADDED, parse_time(data.started_at), *now, data.duration_ms, data.ttfb_ms)


def _fold(target: Target, stretch: tuple[int, int]) -> None:
    """Add what lies after one position and up to another to the cells."""
    cells: defaultdict[Cell, Pair] = defaultdict(lambda: (0, 0))
    for source, part in sources(target):
        for n, found in enumerate(_of_kinds(columns(target.db, source, stretch))):
            for (quarter, *named), pair in found.items():
                app, provider, model = [named[KINDS[n].index(d)] if d in KINDS[n] else 0 for d in DIMENSIONS]
                for size in (QUARTER_US, DAY_US):
                    cell = (n, size, quarter * QUARTER_US // size * size, app, provider, model, part)
                    cells[cell] = _sum(cells[cell], pair)
    table = target.table("model_call_latencies")
    for cell in cells:
        cells[cell] = _sum(cells[cell], _stored(target.db, table, cell))
    rows = [(*cell, *map(pack, pair)) for cell, pair in sorted(cells.items())]
    adding = ", ".join(f"{m} = excluded.{m}" for m in MEASURES)
    insert(target.db, f"INSERT INTO {table}", rows, f"ON CONFLICT DO UPDATE SET {adding}")
    target.db.execute(f"DELETE FROM {target.table(DELTAS)} WHERE position <= ?", (stretch[1],))


def columns(db: apsw.Connection, source: str, bound: Sequence[int], where: str = "true") -> dict[str, Column]:
    """The quarter of an hour, the names and the bins of a source's calls, a column each.

    They are counted outside SQLite, whose GROUP BY sorts and takes twice as long; no step of it is Python's own a call.
    """
    bins = ", ".join(bin_sql(measure) for measure in MEASURES)
    sql = f"SELECT started_at_us / {QUARTER_US}, {', '.join(DIMENSIONS)}, {bins} FROM {source} WHERE {where}"
    rows = cast("list[Column]", db.execute(sql, tuple(bound)).fetchall())
    return dict(zip(("quarter", *DIMENSIONS, *MEASURES), zip(*rows, strict=True), strict=False))


def _of_kinds(found: dict[str, Column]) -> Iterator[dict[tuple[int, ...], Pair]]:
    """The histograms of calls in the order of KINDS: of all calls they are those of apps together."""
    by_app = histograms(found, ("app",))
    every: defaultdict[tuple[int, ...], Pair] = defaultdict(lambda: (0, 0))
    for (quarter, _), pair in by_app.items():
        every[(quarter,)] = _sum(every[(quarter,)], pair)
    yield every
    yield by_app
    yield histograms(found, ("provider", "model"))


def histograms(found: dict[str, Column], shown: Sequence[str]) -> dict[tuple[int, ...], Pair]:
    """Columns as a pair of histograms by quarter of an hour and these names."""
    if not found:
        return {}
    keys = [found[name] for name in ("quarter", *shown)]
    durations, ttfbs = [_by_cell(Counter(zip(*keys, found[m], strict=True))) for m in MEASURES]
    return {cell: (durations.get(cell, 0), ttfbs.get(cell, 0)) for cell in {**durations, **ttfbs}}


def _by_cell(counts: Counter[Column]) -> dict[tuple[int, ...], Histogram]:
    """Counts by cell and bin as a histogram a cell."""
    found: defaultdict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
    for key, count in counts.items():
        bin_ = key[-1]
        if bin_ is not None:  # a call without this measure
            found[cast("tuple[int, ...]", key[:-1])][bin_] = count
    return {cell: of_counts(bins) for cell, bins in found.items()}


def _sum(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]


def _stored(db: apsw.Connection, table: str, cell: Cell) -> Pair:
    sql = f"SELECT {', '.join(MEASURES)} FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in _KEY)}"
    rows = cast("list[tuple[bytes, bytes]]", db.execute(sql, cell).fetchall())
    return (unpack(rows[0][0]), unpack(rows[0][1])) if rows else (0, 0)


_KEY = ("kind", "bucket_us", "bucket", *DIMENSIONS, "part")
PROJECTION = Projection(
    name="model_call_latencies",
    version=1,
    tables=(
        Table(
            "model_call_latencies",
            f"{', '.join(f'{name} INTEGER NOT NULL' for name in _KEY)}, "
            f"{', '.join(f'{measure} BLOB NOT NULL' for measure in MEASURES)}, PRIMARY KEY ({', '.join(_KEY)})",
            key=", ".join(_KEY),
        ),
        Table(
            DELTAS,
            f"{', '.join(f'{name} INTEGER NOT NULL' for name in _DELTA_COLUMNS[:-2])}, "
            f"{', '.join(f'{measure} INTEGER' for measure in MEASURES)}, PRIMARY KEY (position, part)",
            key="position, part",
            options="STRICT, WITHOUT ROWID",
        ),
    ),
    apply=_apply,
    needs=("names", "model_calls"),
)
