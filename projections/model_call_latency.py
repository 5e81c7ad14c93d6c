"""Histograms of durations and times to first byte by quarter of an hour and day, of which percentiles are read.

They are kept of all calls, by app, and by provider and model. Like statistics they are folded a stretch at a time, and
a read adds what is not folded yet. A stretch is eight of theirs: a cell that is touched is read and packed again, and
the longer the stretch the fewer calls pay for it. Where folds happen depends on positions alone. What a call that
came whole took is in its row of `model_calls` (or in that row's first version); every other event's values are laid
down until they are folded.

A cell has three parts: what was billed, what corrections added and what they took away. None is ever negative, and a
histogram as corrected is the first two without the third.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import apsw
import msgspec

from projections import model_call_stat
from projections.bulk import insert
from projections.histogram import bin_sql, pack_counts, pack_sum
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
OF_ALL, OF_APPS, OF_MODELS = range(len(KINDS))
BILLED, ADDED, TAKEN = PARTS = (0, 1, 2)
DELTAS = "model_call_latency_deltas"

Bins = tuple[dict[int, int], dict[int, int]]  # of each measure how many values each bin has
Cell = tuple[int, ...]  # a quarter of an hour or a day, counted from 1970, and names
Column = tuple[int | None, ...]

_STRETCHES = 8  # of statistics, that are folded at once
_QUARTERS = DAY_US // QUARTER_US  # in a day
_CELLS_AT_ONCE = 1_000
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
    for source, part in sources(target):
        found = columns(target.db, source, stretch)
        for kind, size, cells in _cells(found):
            _add(target, (kind, size, part), cells)
    target.db.execute(f"DELETE FROM {target.table(DELTAS)} WHERE position <= ?", (stretch[1],))


def _cells(found: dict[str, Column]) -> Iterator[tuple[int, int, dict[Cell, Bins]]]:
    """Each kind and bucket size, with what is added to its cells; those of all calls are those of apps together."""
    of_apps, of_models = (bins_of(found, KINDS[kind]) for kind in (OF_APPS, OF_MODELS))
    of_all = _joined(of_apps, lambda cell: cell[:1])
    for kind, quarters in ((OF_ALL, of_all), (OF_APPS, of_apps), (OF_MODELS, of_models)):
        yield kind, QUARTER_US, quarters
        yield kind, DAY_US, _joined(quarters, lambda cell: (cell[0] // _QUARTERS, *cell[1:]))


def _joined(cells: dict[Cell, Bins], of: Callable[[Cell], Cell]) -> dict[Cell, Bins]:
    """The cells that these are part of, added up."""
    joined: defaultdict[Cell, Bins] = defaultdict(lambda: ({}, {}))
    for cell, bins in cells.items():
        for total, counts in zip(joined[of(cell)], bins, strict=True):
            for bin_, count in counts.items():
                total[bin_] = total.get(bin_, 0) + count
    return joined


def _add(target: Target, place: tuple[int, int, int], cells: dict[Cell, Bins]) -> None:
    """Add counts to the cells of a kind, bucket size and part; at most so many are read and written at once."""
    table, (kind, size, part) = target.table("model_call_latencies"), place
    adding = ", ".join(f"{m} = excluded.{m}" for m in MEASURES)
    # Where a cell with a 0 put at its end has each dimension: the 0 is of those that this kind does not keep apart.
    indices = [KINDS[kind].index(d) + 1 if d in KINDS[kind] else -1 for d in DIMENSIONS]
    ordered = sorted(cells)
    for first in range(0, len(ordered), _CELLS_AT_ONCE):
        rows: list[tuple[int | bytes, ...]] = []
        some = ordered[first : first + _CELLS_AT_ONCE]
        stored = _stored(target.db, table, place, some)
        for cell in some:
            bins, had, padded = cells[cell], stored.get(cell), (*cell, 0)
            packed = map(pack_counts, bins) if had is None else map(pack_sum, had, bins)
            rows.append((kind, size, cell[0] * size, *[padded[index] for index in indices], part, *packed))
        insert(target.db, f"INSERT INTO {table}", rows, f"ON CONFLICT DO UPDATE SET {adding}")


def _stored(
    db: apsw.Connection, table: str, place: tuple[int, int, int], cells: Sequence[Cell]
) -> dict[Cell, tuple[bytes, bytes]]:
    """The packed histograms of those of these cells that there are already."""
    kind, size, part = place
    keys = {name: f"k.value ->> {n}" for n, name in enumerate(KINDS[kind], start=1)}
    named = " AND ".join(f"{dimension} = {keys.get(dimension, 0)}" for dimension in DIMENSIONS)
    sql = (
        f"SELECT k.key, {', '.join(MEASURES)} FROM json_each(?) k CROSS JOIN {table} s ON kind = ? AND bucket_us = ? "
        f"AND bucket = (k.value ->> 0) * {size} AND {named} AND part = ?"
    )
    bound = (msgspec.json.encode(cells).decode(), kind, size, part)
    rows = cast("list[tuple[int, bytes, bytes]]", db.execute(sql, bound).fetchall())
    return {cells[n]: (durations, ttfbs) for n, durations, ttfbs in rows}


def columns(
    db: apsw.Connection, source: str, bound: Sequence[int], names: Sequence[str] = DIMENSIONS, where: str = "true"
) -> dict[str, Column]:
    """The quarter of an hour, the names and the bins of a source's calls, a column each.

    They are counted outside SQLite, whose GROUP BY sorts and takes twice as long; no step of it is Python's own a call.
    """
    bins = ", ".join(bin_sql(measure) for measure in MEASURES)
    sql = f"SELECT {', '.join((f'started_at_us / {QUARTER_US}', *names))}, {bins} FROM {source} WHERE {where}"
    rows = cast("list[Column]", db.execute(sql, tuple(bound)).fetchall())
    return dict(zip(("quarter", *names, *MEASURES), zip(*rows, strict=True), strict=False))


def bins_of(found: dict[str, Column], names: Sequence[str]) -> dict[Cell, Bins]:
    """How many of columns each bin has, by quarter of an hour and these names."""
    cells: defaultdict[Cell, Bins] = defaultdict(lambda: ({}, {}))
    if not found:  # no rows, and so no columns
        return cells
    keys = [found[name] for name in ("quarter", *names)]
    for n, measure in enumerate(MEASURES):
        counts = cast("Counter[Cell]", Counter(zip(*keys, found[measure], strict=True)))
        for key, count in counts.items():
            if key[-1] is not None:  # pyright: ignore[reportUnnecessaryComparison] - a call without this measure
                cells[key[:-1]][n][key[-1]] = count
    return cells


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
