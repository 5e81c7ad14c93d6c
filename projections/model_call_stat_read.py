"""Statistics: what the sums of a query's rows come to, by bucket and group."""

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import apsw
import msgspec
from msgspec import UNSET

from projections.bucket import Range, buckets, widened, zone
from projections.call_filter import dimension_ids, id_names
from projections.histogram import RELATIVE_ERROR
from projections.model_call_latency_read import Latencies, read_latencies
from projections.model_call_stat import MEASURES
from projections.model_call_stat_rows import StatSource, data_range
from projections.model_call_stat_top import CELLS_MAX, NOTHING, OTHERS, Cell, Found, Sums, found_of
from schema.errors import FieldError, InvalidInput
from schema.model_call_query import Dimension, Percentiles, StatBucket, StatQuery, Stats, StatTotals
from schema.money import COST_DECIMALS, SECONDS_DECIMALS, format_scaled
from schema.times import format_time

_CREDIT_E10 = 10**COST_DECIMALS


def read_stats(db: apsw.Connection, query: StatQuery, *, histograms: bool = True) -> Stats:
    """The statistics of a query. Raises InvalidInput for a zone, a range or a size that is out of bounds.

    `histograms`: whether those are up to date; if not, percentiles are counted from calls.
    """
    tz = zone(query.timezone)
    dimensions = dimension_ids(db, query.filter)
    extent = _extent(db, query, tz, dimensions)
    ranges = buckets(*extent, query.granularity, tz)
    found = _found(db, query, ranges, dimensions)
    latencies = read_latencies(db, query, ranges, dimensions, folded=histograms) if query.percentiles else None
    stats = _present(db, query, ranges, found, latencies)
    if query.compare:
        stats.previous = _previous(db, query, extent, dimensions, histograms=histograms)
    return stats


def _found(
    db: apsw.Connection, query: StatQuery, ranges: list[Range], dimensions: dict[Dimension, int] | None
) -> Found:
    if dimensions is None:  # a name that no call has
        return Found({}, list(NOTHING), 0)
    return found_of(StatSource(db, query.filter, ranges, dimensions), query)


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
    whole = msgspec.structs.replace(query, granularity="total", group_by=(), top=None)
    before = [(start - (end - start), start)] if start < end else []
    found = _found(db, whole, before, dimensions)
    latencies = read_latencies(db, whole, before, dimensions, folded=histograms) if query.percentiles else None
    return StatTotals(**_fields(found.totals, {} if latencies is None else latencies.total()))


def _extent(db: apsw.Connection, query: StatQuery, tz: ZoneInfo, dimensions: dict[Dimension, int] | None) -> Range:
    """The asked range; an open end is that of the whole bucket where the data ends."""
    from_us, to_us = query.filter.from_us, query.filter.to_us
    if from_us is not None and to_us is not None:
        return from_us, to_us
    low, high = (0, 0) if dimensions is None else data_range(db, dimensions)
    if low == high:  # no calls: nothing lies between a given end and an open one
        end = from_us or to_us or 0
        return end, end
    low, high = widened(low, high, query.granularity, tz)
    return low if from_us is None else from_us, high if to_us is None else to_us


def _present(
    db: apsw.Connection, query: StatQuery, ranges: list[Range], sums: Found, latencies: Latencies | None
) -> Stats:
    cells = sums.cells
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
    shown_buckets: list[StatBucket] = []
    for index, group in sorted(cells, key=lambda cell: (cell[0], rank.get(cell[1], 0))):
        fields = _fields(cells[index, group], {} if latencies is None else latencies.of((index, group)))
        start, end = map(format_time, ranges[index])
        others = sums.groups - len(groups) if group == OTHERS else UNSET
        shown_buckets.append(StatBucket(start=start, end=end, group=shown[group], others=others, **fields))
    return Stats(
        buckets=shown_buckets,
        totals=StatTotals(**_fields(sums.totals, {} if latencies is None else latencies.total())),
        groups=UNSET if query.top is None else sums.groups,
        percentiles=UNSET if latencies is None else Percentiles(source=latencies.source, relative_error=RELATIVE_ERROR),
    )


def _fill(cells: dict[Cell, Sums], buckets_: int, groups: Sequence[tuple[int, ...]]) -> None:
    if buckets_ * len(groups) > CELLS_MAX:
        raise InvalidInput(errors=(FieldError("$.fill", f"Expected at most {CELLS_MAX} cells"),))
    for index in range(buckets_):
        for group in groups:
            cells.setdefault((index, group), list(NOTHING))


def _fields(sums: Sums, percentiles: Mapping[str, int | None]) -> dict[str, Any]:
    """The fields of totals."""
    fields: dict[str, Any] = dict(zip(MEASURES, sums, strict=True))
    cost_e10 = fields.pop("cost_credits") * _CREDIT_E10 + fields.pop("cost_rest_e10")
    vendor_e10 = fields.pop("vendor_cost_credits") * _CREDIT_E10 + fields.pop("vendor_cost_rest_e10")
    seconds_e6 = fields.pop("seconds_e6")
    return {
        **fields,
        **percentiles,
        "failed": fields["calls"] - fields["succeeded"],
        "seconds": format_scaled(seconds_e6, SECONDS_DECIMALS),
        "cost": format_scaled(cost_e10, COST_DECIMALS),
        "vendor_cost": format_scaled(vendor_e10, COST_DECIMALS),
    }
