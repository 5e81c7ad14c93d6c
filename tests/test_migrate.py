"""Migrations: forward only, each once and whole, and a file that is newer or changed is refused."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import apsw
import pytest

from ledger.database import open_writer
from ledger.migrate import Migration, migrate, shipped, statements, status
from schema.errors import MigrationChanged, NewerFile
from tests.histories import NOON_US, Row, select

FIRST = Migration(1, "first", "CREATE TABLE a (x INTEGER);\nCREATE TABLE IF NOT EXISTS b (y INTEGER);\n")
SECOND = Migration(
    2,
    "second",
    "-- A column, with why it is there; and more.\nALTER TABLE a ADD COLUMN z TEXT;\nINSERT INTO b VALUES (1);\n",
)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_writer(tmp_path / "ledger.db")
    yield connection
    connection.close()


def schema_of(db: apsw.Connection) -> list[Row]:
    return select(db, "SELECT name, sql FROM sqlite_schema ORDER BY name")


def test_a_second_run_does_nothing(db: apsw.Connection) -> None:
    """What ran is not run again, and keeps the time it ran."""
    assert migrate(db, NOON_US) == shipped()
    before = schema_of(db)
    assert migrate(db, NOON_US + 1) == []
    assert schema_of(db) == before
    assert {each.applied_at for each in status(db)} == {"2026-11-22T12:00:00.000000Z"}


def test_what_is_new_runs_in_order(db: apsw.Connection) -> None:
    """Only pending migrations run, in the order of their numbers."""
    assert migrate(db, NOON_US, [FIRST]) == [FIRST]
    assert migrate(db, NOON_US, [FIRST, SECOND]) == [SECOND]
    assert db.execute("SELECT number, name FROM migrations").fetchall() == [(1, "first"), (2, "second")]
    assert db.execute("SELECT x, z FROM a").fetchall() == []


def test_the_shipped_ones_run_again_over_what_they_made(db: apsw.Connection) -> None:
    """Every shipped statement tolerates a half-run: all of them over again change nothing."""
    migrate(db, NOON_US)
    before = schema_of(db)
    db.execute("DELETE FROM migrations")
    assert migrate(db, NOON_US) == shipped()
    assert schema_of(db) == before
    assert db.execute("SELECT count(*) FROM journal_head").get == 1


def test_status_before_and_after(db: apsw.Connection) -> None:
    """A file without a ledger has every migration pending."""
    assert {each.applied_at for each in status(db)} == {None}
    migrate(db, NOON_US)
    assert [each.number for each in status(db)] == [step.number for step in shipped()]


def test_an_edited_migration_is_noticed(db: apsw.Connection) -> None:
    """A shipped text that differs from what ran on this file is refused, before anything is touched."""
    migrate(db, NOON_US, [FIRST])
    before = schema_of(db)
    edited = Migration(1, "first", FIRST.sql + " ")
    with pytest.raises(MigrationChanged, match="first"):
        migrate(db, NOON_US, [edited, SECOND])
    assert schema_of(db) == before


def test_a_newer_file_is_refused(db: apsw.Connection) -> None:
    """A file on which newer software ran a migration is not opened by older."""
    migrate(db, NOON_US, [FIRST, SECOND])
    with pytest.raises(NewerFile, match="second"):
        migrate(db, NOON_US, [FIRST])


def test_a_column_left_behind_is_kept(db: apsw.Connection) -> None:
    """ADD COLUMN of a column that a half-run left is passed over, and the rest runs."""
    migrate(db, NOON_US, [FIRST])
    db.execute("ALTER TABLE a ADD COLUMN z TEXT")
    assert migrate(db, NOON_US, [FIRST, SECOND]) == [SECOND]
    assert db.execute("SELECT count(*) FROM b").get == 1


def test_a_table_left_behind_is_kept(db: apsw.Connection) -> None:
    """A table that a half-run left, with its rows, is kept."""
    db.execute("CREATE TABLE b (y INTEGER)")
    db.execute("INSERT INTO b VALUES (7)")
    migrate(db, NOON_US, [FIRST])
    assert db.execute("SELECT y FROM b").get == 7


def test_a_failing_statement_takes_its_migration_back(db: apsw.Connection) -> None:
    """A migration is whole or not at all; those before it stay, and a mended one runs later."""
    broken = Migration(2, "second", "CREATE TABLE c (x INTEGER);\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(apsw.SQLError, match="nowhere"):
        migrate(db, NOON_US, [FIRST, broken])
    assert not db.in_transaction
    assert [name for name, _ in schema_of(db)] == ["a", "b", "migrations"]
    assert migrate(db, NOON_US, [FIRST, SECOND]) == [SECOND]


def test_many_at_once_run_each_migration_once(tmp_path: Path) -> None:
    """Processes that open a fresh file at the same instant end with each migration run by one of them."""
    together = Barrier(6)

    def run(file: str) -> int:
        together.wait()
        db = open_writer(tmp_path / file)
        try:
            return len(migrate(db, NOON_US))
        finally:
            db.close()

    with ThreadPoolExecutor(6) as threads:
        for n in range(10):
            assert sum(threads.map(run, [f"{n}.db"] * 6)) == len(shipped())


def test_a_slower_process_finds_the_work_done(db: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever found a migration pending looks again under the write lock, and leaves what another has run since."""
    migrate(db, NOON_US, [FIRST])

    def nothing_applied(*_: object) -> set[int]:
        return set()

    monkeypatch.setattr("ledger.migrate._check", nothing_applied)
    assert migrate(db, NOON_US, [FIRST]) == []


def test_a_trigger_is_one_statement() -> None:
    """A script is cut at the ends of statements, not at semicolons inside a trigger or a text."""
    script = (
        "-- Why; and so on.\nCREATE TABLE a (x TEXT DEFAULT ';');\n"
        "CREATE TRIGGER t BEFORE DELETE ON a\nBEGIN\n    SELECT 1;\n    SELECT 2;\nEND;\n\n-- the end"
    )
    found = statements(script)
    assert len(found) == 3
    assert found[1].rstrip().endswith("END;")
    assert "".join(found) == script


def test_migrations_are_numbered_without_a_gap() -> None:
    """The shipped files are 1, 2, 3 … and each has its own checksum."""
    found = shipped()
    assert [step.number for step in found] == list(range(1, len(found) + 1))
    assert len({step.checksum for step in found}) == len(found)
