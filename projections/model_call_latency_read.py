"""The histograms of a statistic's cells: kept ones where there are some, else counted from bounded many calls."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import apsw
from msgspec import Struct

from projections.bucket import SEGMENTS, Part, Range, segments, segments_json
from projections.bulk import Value
from projections.call_filter import FINISHED, all_of, conditions, sources
from projections.histogram import Histogram, bin_sql, of_counts, pack, percentiles, unpack
from projections.model_call_latency import BILLED, KINDS, MEASURES, TAKEN, bins_of, columns, tail
from projections.model_call_stat_rows import stretched
from projections.model_call_stat_top import OTHERS, Cell, Group
from schema.model_call_query import Dimension, PercentileSource, StatQuery
from schema.times import DAY_US, QUARTER_US

CALLS_MAX = 100_000
HISTOGRAMS_MAX = 50_000
CELLS_MAX = 10_000

Packed = tuple[bytes, bytes]  # histograms of durations and of times to first byte
Piece = tuple[int, bytes | dict[int, int], bytes | dict[int, int]]  # a sign, and the same packed or as counts by bin
Pieces = defaultdict[Cell, list[Piece]]


class Latencies(Struct):
    """The histograms of cells, packed, and where they are from; no source: it would have taken too many calls."""

    cells: dict[Cell, Packed]
    source: PercentileSource | None

    def of(self, cell: Cell) -> dict[str, int | None]:
        """The percentiles of a cell, by their names."""
        return _shown([self.cells[cell]] if cell in self.cells else [])

    def total(self) -> dict[str, int | None]:
        """Those of all cells."""
        return _shown(self.cells.values())

    def merged(self, kept: set[Group]) -> "Latencies":
        """The same with all groups but some added up as one."""
        found: defaultdict[Cell, list[Piece]] = defaultdict(list)
        for (index, group), packed in self.cells.items():
            found[index, group if group in kept else OTHERS].append((1, *packed))
        return Latencies(_packed(found), self.source)


def _shown(cells: Iterable[Packed]) -> dict[str, int | None]:
    durations = ttfbs = 0
    for packed in cells:
        durations += unpack(packed[0])
        ttfbs += unpack(packed[1])
    duration, ttfb = percentiles(durations, (50, 95, 99)), percentiles(ttfbs, (50, 95))
    return {
        "duration_ms_p50": duration[0], "duration_ms_p95": duration[1], "duration_ms_p99": duration[2],
        "ttfb_ms_p50": ttfb[0], "ttfb_ms_p95": ttfb[1],
    }  # fmt: skip


def _packed(found: Mapping[Cell, Sequence[Piece]]) -> dict[Cell, Packed]:
    """The pieces of each cell added up: one cell at a time, because a histogram in memory is large."""
    return {
        cell: (
            pack(sum(sign * _histogram(durations) for sign, durations, _ in pieces)),
            pack(sum(sign * _histogram(ttfbs) for sign, _, ttfbs in pieces)),
        )
        for cell, pieces in found.items()
    }


def _histogram(piece: bytes | dict[int, int]) -> Histogram:
    return unpack(piece) if isinstance(piece, bytes) else of_counts(piece)


def read_latencies(
    db: apsw.Connection,
    query: StatQuery,
    ranges: Sequence[Range],
    dimensions: dict[Dimension, int] | None,
    *,
    folded: bool,
) -> Latencies:
    """The histograms of a query's cells; `folded`: whether those that are kept are up to date."""
    if dimensions is None:  # a name that no call has
        return Latencies({}, "calls")
    wanted = {*query.group_by, *dimensions}
    kind = next((n for n, kept in enumerate(KINDS) if wanted.issubset(kept)), None)
    if kind is None or not folded or query.filter.needs_calls():
        return _counted_from_calls(db, query, ranges, dimensions)
    parts = segments(stretched(db, list(ranges)), days=True)
    found = _of_calls(db, query, parts.edges, dimensions)
    kept = ((kind, QUARTER_US, parts.quarters), (kind, DAY_US, parts.days))
    if found is None or not _add_kept(db, query, dimensions, kept, found):
        return Latencies({}, None)
    _add_tail(db, query, dimensions, sorted(parts.quarters + parts.days, key=lambda part: part[1]), found)
    return _latencies(found, "histograms")


def _counted_from_calls(
    db: apsw.Connection, query: StatQuery, ranges: Sequence[Range], dimensions: dict[Dimension, int]
) -> Latencies:
    found = _of_calls(db, query, [(index, *bounds) for index, bounds in enumerate(ranges)], dimensions)
    return Latencies({}, None) if found is None else _latencies(found, "calls")


