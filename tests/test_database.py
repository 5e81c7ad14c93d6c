"""Connections: every setting that the promises rest on is there, on each kind, and asserted when it is opened."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import get_args

import apsw
import pytest

from ledger import database
from ledger.database import (
    Durability,
    check_sqlite,
    guard_fork,
    open_reader,
    open_writer,
    roll_back,
    snapshot,
    sync_recovered,
    write,
)
from schema.errors import StorageUnavailable, UnsafeSqlite
from tests.disk import Disk

COMMON: dict[str, object] = {
    "journal_mode": "wal", "foreign_keys": 1, "trusted_schema": 0, "cell_size_check": 1, "temp_store": 2,
    "mmap_size": 0, "busy_timeout": 10_000, "cache_size": -65_536,
}  # fmt: skip
WRITER = {**COMMON, "wal_autocheckpoint": 16_000, "journal_size_limit": 67_108_864, "query_only": 0}
OPENED: list[tuple[Callable[[Path], apsw.Connection], dict[str, object]]] = [
    (open_writer, {**WRITER, "synchronous": 2}),
    (lambda path: open_writer(path, "os"), {**WRITER, "synchronous": 1}),
    (open_reader, {**COMMON, "query_only": 1}),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "ledger.db"
    db = open_writer(file)
    db.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)")
    db.close()
    return file


@pytest.mark.parametrize(("open_", "settings"), OPENED, ids=["writer", "writer-os", "reader"])
def test_each_connection_has_its_settings(
    path: Path, open_: Callable[[Path], apsw.Connection], settings: dict[str, object]
) -> None:
    """What a connection of each kind must have set is what SQLite says it has."""
    db = open_(path)
    assert {name: db.pragma(name) for name in settings} == settings
    assert db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1
    assert db.config(apsw.SQLITE_DBCONFIG_DQS_DML, -1) == 0
    assert db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, -1) == 0
    with pytest.raises(apsw.SQLError):
        db.execute('SELECT "no such column"')
    db.close()


def test_the_default_syncs_every_commit(path: Path) -> None:
    """With full durability each commit syncs the WAL; the weaker option syncs none, which is its risk."""
    synced: dict[str, int] = {}
    for durability in get_args(Durability):
        disk = Disk()
        db = open_writer(path, durability, vfs=disk.name)
        db.execute("INSERT INTO t DEFAULT VALUES")
        before = disk.counted.get(("sync", "-wal"), 0)
        for _ in range(3):
            db.execute("INSERT INTO t DEFAULT VALUES")
        synced[durability] = disk.counted.get(("sync", "-wal"), 0) - before
        db.close()
        disk.unregister()
    assert synced == {"full": 3, "os": 0}


def test_a_setting_that_does_not_hold_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite answers a setting with another value the connection is not handed out."""
    monkeypatch.setattr(database, "WAL_AUTOCHECKPOINT_PAGES", "many")
    with pytest.raises(UnsafeSqlite, match="wal_autocheckpoint"):
        open_writer(path)


@pytest.mark.parametrize(
    ("version", "safe"), [("3.51.2", False), ("3.7.0", False), ("3.51.3", True), ("3.100.0", True)]
)
def test_an_unsafe_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch, version: str, *, safe: bool) -> None:
    """Versions before the fix of the WAL-reset bug are refused, compared as numbers."""
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    if safe:
        check_sqlite()
        return
    with pytest.raises(UnsafeSqlite, match=version):
        check_sqlite()


def test_a_reader_cannot_write(path: Path) -> None:
    """A reading connection changes nothing, and never makes a file."""
    db = open_reader(path)
    with pytest.raises(apsw.ReadOnlyError):
        db.execute("INSERT INTO t DEFAULT VALUES")
    db.close()
    with pytest.raises(apsw.CantOpenError):
        open_reader(path.with_name("none.db"))


def test_a_snapshot_stays_at_its_moment(path: Path) -> None:
    """What is read inside a snapshot does not move while others write."""
    reader, writer = open_reader(path), open_writer(path)
    with snapshot(reader):
        writer.execute("INSERT INTO t DEFAULT VALUES")
        assert reader.execute("SELECT count(*) FROM t").get == 0
    with snapshot(reader):
        assert reader.execute("SELECT count(*) FROM t").get == 1
    assert not reader.in_transaction
    reader.close()
    writer.close()


def test_a_write_is_whole_or_nothing(path: Path) -> None:
    """An error inside rolls back everything; without one everything is committed."""
    db = open_writer(path)
    with suppress(ZeroDivisionError), write(db):
        db.execute("INSERT INTO t DEFAULT VALUES")
        raise ZeroDivisionError
    with write(db):
        db.execute("INSERT INTO t VALUES (7)")
    assert db.execute("SELECT x FROM t").fetchall() == [(7,)]
    roll_back(db)
    db.close()


def test_a_held_lock_is_a_retryable_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that cannot get the lock in time says so, and begins nothing."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 1)
    first, second = open_writer(path), open_writer(path)
    with write(first):
        with pytest.raises(StorageUnavailable) as refused, write(second):
            pytest.fail("two writers at once")
        assert refused.value.retryable
    assert not second.in_transaction
    first.close()
    second.close()


def test_a_new_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process is just making is waited for up to the timeout, where SQLite itself gives up."""
    other = apsw.Connection(str(tmp_path / "new.db"))
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    with pytest.raises(apsw.BusyError):
        open_writer(tmp_path / "new.db")
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10_000)
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(open_writer, tmp_path / "new.db")
        time.sleep(0.05)
        other.execute("ROLLBACK")
        opening.result().close()
    other.close()


def test_what_is_recovered_is_synced(tmp_path: Path, path: Path) -> None:
    """After it a power cut leaves what the WAL held when it was opened, though its sync had failed."""
    disk = Disk()
    db = open_writer(path, vfs=disk.name)
    db.execute("INSERT INTO t VALUES (1)")
    disk.fail_wal("sync", 1, 100)
    with pytest.raises(apsw.IOError):
        db.execute("INSERT INTO t VALUES (2)")
    with suppress(apsw.IOError):
        db.close(force=True)
    disk.heal()
    counts: list[int | None] = []
    db = open_writer(path, vfs=disk.name)
    for n in range(2):
        cut = apsw.Connection(str(disk.after_power_cut(tmp_path / f"cut-{n}")))
        counts.append(cut.execute("SELECT count(*) FROM t").get)
        cut.close()
        sync_recovered(db)
    assert db.execute("SELECT count(*) FROM t").get == 2
    assert counts == [1, 2]
    db.close()
    disk.unregister()


def test_another_process_may_be_checkpointing(path: Path) -> None:
    """Opening a ledger while another process checkpoints it is no error: the commit alone syncs the WAL."""
    disk = Disk()
    first, second = open_writer(path, vfs=disk.name), open_writer(path)
    first.execute("INSERT INTO t DEFAULT VALUES")
    met: list[str] = []

    def meanwhile(operation: str, file: str, _: int) -> bool:
        if file == "" and not met:
            met.append(operation)
            with pytest.raises(apsw.BusyError):
                second.wal_checkpoint()
            sync_recovered(second)
        return False

    disk.fails = meanwhile
    first.wal_checkpoint()
    assert met
    second.close()
    first.close()
    disk.unregister()


def test_a_fork_is_noticed() -> None:
    """A connection that another process opened is refused."""
    guard_fork(os.getpid())
    with pytest.raises(UnsafeSqlite, match="fork"):
        guard_fork(os.getpid() + 1)
