"""Copying a ledger while it is written, and putting a copy in its place.

A backup is one read snapshot, copied page by page with SQLite's online backup. Left to itself that starts over
whenever another connection commits, and under constant load it never ends; a read transaction held on the source for
its whole length keeps the pages as they were, so it takes as long as the file is big. Until then the WAL grows by what
is written. The copy holds what the file holds: never the master key, which is a file of its own.

The live file is never opened other than by SQLite: closing any handle to it would drop this process's locks on it.
"""

import os
import shutil
from pathlib import Path

import apsw
from msgspec import Struct

from ledger import journal, lock
from ledger.database import open_reader, snapshot
from ledger.keyring import Keyring
from ledger.ledger import LEDGER_FILE
from ledger.rebuild import Progress, quiet
from ops.durable import sync_directory, sync_file
from ops.faults import Faults
from ops.seal import seal, unseal
from ops.verify import Report, open_copy, verify_copy
from ops.verify_data_keys import DATA_KEYS, unreadable
from ops.verify_journal import JournalCheck, check_journal
from projections import state_hash
from projections.engine import checkpoints, registry
from schema.errors import BadBackup, FileExists, LedgerBusy, LedgerError, NotFound
from schema.times import format_time

PAGES_PER_STEP = 4_096
PART = ".part"
RESTORING = f"{LEDGER_FILE}.restoring"
BEFORE = f"{LEDGER_FILE}.before-restore"
WAL, SHARED_MEMORY = "-wal", "-shm"


class Backup(Struct, kw_only=True):
    """A verified copy: how many entries it holds and what they hash to."""

    path: str
    size: int
    root: str
    bytes: int


class Restored(Struct, kw_only=True):
    """What is in place now, and where the ledger that was there before is kept.

    `unreadable` tells which secrets cannot be read with the master keys at hand.
    """

    size: int
    root: str
    before: str | None
    size_before: int | None
    unreadable: list[str]


def backup(path: Path, to: Path, progress: Progress = quiet) -> Backup:
    """Copy a ledger that may be in use to a new file, read it all back, and only then give it its name."""
    if to.exists():
        raise FileExists(f"{to} exists")
    part = to.with_name(to.name + PART)
    _remove(part)
    source = open_reader(path)
    try:
        with snapshot(source):
            _copy_pages(source, part, progress)
            sync_file(part)
            check = _check_copy(source, part, progress)
    except BaseException:
        for leftover in ("", "-journal", "-wal", "-shm"):
            part.with_name(part.name + leftover).unlink(missing_ok=True)
        raise
    finally:
        source.close()
    _give_name(part, to)
    return Backup(path=str(to), size=check.size, root=check.root, bytes=to.stat().st_size)


def _give_name(part: Path, to: Path) -> None:
    """A link, unlike a rename, does not replace a file that has appeared meanwhile; some file systems have none."""
    try:
        os.link(part, to)
    except FileExistsError:
        raise FileExists(f"{to} exists") from None
    except OSError:
        part.rename(to)
    else:
        part.unlink()
    sync_directory(to.parent)


def _copy_pages(source: apsw.Connection, part: Path, progress: Progress) -> None:
    copy = apsw.Connection(str(part))
    try:
        with copy.backup("main", source, "main") as pages:
            while not pages.done:
                pages.step(PAGES_PER_STEP)
                progress("pages", pages.page_count - pages.remaining, pages.page_count)
        # One file without companions: it can be read from read-only media and moved alone.
        copy.pragma("journal_mode", "delete")
    finally:
        copy.close()
    seal(part)


def _check_copy(source: apsw.Connection, part: Path, progress: Progress) -> JournalCheck:
    """Re-hash the copy's journal and compare its projections with the snapshot's; raises BadBackup."""
    faults, check = Faults(), JournalCheck()
    copy = open_copy(part)
    try:
        check_journal(copy, check, faults, progress)
        for db in (source, copy):
            state_hash.prepare(db)
        for name in checkpoints(source).keys() & registry().keys():
            if _hash(source, name) != _hash(copy, name):
                faults.add(name, "the copy differs from the ledger")
    finally:
        copy.close()
    if faults.found:
        raise BadBackup(f"{part} is kept for a look, and is no backup: {faults.found[0]}")
    return check