def _latencies(found: Pieces, source: PercentileSource) -> Latencies:
    return Latencies({}, None) if len(found) > CELLS_MAX else Latencies(_packed(found), source)


def _add_kept(
    db: apsw.Connection,
    query: StatQuery,
    dimensions: dict[Dimension, int],
    wanted: Sequence[tuple[int, int, list[Part]]],
    found: Pieces,
) -> bool:
    """Add the cells of a kind and bucket size within parts; false if they are too many to add up."""
    named = [(f"s.{name} = ?", (id_,)) for name, id_ in dimensions.items()]
    where, bound = all_of([*named, *([(f"s.part = {BILLED}", ())] if query.filter.basis == "billed" else [])])
    sql = (
        f"SELECT {', '.join(['i', 'part', *MEASURES, *query.group_by])} FROM {SEGMENTS} CROSS JOIN "
        "model_call_latencies s ON s.kind = ? AND s.bucket_us = ? AND s.bucket >= b.low AND s.bucket < b.high "
        f"WHERE {where} LIMIT ?"
    )
    left = HISTOGRAMS_MAX
    for kind, size, parts in wanted:
        bindings: tuple[Value, ...] = (segments_json(parts), kind, size, *bound, left + 1)
        rows = cast("Sequence[tuple[int, int, bytes, bytes]]", db.execute(sql, bindings).fetchall())
        left -= len(rows)
        if left < 0:
            return False
        for index, part, durations, ttfbs, *group in rows:
            found[index, tuple(cast("list[int]", group))].append((_sign(part), durations, ttfbs))
    return True


def _sign(part: int) -> int:
    """Lanes of a difference may borrow of each other until everything is added."""
    return -1 if part == TAKEN else 1


def _add_tail(
    db: apsw.Connection, query: StatQuery, dimensions: dict[Dimension, int], parts: list[Part], found: Pieces
) -> None:
    """What is not folded yet: a bounded number of calls and changes."""
    where, bound = all_of([(f"{name} = ?", (id_,)) for name, id_ in dimensions.items()])
    lows = [low for _, low, _ in parts]
    sources_, stretch = tail(db)
    for source, part in sources_:
        if query.filter.basis == "billed" and part != BILLED:
            continue
        told = columns(db, source, (*stretch, *cast("tuple[int, ...]", bound)), query.group_by, where)
        for (quarter, *group), bins in bins_of(told, query.group_by).items():
            at = bisect_right(lows, quarter * QUARTER_US) - 1
            if at >= 0 and quarter * QUARTER_US < parts[at][2]:
                found[parts[at][0], tuple(group)].append((_sign(part), *bins))


def _of_calls(
    db: apsw.Connection, query: StatQuery, parts: list[Part], dimensions: dict[Dimension, int]
) -> Pieces | None:
    """Counted from the calls that start within the parts; None if these are too many to look at."""
    bound = segments_json(parts)
    left = CALLS_MAX
    for table, _ in sources(query.filter):
        within = f"{SEGMENTS} CROSS JOIN {table} s ON started_at_us >= b.low AND started_at_us < b.high"
        left -= db.execute(f"SELECT count(*) FROM (SELECT 1 FROM {within} LIMIT ?)", (bound, CALLS_MAX + 1)).get or 0
        if left < 0:
            return None
    found: Pieces = defaultdict(list)
    durations, ttfbs = [_counted(db, query, measure, bound, dimensions) for measure in MEASURES]
    for cell in {**durations, **ttfbs}:
        found[cell].append((1, durations.get(cell, {}), ttfbs.get(cell, {})))
    return found


def _counted(
    db: apsw.Connection, query: StatQuery, measure: str, segments_: str, dimensions: dict[Dimension, int]
) -> dict[Cell, dict[int, int]]:
    """How many calls each bin has, by cell."""
    where, bound = all_of([FINISHED, *conditions(query.filter, dimensions), (f"{measure} IS NOT NULL", ())])
    keys = ", ".join(["i", *query.group_by, bin_sql(measure)])
    found: defaultdict[Cell, dict[int, int]] = defaultdict(dict)
    for table, which in sources(query.filter):
        within = f"{SEGMENTS} CROSS JOIN {table} s ON started_at_us >= b.low AND started_at_us < b.high"
        places = ", ".join(map(str, range(1, len(query.group_by) + 3)))
        sql = f"SELECT {keys}, count(*) FROM {within} WHERE {which} AND {where} GROUP BY {places}"
        bindings: tuple[Value, ...] = (segments_, *bound)
        for index, *group, bin_, count in cast("Sequence[tuple[int, ...]]", db.execute(sql, bindings)):
            bins = found[index, tuple(group)]
            bins[bin_] = bins.get(bin_, 0) + count
    return found
