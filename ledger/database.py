"""Connections to the ledger's file, each with the same asserted settings.

Why each setting is as it is: ops/decisions/0002-sqlite-settings.md.
"""

import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import apsw

from schema.errors import StorageUnavailable, UnsafeSqlite

# For layers that pass a connection on, or answer for its errors, and have no business with the database.
Connection = apsw.Connection
DatabaseError = apsw.Error

Durability = Literal["full", "os"]

SQLITE_VERSION_MIN = (3, 51, 3)  # before it, a checkpoint racing a write could corrupt the file
BUSY_TIMEOUT_MS = 10_000
BUSY_PAUSE_S = 0.005
WAL_AUTOCHECKPOINT_PAGES = 16_000
JOURNAL_SIZE_LIMIT_BYTES = 67_108_864
CACHE_KIB = 65_536
STATEMENTS_CACHED = 512
SYNCHRONOUS = {"full": 2, "os": 1}


def check_sqlite() -> None:
    """Refuse an SQLite that cannot keep the promises."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < SQLITE_VERSION_MIN:
        raise UnsafeSqlite(f"SQLite {apsw.sqlite_lib_version()} is older than 3.51.3")


def open_writer(path: Path, durability: Durability = "full", *, vfs: str | None = None) -> apsw.Connection:
    """A read-write connection in WAL mode; the file is created where there is none."""
    check_sqlite()
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    db = apsw.Connection(str(path), flags=flags, vfs=vfs, statementcachesize=STATEMENTS_CACHED)
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    _enter_wal(db)
    _set(db, "synchronous", SYNCHRONOUS[durability])
    _set(db, "wal_autocheckpoint", WAL_AUTOCHECKPOINT_PAGES)
    _set(db, "journal_size_limit", JOURNAL_SIZE_LIMIT_BYTES)
    _set_common(db)
    return db


def open_reader(path: Path) -> apsw.Connection:
    """A connection that can only read. It opens read-write because WAL readers share memory with writers."""
    check_sqlite()
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=STATEMENTS_CACHED)
    db.set_busy_timeout(BUSY_TIMEOUT_MS)
    _set_common(db)
    _set(db, "query_only", 1)
    return db


def _enter_wal(db: apsw.Connection) -> None:
    """Of processes that turn a new file to WAL at once SQLite refuses all but one, without waiting; so wait here."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            _set(db, "journal_mode", "wal")
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE_S)
        else:
            return


def _set_common(db: apsw.Connection) -> None:
    _set(db, "foreign_keys", 1)
    _set(db, "trusted_schema", 0)
    _set(db, "cell_size_check", 1)
    _set(db, "temp_store", 2)
    _set(db, "cache_size", -CACHE_KIB)
    if db.filename:
        _set(db, "mmap_size", 0)  # with mmap an I/O error is a crash
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)


def _set(db: apsw.Connection, name: str, value: str | int) -> None:
    db.pragma(name, value)
    actual = db.pragma(name)
    if actual != value:
        raise UnsafeSqlite(f"PRAGMA {name} is {actual!r}, not {value!r}")


def delete_securely(db: apsw.Connection) -> None:
    """Overwrite what this connection deletes: a destroyed data key must not stay in a free place of the file."""
    _set(db, "secure_delete", 1)


def sync_recovered(db: apsw.Connection) -> None:
    """Bring to stable storage what the WAL held when it was opened; nobody may be told of it before.

    After a crash between a commit's write and its sync, or after a sync that failed, SQLite shows rows that a power cut
    would still take away. The checkpoint copies them to the database, the commit syncs the WAL.
    """
    with suppress(apsw.BusyError):  # another process is at it
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    db.pragma("user_version", db.pragma("user_version"))


def guard_fork(opened_by: int) -> None:
    """SQLite must not cross a fork, and APSW no longer looks."""
    if os.getpid() != opened_by:
        raise UnsafeSqlite("this process inherited an open ledger; open it anew after a fork")


@contextmanager
def write(db: apsw.Connection) -> Generator[None]:
    """One BEGIN IMMEDIATE … COMMIT. An error inside rolls back; an error of COMMIT is left to the caller."""
    try:
        db.execute("BEGIN IMMEDIATE")
    except apsw.BusyError as error:
        raise StorageUnavailable("another process held the ledger's write lock for too long") from error
    try:
        yield
    except BaseException:
        roll_back(db)
        raise
    db.execute("COMMIT")


def roll_back(db: apsw.Connection) -> None:
    """End the transaction if SQLite has not already ended it."""
    if db.in_transaction:
        db.execute("ROLLBACK")


@contextmanager
def snapshot(db: apsw.Connection) -> Generator[None]:
    """One read transaction: everything read inside belongs to the same moment."""
    db.execute("BEGIN")
    try:
        db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        yield
    finally:
        roll_back(db)
