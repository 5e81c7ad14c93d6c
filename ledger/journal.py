"""The journal: append at the head, read in order. The only code that writes `events` and `journal_head`."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import apsw
import msgspec
from msgspec import Struct

from ledger import tree
from projections.bulk import Value, insert_flat, row_of
from schema.entry import Recorded
from schema.event import decode
from schema.ids import subject_keys

PAGE_EVENTS_MAX = 1_000
PAGE_BYTES_MAX = 8 * 1024 * 1024
SCAN_EVENTS_MAX = 50_000
RANGE_IDS_MAX = 2  # ids of a range that are read for each one looked up; where there are more, each is sought
_COLUMNS = ("position", "source", "id", "type", "subject", "time", "entry", "leaf_hash")
# A thing's first event, and those whose ids are `<id>/<verb>`: "0" follows "/". Beside it positions have a plus, which
# keeps the planner from going along them through all events that follow.
_OF_A_THING = "source = ?1 AND (id = ?2 OR id > ?2 || '/' AND id < ?2 || '0')"


class Head(Struct):
    """The end of the journal: its size, the time of its last entry, and the tree's right edge."""

    size: int
    recorded_at_us: int
    edge: list[bytes]


class Line(Struct, frozen=True):
    """One stored entry, as it is."""

    position: int
    entry: str


class Page(Struct, frozen=True):
    """Some entries in order, and the position after which to go on (past filtered ones too)."""

    lines: list[Line]
    next_after: int


def read_head(db: apsw.Connection) -> Head:
    """The head as of this transaction."""
    row: Any = db.execute("SELECT size, recorded_at_us, right_edge FROM journal_head").fetchone()
    size, recorded_at_us, edge = row
    return Head(size, recorded_at_us, tree.unpack(edge))


def head_position(db: apsw.Connection) -> int:
    """The last position, 0 in an empty ledger."""
    return db.execute("SELECT size FROM journal_head").get or 0


def append(db: apsw.Connection, head: Head, events: Sequence[Recorded], entries: Sequence[bytes]) -> None:
    """Append events at head.size + 1 and on, with their encoded entries; moves the head, in memory and in the file."""
    leaves = [tree.leaf_hash(entry) for entry in entries]
    values: list[Value] = []
    for e, entry, leaf in zip(events, entries, leaves, strict=True):
        values += (e.position, e.source, e.id, e.type, e.subject, e.time_us, entry.decode(), leaf)
    insert_flat(db, f"INSERT INTO events ({', '.join(_COLUMNS)})", row_of(len(_COLUMNS)), values)
    head.size = tree.extend(head.size, head.edge, leaves)
    head.recorded_at_us = events[-1].recorded_at_us
    db.execute(
        "UPDATE journal_head SET size = ?, recorded_at_us = ?, right_edge = ?",
        (head.size, head.recorded_at_us, tree.pack(head.edge)),
    )


def lookup(db: apsw.Connection, keys: Sequence[tuple[str, str]]) -> Iterator[Recorded]:
    """The events with these (source, id); the cost is that of the keys, however long the history is.

    Ids that grow with time have few others between them: reading all from the least to the greatest takes one seek, and
    nearly always finds nothing. Keys that are not there are done with; where there is too much to read, each is sought.
    """
    if not keys:
        return
    between = _between(db, [id_ for _, id_ in keys], RANGE_IDS_MAX * len(keys))
    possible = keys if between is None else [key for key in keys if key in between]
    if not possible:
        return
    query = (
        "SELECT e.position, e.type, e.entry FROM json_each(?) k "
        "CROSS JOIN events e ON e.id = k.value ->> 1 AND e.source = k.value ->> 0"
    )
    for position, type_, entry in db.execute(query, (msgspec.json.encode(possible).decode(),)):
        yield decode(position, type_, entry)


def _between(db: apsw.Connection, ids: Sequence[str], limit: int) -> set[tuple[str, str]] | None:
    """The (source, id) from the first to the last of these ids; None where there are too many to read."""
    # Ids are ASCII, so Python orders them as SQLite does.
    query = "SELECT source, id FROM events WHERE id BETWEEN ? AND ? LIMIT ?"
    rows = cast("list[tuple[str, str]]", db.execute(query, (min(ids), max(ids), limit)).fetchall())
    return None if len(rows) == limit else set(rows)


