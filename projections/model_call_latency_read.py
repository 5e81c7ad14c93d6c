"""The histograms of a statistic's cells: kept ones where there are some, else counted from bounded many calls."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import cast

import apsw
from msgspec import Struct

from projections.bucket import SEGMENTS, Part, Range, segments, segments_json
from projections.bulk import Value
from projections.call_filter import FINISHED, all_of, conditions, sources
from projections.histogram import Histogram, bin_sql, of_counts, percentiles, unpack
from projections.model_call_latency import BILLED, KINDS, MEASURES, TAKEN, columns, histograms, tail
from projections.model_call_stat_top import OTHERS, Cell, Group
from schema.model_call_query import Dimension, PercentileSource, StatQuery
from schema.times import DAY_US, QUARTER_US

CALLS_MAX = 100_000
HISTOGRAMS_MAX = 20_000

Pair = tuple[Histogram, Histogram]  # durations, times to first byte


class Latencies(Struct):
    """The histograms of cells, and where they are from; no source: it would have taken too many calls."""

    cells: dict[Cell, Pair]
    source: PercentileSource | None

    def of(self, cell: Cell) -> dict[str, int | None]:
        """The percentiles of a cell, by their names."""
        return _shown(self.cells.get(cell, (0, 0)))

    def total(self) -> dict[str, int | None]:
        """Those of all cells."""
        return _shown((sum(d for d, _ in self.cells.values()), sum(t for _, t in self.cells.values())))

    def merged(self, kept: set[Group]) -> "Latencies":
        """The same with all groups but some added up as one."""
        found: defaultdict[Cell, Pair] = defaultdict(lambda: (0, 0))
        for (index, group), pair in self.cells.items():
            cell = (index, group if group in kept else OTHERS)
            found[cell] = _sum(found[cell], pair)
        return Latencies(dict(found), self.source)


def _shown(pair: Pair) -> dict[str, int | None]:
    duration = percentiles(pair[0], (50, 95, 99))
    ttfb = percentiles(pair[1], (50, 95))
    return {
        "duration_ms_p50": duration[0], "duration_ms_p95": duration[1], "duration_ms_p99": duration[2],
        "ttfb_ms_p50": ttfb[0], "ttfb_ms_p95": ttfb[1],
    }  # fmt: skip


def _sum(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]


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
    parts = segments(list(ranges), days=True)
    edges = _of_calls(db, query, parts.edges, dimensions)
    kept = _kept(db, query, dimensions, {(kind, QUARTER_US): parts.quarters, (kind, DAY_US): parts.days})
    if edges is None or kept is None:
        return Latencies({}, None)
    found = defaultdict[Cell, Pair](lambda: (0, 0), edges)
    tail_ = _of_tail(db, query, dimensions, sorted(parts.quarters + parts.days, key=lambda part: part[1]))
    for cell, part, pair in (*kept, *tail_):
        sign = -1 if part == TAKEN else 1  # lanes may borrow of each other until everything is added
        found[cell] = _sum(found[cell], (sign * pair[0], sign * pair[1]))
    return Latencies(dict(found), "histograms")


def _counted_from_calls(
    db: apsw.Connection, query: StatQuery, ranges: Sequence[Range], dimensions: dict[Dimension, int]
) -> Latencies:
    found = _of_calls(db, query, [(index, *bounds) for index, bounds in enumerate(ranges)], dimensions)
    return Latencies({}, None) if found is None else Latencies(found, "calls")


def _kept(
    db: apsw.Connection,
    query: StatQuery,
    dimensions: dict[Dimension, int],
    wanted: dict[tuple[int, int], list[Part]],
) -> list[tuple[Cell, int, Pair]] | None:
    """The cells of a kind and bucket size within parts, each with its part; None if they are too many to add up."""
    named = [(f"s.{name} = ?", (id_,)) for name, id_ in dimensions.items()]
    where, bound = all_of([*named, *([(f"s.part = {BILLED}", ())] if query.filter.basis == "billed" else [])])
    sql = (
        f"SELECT {', '.join(['i', 'part', *MEASURES, *query.group_by])} FROM {SEGMENTS} CROSS JOIN "
        "model_call_latencies s ON s.kind = ? AND s.bucket_us = ? AND s.bucket >= b.low AND s.bucket < b.high "
        f"WHERE {where} LIMIT ?"
    )
    found: list[tuple[Cell, int, Pair]] = []
    for (kind, size), parts in wanted.items():
        bindings: tuple[Value, ...] = (segments_json(parts), kind, size, *bound, HISTOGRAMS_MAX + 1 - len(found))
        rows = cast("Sequence[tuple[int, int, bytes, bytes]]", db.execute(sql, bindings).fetchall())
        if len(found) + len(rows) > HISTOGRAMS_MAX:
            return None
        for index, part, durations, ttfbs, *group in rows:
            found.append(((index, tuple(cast("list[int]", group))), part, (unpack(durations), unpack(ttfbs))))
    return found


def _of_tail(
    db: apsw.Connection, query: StatQuery, dimensions: dict[Dimension, int], parts: list[Part]
) -> Iterator[tuple[Cell, int, Pair]]:
    """What is not folded yet: a bounded number of calls and changes."""
    where, bound = all_of([(f"{name} = ?", (id_,)) for name, id_ in dimensions.items()])
    lows = [low for _, low, _ in parts]
    sources_, stretch = tail(db)
    for source, part in sources_:
        if query.filter.basis == "billed" and part != BILLED:
            continue
        told = columns(db, source, (*stretch, *cast("tuple[int, ...]", bound)), where)
        for (quarter, *group), pair in histograms(told, query.group_by).items():
            at = bisect_right(lows, quarter * QUARTER_US) - 1
            if at >= 0 and quarter * QUARTER_US < parts[at][2]:
                yield (parts[at][0], tuple(group)), part, pair


def _of_calls(
    db: apsw.Connection, query: StatQuery, parts: list[Part], dimensions: dict[Dimension, int]
) -> dict[Cell, Pair] | None:
    """Counted from the calls that start within the parts; None if these are too many to look at."""
    bound = segments_json(parts)
    left = CALLS_MAX
    for table, _ in sources(query.filter.basis):
        within = f"{SEGMENTS} CROSS JOIN {table} s ON started_at_us >= b.low AND started_at_us < b.high"
        left -= db.execute(f"SELECT count(*) FROM (SELECT 1 FROM {within} LIMIT ?)", (bound, CALLS_MAX + 1)).get or 0
        if left < 0:
            return None
    counts = [_counted(db, query, measure, bound, dimensions) for measure in MEASURES]
    durations, ttfbs = counts
    cells = {**durations, **ttfbs}
    return {cell: (of_counts(durations.get(cell, {})), of_counts(ttfbs.get(cell, {}))) for cell in cells}


def _counted(
    db: apsw.Connection, query: StatQuery, measure: str, segments_: str, dimensions: dict[Dimension, int]
) -> dict[Cell, dict[int, int]]:
    """How many calls each bin has, by cell."""
    where, bound = all_of([FINISHED, *conditions(query.filter, dimensions), (f"{measure} IS NOT NULL", ())])
    keys = ", ".join(["i", *query.group_by, bin_sql(measure)])
    found: defaultdict[Cell, dict[int, int]] = defaultdict(dict)
    for table, which in sources(query.filter.basis):
        within = f"{SEGMENTS} CROSS JOIN {table} s ON started_at_us >= b.low AND started_at_us < b.high"
        places = ", ".join(map(str, range(1, len(query.group_by) + 3)))
        sql = f"SELECT {keys}, count(*) FROM {within} WHERE {which} AND {where} GROUP BY {places}"
        bindings: tuple[Value, ...] = (segments_, *bound)
        for index, *group, bin_, count in cast("Sequence[tuple[int, ...]]", db.execute(sql, bindings)):
            bins = found[index, tuple(group)]
            bins[bin_] = bins.get(bin_, 0) + count
    return found
