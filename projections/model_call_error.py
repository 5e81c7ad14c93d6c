"""Why calls failed: read from the cells that are kept by reason.

Filters that cells do not keep are answered from the calls themselves, newest first and no further than a bound.
"""

from bisect import bisect_right
from collections import Counter
from typing import cast
from zoneinfo import ZoneInfo

import apsw
from msgspec import Struct

from projections.bucket import Range, buckets, zone
from projections.call_filter import all_of, conditions, dimension_ids
from projections.model_call_failure import CELLS, DIMENSIONS, FAILED, REASON, ROLLUPS, tail
from projections.model_call_list import NEWEST, scan_of
from projections.model_call_stat_rows import Kept, StatSource, data_range, extent
from projections.model_call_stat_top import CELLS_MAX
from schema.errors import FieldError, InvalidInput
from schema.model_call_query import CallErrors, CallFilter, Dimension, Granularity, ReasonBucket, ReasonCount
from schema.times import DAY_US, format_time

ERROR_SCAN_ROWS_MAX = 200_000
_FAILURES = Kept(CELLS, ROLLUPS, DIMENSIONS, (FAILED, ()), {"reason": REASON, "calls": "1"}, tail)
_OTHERS = None  # stands for all reasons that are not told apart


class ErrorQuery(Struct, frozen=True, kw_only=True):
    """Failed calls by reason; `top` reasons stay apart."""

    filter: CallFilter
    granularity: Granularity = "total"
    timezone: str = "UTC"
    top: int = 10


class _Found(Struct):
    """Failed calls: of the reasons told apart, most frequent first; of all `reasons`; by bucket and reason.

    `since_us`: where looking at calls stopped, if it did not reach the end of the range.
    """

    ranges: list[Range]
    kept: dict[str, int]
    reasons: int
    failed: int
    cells: dict[tuple[int, str | None], int]
    since_us: int | None = None


def read_errors(db: apsw.Connection, query: ErrorQuery, *, folded: bool = True) -> CallErrors:
    """The failed calls of a range. Raises InvalidInput for a zone, too many buckets or too large an answer.

    `folded`: whether the cells are up to date; if not, calls are looked at.
    """
    tz = zone(query.timezone)
    dimensions = dimension_ids(db, query.filter)
    if dimensions is None:  # a name that no call has
        return _present(_Found(_ranges(query, tz, (0, 0)), {}, 0, 0, {}))
    kept = folded and not query.filter.needs_calls() and dimensions.keys() <= set(DIMENSIONS)
    return _present((_of_cells if kept else _of_calls)(db, query, tz, dimensions))


def _ranges(query: ErrorQuery, tz: ZoneInfo, days: Range) -> list[Range]:
    return buckets(*extent(query.filter, query.granularity, tz, lambda: days), query.granularity, tz)


def _of_cells(db: apsw.Connection, query: ErrorQuery, tz: ZoneInfo, dimensions: dict[Dimension, int]) -> _Found:
    ranges = _ranges(query, tz, data_range(db, _FAILURES, dimensions))
    if not ranges:
        return _Found(ranges, {}, 0, 0, {})
    whole = StatSource(db, query.filter, [(ranges[0][0], ranges[-1][1])], dimensions, _FAILURES)
    ranked = whole.rows(("reason",), ("calls",)).select(
        db,
        "reason, sum(calls), count(*) OVER (), sum(sum(calls)) OVER ()",
        "GROUP BY reason HAVING sum(calls) <> 0 ORDER BY sum(calls) DESC, reason LIMIT ?",
        (query.top,),
    )
    if not ranked:
        return _Found(ranges, {}, 0, 0, {})
    kept = {cast("str", reason): calls for reason, calls, _, _ in ranked}
    rows = StatSource(db, query.filter, ranges, dimensions, _FAILURES).rows(("reason",), ("calls",))
    cells = rows.run(
        db,
        f"SELECT i, iif(reason IN ({','.join('?' * len(kept))}), reason, NULL), sum(calls) "
        f"FROM ({rows.arms}) GROUP BY 1, 2 HAVING sum(calls) <> 0 LIMIT {CELLS_MAX + 1}",
        (*kept, *rows.bound),
    )
    found = {(index, cast("str | None", reason)): calls for index, reason, calls in cells}
    _, _, reasons, failed = ranked[0]
    return _Found(ranges, kept, reasons, failed, found)


def _of_calls(db: apsw.Connection, query: ErrorQuery, tz: ZoneInfo, dimensions: dict[Dimension, int]) -> _Found:
    where, bound = all_of([(FAILED, ()), *conditions(query.filter, dimensions)])
    scan, scan_bound = scan_of(query.filter, NEWEST, ERROR_SCAN_ROWS_MAX)
    sql = f"SELECT started_at_us, {REASON} FROM ({scan}) WHERE {where}"
    rows = cast("list[tuple[int, str]]", db.execute(sql, (*scan_bound, *bound)).fetchall())
    last = f"SELECT started_at_us FROM ({scan}) LIMIT 1 OFFSET {ERROR_SCAN_ROWS_MAX - 1}"
    days = {at // DAY_US * DAY_US for at, _ in rows}
    ranges = _ranges(query, tz, (min(days), max(days) + DAY_US) if days else (0, 0))
    counts = Counter(reason for _, reason in rows)
    kept = sorted(counts, key=lambda reason: (-counts[reason], reason))[: query.top]
    told, starts = set(kept), [start for start, _ in ranges]
    cells = Counter((bisect_right(starts, at) - 1, reason if reason in told else _OTHERS) for at, reason in rows)
    since_us = db.execute(last, scan_bound).get
    return _Found(ranges, {each: counts[each] for each in kept}, len(counts), len(rows), cells, since_us)


def _present(found: _Found) -> CallErrors:
    if len(found.cells) > CELLS_MAX:
        message = f"Expected at most {CELLS_MAX} buckets times reasons; narrow the query or lower `top`"
        raise InvalidInput(errors=(FieldError("$.top", message),))
    others = found.reasons - len(found.kept)
    reasons = [ReasonCount(reason=reason or None, calls=calls) for reason, calls in found.kept.items()]
    if others:
        rest = found.failed - sum(found.kept.values())
        reasons.append(ReasonCount(reason=None, calls=rest, others=others))
    rank: dict[str | None, int] = {reason: n for n, reason in enumerate(found.kept)}
    shown: list[ReasonBucket] = []
    for index, reason in sorted(found.cells, key=lambda cell: (cell[0], rank.get(cell[1], len(rank)))):
        start, end = map(format_time, found.ranges[index])
        each = ReasonBucket(start=start, end=end, reason=reason or None, calls=found.cells[index, reason])
        each.others = others if reason is _OTHERS else 0
        shown.append(each)
    since = None if found.since_us is None else format_time(found.since_us)
    return CallErrors(reasons=reasons, buckets=shown, failed=found.failed, since=since)