def sources_of(db: apsw.Connection, id_: str, limit: int) -> list[str]:
    """The sources of apps that have an event of this id, at most so many."""
    query = "SELECT source FROM events WHERE id = ? AND source > '/apps/' AND source < '/apps0' LIMIT ?"
    return [source for (source,) in db.execute(query, (id_, limit))]


def leaf_hashes(db: apsw.Connection, events: Sequence[Recorded]) -> list[bytes | None]:
    """The stored leaf hash of each event's (source, id), None where it is not in the journal."""
    query = "SELECT leaf_hash FROM events WHERE source = ? AND id = ?"
    return [db.execute(query, (event.source, event.id)).get for event in events]


def read(db: apsw.Connection, after: int, limit: int) -> list[Recorded]:
    """Decoded events after a position, in order."""
    query = "SELECT position, type, entry FROM events WHERE position > ? ORDER BY position LIMIT ?"
    return [decode(*row) for row in db.execute(query, (after, limit))]


def page(db: apsw.Connection, after: int, limit: int, type_: str | None = None, subject: str | None = None) -> Page:
    """Stored entries after a position. Bounded by number, bytes and, under a type filter, rows scanned."""
    if subject is not None:
        return _subject_page(db, after, limit, type_, subject)
    head = head_position(db)
    until = min(head, after + (SCAN_EVENTS_MAX if type_ else limit))
    query = "SELECT position, entry FROM events WHERE position > ? AND position <= ?"
    bindings: tuple[object, ...] = (after, until)
    if type_ is not None:
        query += " AND type = ?"
        bindings = (*bindings, type_)
    lines = _take(db.execute(query + " ORDER BY position LIMIT ?", (*bindings, limit)))
    full = len(lines) == limit or _bytes(lines) >= PAGE_BYTES_MAX
    return Page(lines, lines[-1].position if full and lines else max(until, after))


def _subject_page(db: apsw.Connection, after: int, limit: int, type_: str | None, subject: str) -> Page:
    keys = subject_keys(subject)
    if keys is None:
        return Page([], after)
    query = (
        f"SELECT position, entry FROM events WHERE {_OF_A_THING} "
        "AND +position > ?3 AND (?4 IS NULL OR type = ?4) AND subject = ?5 ORDER BY +position LIMIT ?6"
    )
    lines = _take(db.execute(query, (*keys, after, type_, subject, limit)))
    return Page(lines, lines[-1].position if lines else after)


def _take(rows: Iterable[tuple[int, str]]) -> list[Line]:
    lines: list[Line] = []
    size = 0
    for position, entry in rows:
        lines.append(Line(position, entry))
        size += len(entry)
        if size >= PAGE_BYTES_MAX:
            break
    return lines


def _bytes(lines: list[Line]) -> int:
    return sum(len(line.entry) for line in lines)


def events_of(
    db: apsw.Connection, source: str, id_: str, since: int = 0, limit: int = PAGE_EVENTS_MAX
) -> list[Recorded]:
    """The events of one thing from a position on, in order: its first has the thing's id, later ones `<id>/<verb>`."""
    query = (
        f"SELECT position, type, entry FROM events WHERE {_OF_A_THING} AND +position >= ?3 ORDER BY +position LIMIT ?4"
    )
    return [decode(*row) for row in db.execute(query, (source, id_, since, limit))]


def entries_at(db: apsw.Connection, positions: Sequence[int]) -> list[str]:
    """The stored entries at these positions, in the order given."""
    query = "SELECT entry FROM events WHERE position = ?"
    return [entry for position in positions for (entry,) in db.execute(query, (position,))]


def at(db: apsw.Connection, positions: Sequence[int]) -> list[Recorded]:
    """The events at these positions, in the order given."""
    query = "SELECT e.position, e.type, e.entry FROM carray(?) c CROSS JOIN events e ON e.position = c.value"
    if not positions:
        return []
    found = {row[0]: decode(*row) for row in db.execute(query, (apsw.carray(_int64(positions)),))}
    return [found[position] for position in positions]


def _int64(values: Sequence[int]) -> "array[int]":
    return array("q", values)
