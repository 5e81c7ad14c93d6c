"""Checking the journal: positions, hashes, columns against entries, and the head against all of them."""

from collections.abc import Iterator

import apsw
import msgspec
from msgspec import Struct

from ledger import journal, tree
from ledger.rebuild import Progress
from ops.faults import Faults
from schema.times import parse_time

EVENTS = "events"
HEAD = "journal_head"
PROGRESS_ENTRIES = 5_000

# As bytes, because a flipped bit may leave text that is no UTF-8.
_ROWS = (
    "SELECT position, CAST(source AS BLOB), CAST(id AS BLOB), CAST(type AS BLOB), CAST(subject AS BLOB), time, "
    "CAST(entry AS BLOB), leaf_hash FROM events ORDER BY position"
)
Row = tuple[int, bytes, bytes, bytes, bytes, int, bytes | None, bytes]  # a damaged page may give anything


class JournalCheck(Struct):
    """The journal as its head says; `root` is the tree's, in hex."""

    size: int = 0
    root: str = ""
    recorded_at: str | None = None


class _Envelope(Struct):
    """What an entry says of itself."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    sequence: str
    recordedtime: str


_decode = msgspec.json.Decoder(_Envelope).decode


def check_journal(db: apsw.Connection, check: JournalCheck, faults: Faults, progress: Progress) -> None:
    """Read every entry back; `check` is filled from the head first, so that it stands even if reading fails."""
    head = journal.read_head(db)
    check.size, check.root = head.size, tree.root(head.edge).hex()
    walk = _Walk(head, faults)
    for row in _rows(db, faults):
        walk.take(row)
        if row[0] % PROGRESS_ENTRIES == 0:
            progress("entries", row[0], head.size)
    walk.finish()
    check.recorded_at = walk.recorded_at or None
    progress("entries", head.size, head.size)


def _rows(db: apsw.Connection, faults: Faults) -> Iterator[Row]:
    """All rows; where the file cannot be read on, that place is a fault."""
    position = 0
    try:
        for row in db.execute(_ROWS):
            position = row[0]
            yield row
    except apsw.Error as error:
        faults.add(EVENTS, f"cannot be read from here on: {error}", position=position + 1)


class _Walk:
    """Goes through the journal in order."""

    def __init__(self, head: journal.Head, faults: Faults) -> None:
        self.head = head
        self.faults = faults
        self.next = 1
        self.recorded_at = ""
        self.edge: list[bytes] | None = []  # None once it can no longer be compared

    def take(self, row: Row) -> None:
        position, entry, stored = row[0], row[6], row[7]
        self._take_position(position)
        if not isinstance(entry, bytes):
            self._fault(position, "the entry is not text")
            self.edge = None
            return
        leaf = tree.leaf_hash(entry)
        if leaf != stored:
            self._fault(position, "the entry does not hash to its leaf_hash: one of them was changed")
            self.edge = None
        if self.edge is not None:
            tree.extend(position - 1, self.edge, (leaf,))
        try:
            self._compare(row, _decode(entry))
        except (msgspec.MsgspecError, ValueError) as error:
            self._fault(position, f"the entry is not as entries are: {error}")

    def _take_position(self, position: int) -> None:
        if position > self.head.size or position < 1:
            self._fault(position, f"an extra row: the journal has positions 1 to {self.head.size}")
            self.edge = None
            self.next = max(self.next, position + 1)
            return
        if position > self.next:
            self._missing(position - 1)
        self.next = position + 1

    def _missing(self, last: int) -> None:
        rows = "the row is missing" if last == self.next else f"rows up to {last} are missing"
        self._fault(self.next, rows)
        self.edge = None

    def _compare(self, row: Row, entry: _Envelope) -> None:
        position, source, id_, type_, subject, time_us, _, _ = row
        columns = (
            ("source", source, entry.source.encode()),
            ("id", id_, entry.id.encode()),
            ("type", type_, entry.type.encode()),
            ("subject", subject, entry.subject.encode()),
            ("time", time_us, parse_time(entry.time)),
            ("position", str(position), entry.sequence),
        )
        for name, column, said in columns:
            if column != said:
                self._fault(position, f"the column {name} differs from the entry")
        if entry.recordedtime < self.recorded_at:
            self._fault(position, f"recorded at {entry.recordedtime}, before the entry that precedes it")
        self.recorded_at = max(self.recorded_at, entry.recordedtime)

    def finish(self) -> None:
        """Compare the end with the head."""
        if self.next <= self.head.size:
            self._missing(self.head.size)
        if self.edge is None:
            return
        if self.edge != self.head.edge:
            first, last = _differing_range(self.head.size, self.edge, self.head.edge)
            problem = f"entries {first} to {last} do not hash to the stored tree: one was replaced with its leaf_hash"
            self.faults.add(HEAD, problem, position=first)
        if self.recorded_at and parse_time(self.recorded_at) != self.head.recorded_at_us:
            self.faults.add(HEAD, "recorded_at_us is not the last entry's time", position=self.head.size)

    def _fault(self, position: int, problem: str) -> None:
        self.faults.add(EVENTS, problem, position=position)


def _differing_range(size: int, edge: list[bytes], stored: list[bytes]) -> tuple[int, int]:
    """The first and last position under the first subtree that differs; the edge has one hash a set bit of the size."""
    first = 1
    bits = [bit for bit in range(size.bit_length() - 1, -1, -1) if size >> bit & 1]
    for index, bit in enumerate(bits):
        if index >= len(stored) or edge[index] != stored[index]:
            return first, first + (1 << bit) - 1
        first += 1 << bit
    return 1, size
