"""Forward-only migrations: `migrations/NNNN_name.sql`, found in order, each in one transaction, with a checksum."""

import re
from hashlib import sha256
from importlib.resources import files
from typing import Any

import apsw
from msgspec import Struct

from ledger.database import write
from schema.errors import MigrationChanged, NewerFile
from schema.times import format_time

_ADD_COLUMN = re.compile(r"(?:\s|--[^\n]*\n)*ALTER\s+TABLE\s+(\w+)\s+ADD\s+(?:COLUMN\s+)?(\w+)", re.IGNORECASE)


class Migration(Struct, frozen=True):
    """One step of the file's schema."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, so that an edited migration is noticed."""
        return sha256(self.sql.encode()).hexdigest()


class MigrationStatus(Struct, frozen=True):
    """Whether a migration ran, and when."""

    number: int
    name: str
    applied_at: str | None


def shipped() -> list[Migration]:
    """The migrations of this version, in order; a gap or a double raises."""
    found = sorted(
        (entry.name, entry.read_text("utf-8"))
        for entry in files("ledger").joinpath("migrations").iterdir()
        if entry.name.endswith(".sql")
    )
    steps = [Migration(int(name[:4]), name[5:-4], sql) for name, sql in found]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise MigrationChanged("migrations are not numbered 1, 2, 3 …")
    return steps


def migrate(db: apsw.Connection, now_us: int, steps: list[Migration] | None = None) -> list[Migration]:
    """Apply what is pending and return it. Raises NewerFile or MigrationChanged before touching anything."""
    steps = shipped() if steps is None else steps
    with write(db):
        db.execute(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT"
        )
        applied = _check(db, steps)
    pending = [step for step in steps if step.number not in applied]
    return [step for step in pending if _apply(db, step, now_us)]


def status(db: apsw.Connection) -> list[MigrationStatus]:
    """Every shipped migration, with the time it ran."""
    ran: dict[int, str] = {}
    if db.table_exists("main", "migrations"):
        rows: Any = db.execute("SELECT number, applied_at FROM migrations")
        ran = dict(rows)
    return [MigrationStatus(step.number, step.name, ran.get(step.number)) for step in shipped()]


def _check(db: apsw.Connection, steps: list[Migration]) -> set[int]:
    known = {step.number: step for step in steps}
    applied: list[Any] = db.execute("SELECT number, name, checksum FROM migrations ORDER BY number").fetchall()
    for number, name, checksum in applied:
        if number not in known:
            raise NewerFile(f"migration {number} ({name}) is not known to this version")
        if known[number].checksum != checksum:
            raise MigrationChanged(f"migration {number} ({name}) differs from what ran on this file")
    return {number for number, _, _ in applied}


def _apply(db: apsw.Connection, step: Migration, now_us: int) -> bool:
    with write(db):
        # Another process may have been faster between the check and this lock.
        if db.execute("SELECT 1 FROM migrations WHERE number = ?", (step.number,)).get:
            return False
        for statement in statements(step.sql):
            if not _already_there(db, statement):
                db.execute(statement)
        db.execute(
            "INSERT INTO migrations VALUES (?, ?, ?, ?)", (step.number, step.name, step.checksum, format_time(now_us))
        )
    return True


def statements(sql: str) -> list[str]:
    """The statements of a script; a trigger's body stays whole."""
    found: list[str] = []
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if apsw.complete(pending):
            found.append(pending)
            pending = ""
    return [*found, pending] if pending.strip() else found


def _already_there(db: apsw.Connection, statement: str) -> bool:
    """ADD COLUMN knows no IF NOT EXISTS: a column left by a half-run is kept."""
    match = _ADD_COLUMN.match(statement)
    if match is None:
        return False
    table, column = match.groups()
    return any(name == column for (name,) in db.execute("SELECT name FROM pragma_table_xinfo(?)", (table,)))
