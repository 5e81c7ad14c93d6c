"""Why calls failed: counted from the calls themselves, newest first and no further than a bound."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import cast

import apsw
from msgspec import Struct

from projections.bucket import Range, buckets, zone
from projections.call_filter import all_of, conditions, dimension_ids
from projections.model_call_list import NEWEST, scan_of
from schema.model_call_query import CallErrors, CallFilter, Granularity, ReasonBucket, ReasonCount
from schema.times import format_time

ERROR_SCAN_ROWS_MAX = 200_000
_REASON = "coalesce(error_code, iif(status = (SELECT id FROM names WHERE name = 'timed_out'), 'timed_out', NULL))"
_FAILED = "status IN (SELECT id FROM names WHERE name IN ('failed', 'timed_out'))"

Reason = str | None


class ErrorQuery(Struct, frozen=True, kw_only=True):
    """Failed calls by reason; `top` reasons stay apart."""

    filter: CallFilter
    granularity: Granularity = "total"
    timezone: str = "UTC"
    top: int = 10


def read_errors(db: apsw.Connection, query: ErrorQuery) -> CallErrors:
    """The failed calls of a range. Raises InvalidInput for a zone or too many buckets."""
    tz = zone(query.timezone)
    rows, since_us = _failed(db, query.filter)
    counts = Counter(reason for _, reason in rows)
    kept = sorted(counts, key=lambda reason: (-counts[reason], reason or ""))[: query.top]
    others = len(counts) - len(kept)
    from_us, to_us = query.filter.from_us, query.filter.to_us
    low = from_us if from_us is not None else min((at for at, _ in rows), default=0)
    high = to_us if to_us is not None else max((at for at, _ in rows), default=low - 1) + 1
    ranges = buckets(low, high, query.granularity, tz)
    return CallErrors(
        reasons=[ReasonCount(reason=each, calls=counts[each]) for each in kept] + _rest(counts, kept, others),
        buckets=list(_by_bucket(rows, ranges, kept, others)),
        failed=len(rows),
        since=None if since_us is None else format_time(since_us),
    )


def _failed(db: apsw.Connection, call_filter: CallFilter) -> tuple[list[tuple[int, Reason]], int | None]:
    """Start and reason of each failed call, and where the scan stopped if it did not reach the end of the range."""
    dimensions = dimension_ids(db, call_filter)
    if dimensions is None:
        return [], None
    where, bound = all_of([(_FAILED, ()), *conditions(call_filter, dimensions)])
    scan, scan_bound = scan_of(call_filter, NEWEST, ERROR_SCAN_ROWS_MAX)
    found = db.execute(f"SELECT started_at_us, {_REASON} FROM ({scan}) WHERE {where}", (*scan_bound, *bound)).fetchall()
    last = f"SELECT started_at_us FROM ({scan}) LIMIT 1 OFFSET {ERROR_SCAN_ROWS_MAX - 1}"
    return cast("list[tuple[int, Reason]]", found), db.execute(last, scan_bound).get


def _rest(counts: Counter[Reason], kept: list[Reason], others: int) -> list[ReasonCount]:
    rest = counts.total() - sum(counts[each] for each in kept)
    return [ReasonCount(reason=None, calls=rest, others=others)] if others else []


def _by_bucket(
    rows: list[tuple[int, Reason]], ranges: list[Range], kept: list[Reason], others: int
) -> Iterable[ReasonBucket]:
    rank = {reason: n for n, reason in enumerate(kept)}
    starts = [start for start, _ in ranges]
    cells = Counter((bisect_right(starts, at) - 1, rank.get(reason, len(kept))) for at, reason in rows)
    for (index, n), calls in sorted(cells.items()):
        start, end = ranges[index]
        is_rest = n == len(kept)
        yield ReasonBucket(
            start=format_time(start), end=format_time(end), reason=None if is_rest else kept[n], calls=calls,
            others=others if is_rest else 0,
        )  # fmt: skip
