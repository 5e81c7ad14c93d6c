"""Statistics: what the sums of a query's rows come to, by bucket and group."""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import msgspec
from msgspec import UNSET, Struct

from projections.bucket import Range, buckets, zone
from projections.call_filter import dimension_ids, id_names
from projections.histogram import RELATIVE_ERROR
from projections.model_call_latency_read import Latencies, read_latencies
from projections.model_call_stat import MEASURES
from projections.model_call_stat_distinct import Distinct, distinct_of
from projections.model_call_stat_rows import StatSource, extent, whole_days
from projections.model_call_stat_top import CELLS_MAX, NOTHING, OTHERS, Cell, Found, Sums, found_of
from schema.errors import FieldError, InvalidInput
from schema.model_call_query import Dimension, Percentiles, StatBucket, StatQuery, Stats, StatTotals
from schema.money import COST_DECIMALS, CREDIT_E10, SECONDS_DECIMALS, format_scaled
from schema.times import format_time


class _Answer(Struct):
    """What was found: sums, and beside them what was asked for."""

    sums: Found
    latencies: Latencies | None
    distinct: Distinct | None

    def of(self, cell: Cell) -> dict[str, Any]:
        """The fields of a cell."""
        fields = _fields(self.sums.cells[cell])
        if self.latencies is not None:
            fields |= self.latencies.of(cell)
        if self.distinct is not None:
            fields["distinct"] = self.distinct.cells.get(cell) or dict.fromkeys(self.distinct.totals, 0)
        return fields

    def totals(self) -> StatTotals:
        """Over all cells."""
        fields = _fields(self.sums.totals)
        if self.latencies is not None:
            fields |= self.latencies.total()
        if self.distinct is not None:
            fields["distinct"] = self.distinct.totals
        return StatTotals(**fields)


def read_stats(db: apsw.Connection, query: StatQuery, *, histograms: bool = True) -> Stats:
    """The statistics of a query. Raises InvalidInput for a zone, a range or a size that is out of bounds.

    `histograms`: whether those are up to date; if not, percentiles are counted from calls.
    """
    tz = zone(query.timezone)
    dimensions = dimension_ids(db, query.filter)
    extent = _extent(db, query, tz, dimensions)
    ranges = buckets(*extent, query.granularity, tz)
    stats = _present(db, query, ranges, _answer(db, query, ranges, dimensions, histograms=histograms))
    if query.compare:  # the range of equal length that ends where this one begins
        start, end = extent
        whole = msgspec.structs.replace(query, granularity="total", group_by=(), top=None)
        before = [(start - (end - start), start)] if start < end else []
        stats.previous = _answer(db, whole, before, dimensions, histograms=histograms).totals()
    return stats


def _answer(
    db: apsw.Connection,
    query: StatQuery,
    ranges: list[Range],
    dimensions: dict[Dimension, int] | None,
    *,
    histograms: bool,
) -> _Answer:
    latencies = read_latencies(db, query, ranges, dimensions, folded=histograms) if query.percentiles else None
    if dimensions is None:  # a name that no call has
        distinct = Distinct({}, dict.fromkeys(query.distinct, 0)) if query.distinct else None
        return _Answer(Found({}, list(NOTHING), 0), latencies, distinct)
    source = StatSource(db, query.filter, ranges, dimensions)
    found = found_of(source, query)
    if found.kept is not None:
        latencies = latencies and latencies.merged(set(found.kept))
    return _Answer(found, latencies, distinct_of(source, query, found.kept) if query.distinct else None)


def _extent(db: apsw.Connection, query: StatQuery, tz: ZoneInfo, dimensions: dict[Dimension, int] | None) -> Range:
    def days() -> Range:
        return (0, 0) if dimensions is None else whole_days(db, query.filter, dimensions)

    return extent(query.filter, query.granularity, tz, days)


def _present(db: apsw.Connection, query: StatQuery, ranges: list[Range], answer: _Answer) -> Stats:
    cells, latencies = answer.sums.cells, answer.latencies
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
        start, end = map(format_time, ranges[index])
        others = answer.sums.groups - len(groups) if group == OTHERS else UNSET
        fields = answer.of((index, group))
        found.append(StatBucket(start=start, end=end, group=shown[group], others=others, **fields))
    return Stats(
        buckets=found,
        totals=answer.totals(),
        groups=UNSET if query.top is None else answer.sums.groups,
        percentiles=UNSET if latencies is None else Percentiles(source=latencies.source, relative_error=RELATIVE_ERROR),
    )


def _fill(cells: dict[Cell, Sums], buckets_: int, groups: Sequence[tuple[int, ...]]) -> None:
    if buckets_ * len(groups) > CELLS_MAX:
        raise InvalidInput(errors=(FieldError("$.fill", f"Expected at most {CELLS_MAX} cells"),))
    for index in range(buckets_):
        for group in groups:
            cells.setdefault((index, group), list(NOTHING))


def _fields(sums: Sums) -> dict[str, Any]:
    """The fields of sums."""
    fields: dict[str, Any] = dict(zip(MEASURES, sums, strict=True))
    cost_e10 = fields.pop("cost_credits") * CREDIT_E10 + fields.pop("cost_rest_e10")
    vendor_e10 = fields.pop("vendor_cost_credits") * CREDIT_E10 + fields.pop("vendor_cost_rest_e10")
    seconds_e6 = fields.pop("seconds_e6")
    return {
        **fields,
        "failed": fields["calls"] - fields["succeeded"],
        "seconds": format_scaled(seconds_e6, SECONDS_DECIMALS),
        "cost": format_scaled(cost_e10, COST_DECIMALS),
        "vendor_cost": format_scaled(vendor_e10, COST_DECIMALS),
    }