def _hash(db: apsw.Connection, name: str) -> str:
    return state_hash.state_hash(db, registry()[name])


def restore(
    source: Path, data_dir: Path, now_us: int, progress: Progress = quiet, keyring: Keyring | None = None
) -> Restored:
    """Put a backup in the ledger's place; the ledger that was there is kept beside it.

    Raises LedgerBusy while anyone uses the directory, BadBackup before anything is touched. Killed anywhere it can be
    run again: at every instant `ledger.db` is the old ledger whole or the new one whole.
    """
    if not source.is_file():
        raise NotFound(f"there is no file {source}")
    data_dir.mkdir(parents=True, exist_ok=True)
    with lock.exclusive(data_dir):
        report = _bring(source, data_dir / RESTORING, progress)
        lost = [] if keyring is None else _unreadable(data_dir / RESTORING, keyring)
        before, size_before = _set_aside(data_dir, now_us)
        (data_dir / RESTORING).rename(data_dir / LEDGER_FILE)
        sync_directory(data_dir)
    return Restored(
        size=report.size, root=report.root, before=before and str(before), size_before=size_before, unreadable=lost
    )


def _unreadable(draft: Path, keyring: Keyring) -> list[str]:
    """Which secrets stay unreadable under the master keys that are here; none in a file from before there were any."""
    copy = open_copy(draft)
    try:
        return unreadable(copy, keyring) if copy.table_exists("main", DATA_KEYS) else []
    finally:
        copy.close()


def _bring(source: Path, draft: Path, progress: Progress) -> Report:
    """Copy into the directory and verify that copy, so that what was verified is what is put in place."""
    wal = source.with_name(source.name + WAL)
    if wal.exists() and wal.stat().st_size:
        raise BadBackup(f"{wal} holds a part of it: take a copy with `usage-ledger backup`")
    _remove(draft)
    try:
        shutil.copyfile(source, draft)
        whole = unseal(draft)
        sync_file(draft)
        report = verify_copy(draft, progress)
    except BaseException:
        _remove(draft)
        raise
    if not report.ok or not whole:
        _remove(draft)
        # A bit that flipped in a place where nothing is stored still tells of a medium not to be trusted.
        place = report.faults[0] if report.faults else "its bytes are not those that were written"
        raise BadBackup(f"{source}: {place}")
    return report


def _set_aside(data_dir: Path, now_us: int) -> tuple[Path | None, int | None]:
    """Give the old ledger a second name and return it, with its size if it can still be read."""
    ledger = data_dir / LEDGER_FILE
    size = _settle(ledger) if ledger.exists() else None
    before = _free_name(data_dir, now_us)
    linked = False
    for suffix in ("", WAL):
        # A WAL with content is left only where SQLite cannot read the file: kept with it, never beside the new ledger.
        old = ledger.with_name(ledger.name + suffix)
        if old.exists() and (suffix == "" or old.stat().st_size):
            os.link(old, before.with_name(before.name + suffix))
            linked = True
    sync_directory(data_dir)
    for suffix in (WAL, SHARED_MEMORY):
        _remove(ledger.with_name(ledger.name + suffix))
    return (before if linked else None), size


def _settle(ledger: Path) -> int | None:
    """Move what the WAL holds into the file, so that it alone is the whole ledger. None where it is unreadable."""
    try:
        db = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            # Else closing deletes a WAL that SQLite made nothing of, and someone else might.
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
            size = journal.head_position(db)
        finally:
            db.close()
    except apsw.BusyError:
        busy, size = True, 0
    except apsw.Error:
        return None
    if busy:
        raise LedgerBusy("another program has the ledger's file open")
    return size


def _free_name(data_dir: Path, now_us: int) -> Path:
    stamp = format_time(now_us)[:19].replace(":", "") + "Z"
    names = [f"{BEFORE}-{stamp}", *(f"{BEFORE}-{stamp}-{n}" for n in range(2, 1_000))]
    for name in names:
        if not any((data_dir / (name + suffix)).exists() for suffix in ("", WAL)):
            return data_dir / name
    raise LedgerError(f"{data_dir} has too many ledgers set aside at {stamp}")


def _remove(path: Path) -> None:
    """Remove a file of ours, and what SQLite may have left beside it."""
    for suffix in ("", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
