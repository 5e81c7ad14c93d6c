"""Checking a ledger against itself: every entry re-hashed, every projection rebuilt and compared row for row.

All in one read snapshot, so it runs beside a service; while it runs, the WAL is not reset and grows by what is written.
"""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import apsw
import msgspec
from msgspec import Struct

from ledger.database import CACHE_KIB, check_sqlite, open_reader, snapshot
from ledger.keyring import Keyring
from ledger.rebuild import Progress, quiet
from ops.faults import Fault, Faults
from ops.verify_data_keys import check_data_keys
from ops.verify_journal import JournalCheck, check_journal
from ops.verify_leases import check_leases
from ops.verify_projections import ProjectionCheck, check_projections
from ops.verify_reports import check_reports
from ops.verify_schema import check_schema
from schema.errors import LedgerError

FILE = "file"


class Report(Struct, kw_only=True):
    """What was found; `faults` in the order found, the journal's first, at most a bounded number of them."""

    ok: bool
    size: int
    root: str
    recorded_at: str | None
    projections: list[ProjectionCheck]
    faults: list[Fault]
    notes: list[str]


def verify(path: Path, progress: Progress = quiet, keyring: Keyring | None = None) -> Report:
    """Check a ledger that may be in use; with a keyring, also that data keys open."""
    return _verify(lambda: open_reader(path), progress, keyring)


def verify_copy(path: Path, progress: Progress = quiet) -> Report:
    """Check a backup: a file that nobody writes. Nothing is made beside it."""
    return _verify(lambda: open_copy(path), progress)


def open_copy(path: Path) -> apsw.Connection:
    """A read-only connection to a file that nobody writes."""
    check_sqlite()
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    db = apsw.Connection(f"file:{quote(str(path.absolute()))}?immutable=1", flags=flags)
    db.pragma("cell_size_check", 1)
    db.pragma("trusted_schema", 0)
    db.pragma("cache_size", -CACHE_KIB)
    return db


def _verify(connect: Callable[[], apsw.Connection], progress: Progress, keyring: Keyring | None = None) -> Report:
    faults, notes = Faults(), list[str]()
    journal, checks = JournalCheck(), list[ProjectionCheck]()
    try:
        db = connect()
        try:
            with snapshot(db):
                check_schema(db, faults, notes)
                check_journal(db, journal, faults, progress)
                check_projections(db, journal.size, checks, faults, progress)
                check_data_keys(db, keyring, faults, notes)
                check_leases(db, faults, notes)
                check_reports(db, journal.size, faults, notes)
                _check_pages(db, faults, progress)
        finally:
            db.close()
    except (apsw.Error, LedgerError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        faults.add(FILE, f"cannot be read further: {type(error).__name__}: {error}")
    return Report(
        ok=not faults.found,
        size=journal.size,
        root=journal.root,
        recorded_at=journal.recorded_at,
        projections=checks,
        faults=faults.found,
        notes=[*notes, *faults.notes()],
    )


def _check_pages(db: apsw.Connection, faults: Faults, progress: Progress) -> None:
    """SQLite's own look at its structure: pages, cells, indexes against tables."""
    progress("pages", 0, 1)
    for (line,) in db.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            faults.add(FILE, line)
    progress("pages", 1, 1)
