"""Lists of calls, newest first, by keyset. A filter without an index scans a bounded number of rows a page."""

from typing import Any

import apsw
from msgspec import Struct

from projections.bulk import Value
from projections.call_filter import all_of, conditions, dimension_ids
from schema.model_call_query import CallFilter

SCAN_ROWS_MAX = 50_000
TIME_MAX_US = 2**62

Key = tuple[int, int]
NEWEST: Key = (TIME_MAX_US, TIME_MAX_US)


class CallRows(Struct, frozen=True):
    """The latest event position of each call found, and the key to go on below, if there may be more."""

    event_positions: list[int]
    next_key: Key | None


def list_calls(db: apsw.Connection, call_filter: CallFilter, below: Key, limit: int) -> CallRows:
    """Calls below a key (start in microseconds, position) that match, at most `limit`."""
    dimensions = dimension_ids(db, call_filter)
    if dimensions is None:
        return CallRows([], None)
    where, bound = all_of(conditions(call_filter, dimensions))
    scan, scan_bound = _scan(call_filter, below)
    query = (
        f"SELECT event_position, started_at_us, position FROM ({scan}) WHERE {where} "
        "ORDER BY started_at_us DESC, position DESC LIMIT ?"
    )
    rows: list[Any] = db.execute(query, (*scan_bound, *bound, limit)).fetchall()
    positions = [row[0] for row in rows]
    if len(rows) == limit:
        return CallRows(positions, (rows[-1][1], rows[-1][2]))
    return CallRows(positions, _end_of_scan(db, scan, scan_bound))


def _scan(call_filter: CallFilter, below: Key) -> tuple[str, tuple[Value, ...]]:
    """The next rows in time order that a page may look at."""
    sql = (
        "SELECT * FROM model_calls WHERE started_at_us >= ? AND started_at_us < ? "
        "AND (started_at_us, position) < (?, ?) ORDER BY started_at_us DESC, position DESC LIMIT ?"
    )
    from_us = 0 if call_filter.from_us is None else call_filter.from_us
    to_us = TIME_MAX_US if call_filter.to_us is None else call_filter.to_us
    return sql, (from_us, to_us, *below, SCAN_ROWS_MAX)


def _end_of_scan(db: apsw.Connection, scan: str, bound: tuple[Value, ...]) -> Key | None:
    """Where a scan that used up its bound stopped; None if it reached the end of the range."""
    query = f"SELECT started_at_us, position FROM ({scan}) LIMIT 1 OFFSET ?"
    found: list[Any] = db.execute(query, (*bound, SCAN_ROWS_MAX - 1)).fetchall()
    return found[0] if found else None
