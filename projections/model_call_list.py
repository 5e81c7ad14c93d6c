"""Lists of calls, newest first, by keyset. A filter without an index scans a bounded number of rows a page."""

from typing import Any, cast

import apsw
from msgspec import Struct

from projections.bulk import Value
from projections.call_filter import FINISHED, all_of, conditions, dimension_ids, sources
from schema.model_call_query import DIMENSIONS, CallFilter
from schema.model_call_view import CallRow

SCAN_ROWS_MAX = 50_000
TIME_MAX_US = 2**62

Key = tuple[int, int]
_FILTERED = (*DIMENSIONS, "id", "request_id", "trace_id", "error_code", "error_message", "duration_ms")
NEWEST: Key = (TIME_MAX_US, TIME_MAX_US)


_COLUMNS = ", ".join(("started_at_us", *(field for field in CallRow.__struct_fields__), *_FILTERED))


class CallRows(Struct, frozen=True):
    """The calls found, and the key to go on below, if there may be more."""

    rows: list[CallRow]
    next_key: Key | None


def find_call(db: apsw.Connection, position: int, as_of: int | None = None) -> CallRow | None:
    """A call by the position of its first event, as it is or was known at another; None where it was not yet."""
    columns = ", ".join(CallRow.__struct_fields__)
    query = (
        f"SELECT {columns} FROM model_calls WHERE position = ?1 AND (?2 IS NULL OR rated <= ?2) UNION ALL "
        f"SELECT {columns} FROM model_call_versions WHERE position = ?1 AND rated <= ?2 AND until > ?2"
    )
    rows = cast("list[Any]", db.execute(query, (position, as_of)).fetchall())
    return CallRow(*rows[0]) if rows else None


def list_calls(
    db: apsw.Connection,
    call_filter: CallFilter,
    below: Key,
    limit: int,
    *,
    finished: bool = False,
) -> CallRows:
    """Calls below a key (start in microseconds, position) that match, at most `limit`; `finished` ones, or all."""
    dimensions = dimension_ids(db, call_filter)
    if dimensions is None:
        return CallRows([], None)
    where, bound = all_of([*conditions(call_filter, dimensions), *([FINISHED] if finished else [])])
    scan, scan_bound = scan_of(call_filter, below, SCAN_ROWS_MAX)
    query = (
        f"SELECT started_at_us, {', '.join(CallRow.__struct_fields__)} FROM ({scan}) WHERE {where} "
        "ORDER BY started_at_us DESC, position DESC LIMIT ?"
    )
    rows: list[Any] = db.execute(query, (*scan_bound, *bound, limit)).fetchall()
    found = [CallRow(*row[1:]) for row in rows]
    if len(rows) == limit:
        return CallRows(found, (rows[-1][0], found[-1].position))
    return CallRows(found, _end_of_scan(db, scan, scan_bound))


def scan_of(call_filter: CallFilter, below: Key, rows_max: int) -> tuple[str, tuple[Value, ...]]:
    """The next rows in time order, newest first, that a page may look at."""
    from_us = 0 if call_filter.from_us is None else call_filter.from_us
    to_us = TIME_MAX_US if call_filter.to_us is None else call_filter.to_us
    parts = [
        f"SELECT {_COLUMNS} FROM {table} WHERE started_at_us >= ?1 AND started_at_us < ?2 "
        f"AND (started_at_us, position) < (?3, ?4) AND {which}"
        for table, which in sources(call_filter)
    ]
    order = "ORDER BY started_at_us DESC, position DESC LIMIT ?5"
    return f"{' UNION ALL '.join(parts)} {order}", (from_us, to_us, *below, rows_max)


def _end_of_scan(db: apsw.Connection, scan: str, bound: tuple[Value, ...]) -> Key | None:
    """Where a scan that used up its bound stopped; None if it reached the end of the range."""
    query = f"SELECT started_at_us, position FROM ({scan}) LIMIT 1 OFFSET ?"
    found: list[Any] = db.execute(query, (*bound, SCAN_ROWS_MAX - 1)).fetchall()
    return found[0] if found else None
