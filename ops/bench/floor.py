"""What bare SQLite does with the same rows, settings and rows per commit, by executemany and without any logic."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from ledger.database import open_writer
from ops.bench.calls import BenchCall
from projections.bulk import Row
from schema.times import HOUR_US

PLAIN_SCHEMA = """
CREATE TABLE events (position INTEGER PRIMARY KEY, source TEXT, id TEXT, type TEXT, subject TEXT, time INTEGER,
    entry TEXT, UNIQUE (source, id));
CREATE TABLE calls (position INTEGER PRIMARY KEY, app TEXT, id TEXT, provider TEXT, model TEXT, type TEXT, status TEXT,
    user TEXT, ts INTEGER, input_tokens INTEGER, output_tokens INTEGER);
CREATE INDEX calls_app ON calls (app, ts);
CREATE INDEX calls_model ON calls (model, ts);
CREATE INDEX calls_user ON calls (user, ts);
CREATE INDEX calls_ts ON calls (ts);
CREATE TABLE user_hours (user TEXT, hour INTEGER, calls INTEGER, input_tokens INTEGER, output_tokens INTEGER,
    PRIMARY KEY (user, hour)) WITHOUT ROWID
"""
_EVENTS = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)"
_CALLS = "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_HOURS = (
    "INSERT INTO user_hours VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, "
    "input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens"
)


class Plain:
    """The plain schema, growing round by round beside the ledger that it is compared with."""

    def __init__(self, directory: Path) -> None:
        self._db = _open_plain(directory / "plain.db")
        self._size = 0

    def write(self, calls: Sequence[BenchCall], entries: Sequence[str], rows_per_commit: int) -> float:
        """Seconds to write calls: journal, calls as text with four indexes, hourly sums by user."""
        db = self._db
        start = time.perf_counter()
        for first in range(0, len(calls), rows_per_commit):
            part = calls[first : first + rows_per_commit]
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_EVENTS, _event_rows(part, entries[first : first + rows_per_commit], self._size))
            db.executemany(_CALLS, _call_rows(part, self._size))
            db.executemany(_HOURS, _hour_rows(part))
            db.execute("COMMIT")
            self._size += len(part)
        return time.perf_counter() - start

    def close(self) -> None:
        """Done."""
        self._db.close()


def plain_calls(directory: Path, calls: Sequence[BenchCall], rows_per_commit: int) -> float:
    """Calls per second into the plain schema's calls and hourly sums alone."""
    db = _open_plain(directory / "plain-calls.db")
    start = time.perf_counter()
    for first in range(0, len(calls), rows_per_commit):
        part = calls[first : first + rows_per_commit]
        db.execute("BEGIN IMMEDIATE")
        db.executemany(_CALLS, _call_rows(part, first))
        db.executemany(_HOURS, _hour_rows(part))
        db.execute("COMMIT")
    seconds = time.perf_counter() - start
    db.close()
    return len(calls) / seconds


def _open_plain(path: Path) -> apsw.Connection:
    db = open_writer(path)
    for statement in PLAIN_SCHEMA.split(";"):
        db.execute(statement)
    return db


def _event_rows(part: Sequence[BenchCall], entries: Sequence[str], first: int) -> list[Row]:
    return [
        (
            first + n + 1, f"/apps/{call.app}/model_call", call.id, "model_call.recorded.v2",
            f"model_call/{call.app}/{call.id}", call.started_at_us, entries[n],
        )
        for n, call in enumerate(part)
    ]  # fmt: skip


def _call_rows(part: Sequence[BenchCall], first: int) -> list[Row]:
    return [
        (
            first + n + 1, call.app, call.id, "openai", call.model, "chat_completion", "success", call.user_id,
            call.started_at_us, call.input_tokens, call.output_tokens,
        )
        for n, call in enumerate(part)
    ]  # fmt: skip


def _hour_rows(part: Sequence[BenchCall]) -> Iterator[Row]:
    sums: dict[tuple[str, int], list[int]] = {}
    for call in part:
        row = sums.setdefault((call.user_id, call.started_at_us // HOUR_US), [0, 0, 0])
        row[0] += 1
        row[1] += call.input_tokens
        row[2] += call.output_tokens
    return ((*key, *row) for key, row in sums.items())


def copy_of(source: Path, directory: Path, rows_per_commit: int) -> float:
    """Calls per second into our journal, names, calls and sums, rows ready made: the schema's cost without our logic.

    Other projections are left out.
    """
    db = open_writer(directory / "own.db")
    db.execute("ATTACH ? AS source", (str(source),))
    tables = ("events", "names", "model_calls", "model_call_stats")
    for table in tables:
        _clone(db, table)
    total: int = db.execute("SELECT count(*) FROM source.events").get
    rows = {table: db.execute(f"SELECT * FROM source.{table}").fetchall() for table in tables}
    start = time.perf_counter()
    commits = -(-total // rows_per_commit)
    for n in range(commits):
        db.execute("BEGIN IMMEDIATE")
        for table in tables:
            part = rows[table][n * len(rows[table]) // commits : (n + 1) * len(rows[table]) // commits]
            if part:
                db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(part[0]))})", part)
        db.execute("COMMIT")
    seconds = time.perf_counter() - start
    db.close()
    return total / seconds


def _clone(db: apsw.Connection, table: str) -> None:
    query = "SELECT sql FROM source.sqlite_schema WHERE tbl_name = ? AND type IN ('table', 'index') AND sql IS NOT NULL"
    rows: list[Any] = db.execute(query, (table,)).fetchall()
    for (sql,) in rows:
        db.execute(sql)
