"""Statistics: sums over roll-ups for whole days and quarters of hours, over calls at the cut edges of the range."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from zoneinfo import ZoneInfo

import apsw
import msgspec
from msgspec import UNSET

from projections.bucket import (
    SEGMENTS,
    Range,
    Segments,
    buckets,
    exploded,
    segments,
    segments_json,
    widened,
    zone,
)
from projections.bulk import Value
from projections.call_filter import FINISHED, Condition, all_of, conditions, dimension_ids, id_names, sources
from projections.histogram import RELATIVE_ERROR
from projections.model_call_latency_read import Latencies, read_latencies
from projections.model_call_stat import DIMENSIONS, FROM_CALLS, MEASURES, ROLLUPS, Rollup, tail
from projections.model_call_stat_top import OTHERS, Cell, Sums, merged
from schema.errors import FieldError, InvalidInput
from schema.model_call_query import Dimension, Percentiles, StatBucket, StatQuery, Stats, StatTotals
from schema.money import COST_DECIMALS, SECONDS_DECIMALS, format_scaled
from schema.times import DAY_US, QUARTER_US, format_time

CELLS_MAX = 100_000
SEEKS_MAX = 200_000
SPLIT = 10**9  # sums too large for SQLite are added as millions of thousands and the rest

_CREDIT_E10 = 10**COST_DECIMALS

Rows = list[tuple[int, ...]]


def read_stats(db: apsw.Connection, query: StatQuery, *, histograms: bool = True) -> Stats:
    """The statistics of a query. Raises InvalidInput for a zone, a range or a size that is out of bounds.

    `histograms`: whether those are up to date; if not, percentiles are counted from calls.
    """
    tz = zone(query.timezone)
    dimensions = dimension_ids(db, query.filter)
    extent = _extent(db, query, tz, dimensions)
    ranges = buckets(*extent, query.granularity, tz)
    cells = {} if dimensions is None else _cells(db, query, ranges, dimensions)
    latencies = read_latencies(db, query, ranges, dimensions, folded=histograms) if query.percentiles else None
    found = _present(db, query, ranges, cells, latencies)
    if query.compare:
        found.previous = _previous(db, query, extent, dimensions, histograms=histograms)
    return found


def _previous(
    db: apsw.Connection,
    query: StatQuery,
    extent: Range,
    dimensions: dict[Dimension, int] | None,
    *,
    histograms: bool,
) -> StatTotals:
    """The totals of the range of equal length that ends where this one begins."""
    start, end = extent
    whole = msgspec.structs.replace(query, granularity="total", group_by=())
    before = [(start - (end - start), start)] if start < end else []
    cells = {} if dimensions is None else _cells(db, whole, before, dimensions)
    latencies = read_latencies(db, whole, before, dimensions, folded=histograms) if query.percentiles else None
    shown = {} if latencies is None else latencies.total()
    return StatTotals(**_fields(cells.get((0, ()), [0] * (len(MEASURES) + 1)), shown))


def _extent(db: apsw.Connection, query: StatQuery, tz: ZoneInfo, dimensions: dict[Dimension, int] | None) -> Range:
    """The asked range; an open end is that of the whole bucket where the data ends."""
    from_us, to_us = query.filter.from_us, query.filter.to_us
    if from_us is not None and to_us is not None:
        return from_us, to_us
    low, high = (0, 0) if dimensions is None else _data_range(db, dimensions)
    if low == high:  # no calls: nothing lies between a given end and an open one
        end = from_us or to_us or 0
        return end, end
    low, high = widened(low, high, query.granularity, tz)
    return low if from_us is None else from_us, high if to_us is None else to_us


def _data_range(db: apsw.Connection, dimensions: dict[Dimension, int]) -> Range:
    """The whole UTC days that have calls, of the filtered app if there is one; empty where none has.

    Nobody's calls may set the range of another app's statistics.
    """
    app = dimensions.get("app")
    if app is None:
        sql, bound = "SELECT min(bucket), max(bucket) FROM model_call_stats WHERE rollup = 1", ()
    else:
        day = f"started_at_us / {DAY_US} * {DAY_US}"
        sources_, stretch = tail(db)
        bound = (*stretch, app)
        ends = [
            "SELECT min(bucket) AS low, max(bucket) AS high FROM model_call_stats WHERE rollup = 3 AND app = ?3",
            *(f"SELECT min({day}), max({day}) FROM {source} WHERE app = ?3" for source in sources_),
        ]
        sql = f"SELECT min(low), max(high) FROM ({' UNION ALL '.join(ends)})"
    ((low, high),) = cast("list[tuple[int | None, int | None]]", db.execute(sql, bound).fetchall())
    return (0, 0) if low is None or high is None else (low, high + DAY_US)


def _cells(
    db: apsw.Connection, query: StatQuery, ranges: list[Range], dimensions: dict[Dimension, int]
) -> dict[Cell, Sums]:
    """Sums by bucket index and group."""
    cells: dict[Cell, Sums] = {}
    succeeded = db.execute("SELECT id FROM names WHERE name = 'success'").get
    for index, *row in _rows(db, query, ranges, dimensions):
        width = len(query.group_by)
        group, status, measures = tuple(row[:width]), row[width], row[width + 1 :]
        sums = cells.setdefault((index, group), [0] * (len(MEASURES) + 1))
        for n, value in enumerate(measures):
            sums[n] += value
        if status == succeeded:
            sums[-1] += measures[0]
        if len(cells) > CELLS_MAX:
            message = f"Expected at most {CELLS_MAX} buckets times groups; narrow the query"
            raise InvalidInput(errors=(FieldError("$.group_by", message),))
    return {cell: sums for cell, sums in cells.items() if sums[0]}


def _rows(
    db: apsw.Connection, query: StatQuery, ranges: list[Range], dimensions: dict[Dimension, int]
) -> Iterator[tuple[int, ...]]:
    """Rows of (bucket index, *group, status, *measures); a cell may come in several rows."""
    if query.filter.needs_calls():
        whole = [(index, *bounds) for index, bounds in enumerate(ranges)]
        yield from _call_rows(db, query, whole, dimensions)
        return
    wanted = frozenset({*query.group_by, *dimensions})
    quarterly, daily = _narrowest(QUARTER_US, wanted), _narrowest(DAY_US, wanted)
    found = segments(ranges, days=daily is not None)
    yield from _call_rows(db, query, found.edges, dimensions)
    for rollup, parts in _sources(quarterly, daily, found):
        yield from _rollup_rows(db, query, rollup, parts, dimensions)
    if quarterly is not None and not quarterly.inline:
        parts = sorted(found.quarters + found.days, key=lambda part: part[1])
        yield from _tail_rows(db, query, parts, dimensions)


def _sources(
    quarterly: Rollup | None, daily: Rollup | None, found: Segments
) -> Iterator[tuple[Rollup, list[tuple[int, int, int]]]]:
    if quarterly is not None and found.quarters:
        yield quarterly, found.quarters
    if daily is not None and found.days:
        yield daily, found.days


def _narrowest(bucket_us: int, wanted: frozenset[str]) -> Rollup | None:
    return next((r for r in ROLLUPS if r.bucket_us == bucket_us and wanted <= r.dimensions), None)


def _rollup_rows(
    db: apsw.Connection,
    query: StatQuery,
    rollup: Rollup,
    parts: list[tuple[int, int, int]],
    dimensions: dict[Dimension, int],
) -> Iterable[tuple[int, ...]]:
    kept = [d for d in DIMENSIONS if d in rollup.dimensions]
    place = "bucket >= b.low AND bucket < b.high"
    if kept[0] in dimensions:  # one seek a bucket, straight to the filtered rows
        parts = list(exploded(_clipped(parts, *_data_range(db, dimensions)), rollup.bucket_us))
        place = "bucket = b.low"
        if len(parts) > SEEKS_MAX:
            raise InvalidInput(errors=(FieldError("$.from", "The range is too long for this filter"),))
    zeros = [(f"{d} = 0", ()) for d in DIMENSIONS if d not in rollup.dimensions]
    if query.filter.basis == "billed":
        zeros.append(("correction = 0", ()))
    where, bound = all_of([*zeros, *((f"{name} = ?", (id_,)) for name, id_ in dimensions.items())])
    source = f"model_call_stats s ON rollup = {rollup.code} AND {place} WHERE {where}"
    return _summed(db, query, source, (segments_json(parts), *bound), {m: m for m in MEASURES})


def _clipped(parts: list[tuple[int, int, int]], low: int, high: int) -> list[tuple[int, int, int]]:
    """The parts of parts that lie in [low, high)."""
    return [(index, max(a, low), min(b, high)) for index, a, b in parts if max(a, low) < min(b, high)]


def _tail_rows(
    db: apsw.Connection, query: StatQuery, parts: list[tuple[int, int, int]], dimensions: dict[Dimension, int]
) -> Iterator[tuple[int, ...]]:
    """What the cells do not hold yet: a bounded number of calls and changes, summed by quarter-hour."""
    billed: list[Condition] = [("correction = 0", ())] if query.filter.basis == "billed" else []
    where, bound = all_of([*billed, *((f"{name} = ?", (id_,)) for name, id_ in dimensions.items())])
    keys = ", ".join(["quarter", *query.group_by, "status"])
    sums = ", ".join(f"sum({m})" for m in MEASURES)
    quarter = f"started_at_us / {QUARTER_US} * {QUARTER_US} AS quarter"
    found, stretch = tail(db)
    shown = keys.replace("quarter", quarter, 1)
    sql = " UNION ALL ".join(f"SELECT {shown}, {sums} FROM {source} WHERE {where} GROUP BY {keys}" for source in found)
    lows = [low for _, low, _ in parts]
    for started, *row in cast("Rows", db.execute(sql, (*stretch, *bound * len(found)))):
        at = bisect_right(lows, started) - 1
        if at >= 0 and started < parts[at][2]:
            yield (parts[at][0], *row)


def _call_rows(
    db: apsw.Connection, query: StatQuery, parts: list[tuple[int, int, int]], dimensions: dict[Dimension, int]
) -> Iterator[tuple[int, ...]]:
    if not parts:
        return
    where, bound = all_of([FINISHED, *conditions(query.filter, dimensions)])
    measures = {m: FROM_CALLS.get(m, m) for m in MEASURES}
    for table, which in sources(query.filter.basis):
        source = f"{table} s ON started_at_us >= b.low AND started_at_us < b.high WHERE {which} AND {where}"
        yield from _summed(db, query, source, (segments_json(parts), *bound), measures)


def _summed(
    db: apsw.Connection, query: StatQuery, source: str, bound: tuple[Value, ...], measures: dict[str, str]
) -> Rows:
    keys = ", ".join(["i", *query.group_by, "status"])
    tail = f"FROM {SEGMENTS} CROSS JOIN {source} GROUP BY {keys}"
    try:
        plain = ", ".join(f"sum({m})" for m in measures.values())
        return cast("Rows", db.execute(f"SELECT {keys}, {plain} {tail}", bound).fetchall())
    except apsw.SQLError as error:
        if "integer overflow" not in str(error):
            raise
    halves = ", ".join(f"sum(({m}) / {SPLIT}), sum(({m}) % {SPLIT})" for m in measures.values())
    width = len(query.group_by) + 2
    rows = cast("Rows", db.execute(f"SELECT {keys}, {halves} {tail}", bound).fetchall())
    return [(*row[:width], *_joined(row[width:])) for row in rows]


def _joined(halves: Sequence[int]) -> Iterator[int]:
    return (high * SPLIT + low for high, low in zip(halves[::2], halves[1::2], strict=True))


def _present(
    db: apsw.Connection, query: StatQuery, ranges: list[Range], cells: dict[Cell, Sums], latencies: Latencies | None
) -> Stats:
    totals = [sum(column) for column in zip(*cells.values(), strict=True)] or [0] * (len(MEASURES) + 1)
    distinct = len({group for _, group in cells})
    if query.top is not None and distinct > query.top:
        cells = merged(cells, query.top, query.top_by)
        latencies = latencies and latencies.merged({group for _, group in cells})
    groups = {group for _, group in cells} - {OTHERS}
    names = id_names(db, sorted({id_ for group in groups for id_ in group}))
    shown = {group: dict(zip(query.group_by, (names[id_] for id_ in group), strict=True)) for group in groups}
    order = sorted(groups, key=lambda group: tuple(name or "" for name in shown[group].values()))
    if any(group == OTHERS for _, group in cells):  # last, whatever the names
        order.append(OTHERS)
        shown[OTHERS] = {}
    if query.fill:
        _fill(cells, len(ranges), order or [()] if not query.group_by else order)
        shown.setdefault((), {})
    rank = {group: n for n, group in enumerate(order)}
    found: list[StatBucket] = []
    for index, group in sorted(cells, key=lambda cell: (cell[0], rank.get(cell[1], 0))):
        fields = _fields(cells[index, group], {} if latencies is None else latencies.of((index, group)))
        start, end = map(format_time, ranges[index])
        others = distinct - len(groups) if group == OTHERS else UNSET
        found.append(StatBucket(start=start, end=end, group=shown[group], others=others, **fields))
    return Stats(
        buckets=found,
        totals=StatTotals(**_fields(totals, {} if latencies is None else latencies.total())),
        groups=UNSET if query.top is None else distinct,
        percentiles=UNSET if latencies is None else Percentiles(source=latencies.source, relative_error=RELATIVE_ERROR),
    )


def _fill(cells: dict[Cell, Sums], buckets_: int, groups: Sequence[tuple[int, ...]]) -> None:
    if buckets_ * len(groups) > CELLS_MAX:
        raise InvalidInput(errors=(FieldError("$.fill", f"Expected at most {CELLS_MAX} cells"),))
    for index in range(buckets_):
        for group in groups:
            cells.setdefault((index, group), [0] * (len(MEASURES) + 1))


def _fields(sums: Sums, percentiles: Mapping[str, int | None]) -> dict[str, Any]:
    """The fields of totals."""
    fields: dict[str, Any] = dict(zip(MEASURES, sums, strict=False))
    cost_e10 = fields.pop("cost_credits") * _CREDIT_E10 + fields.pop("cost_rest_e10")
    vendor_e10 = fields.pop("vendor_cost_credits") * _CREDIT_E10 + fields.pop("vendor_cost_rest_e10")
    seconds_e6, succeeded = fields.pop("seconds_e6"), sums[-1]
    return {
        **fields,
        **percentiles,
        "succeeded": succeeded,
        "failed": sums[0] - succeeded,
        "seconds": format_scaled(seconds_e6, SECONDS_DECIMALS),
        "cost": format_scaled(cost_e10, COST_DECIMALS),
        "vendor_cost": format_scaled(vendor_e10, COST_DECIMALS),
    }
