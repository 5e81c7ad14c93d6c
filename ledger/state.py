"""State tables: rows that are neither events nor derived from them, changed only inside the writer's transaction.

What a group touches is loaded once, set-wise. A decision reads rows and names the rows as they are to be afterwards;
these become visible to the commands after it once its events are staged, so that a command that fails leaves nothing
behind. At the group's end the rows that changed are written at once, in the transaction that appends its events.

Groups of state alone have no event that would tell, after a COMMIT that raised, whether it happened. So every group
that changes state also counts up its writer's own row in `state_commits`, which no other writer touches.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from projections.bulk import insert

WRITERS_KEPT = 1_000
LOAD_KEYS_MAX = 10_000

Key = tuple[Any, ...]
R = TypeVar("R", bound=Struct)


class StateTable(Struct, frozen=True):
    """A table whose columns are the fields of a frozen Struct; its key are the first `key_width` of them."""

    name: str
    row: type[Struct]
    key_width: int = 1

    @property
    def columns(self) -> tuple[str, ...]:
        return self.row.__struct_fields__

    @property
    def key(self) -> tuple[str, ...]:
        return self.columns[: self.key_width]


class Removed(Struct, frozen=True):
    """Among the changes of a decision: a row that is to be gone."""

    table: StateTable
    key: Key


_tables: dict[type[Struct], StateTable] = {}


def state_table(name: str, row: type[Struct], key_width: int = 1) -> StateTable:
    """Declare a state table; a second one of the same row raises at import."""
    if row in _tables:
        message = f"{row.__name__} is the row of two tables"
        raise ValueError(message)
    _tables[row] = StateTable(name, row, key_width)
    return _tables[row]


def state_tables() -> list[StateTable]:
    """Every state table declared so far."""
    return list(_tables.values())


class Write(Struct, frozen=True):
    """A change of state: one statement, run in the transaction of its group after the events are applied.

    `erased` is the id of a data key that it destroys.
    """

    sql: str
    bindings: tuple[str | int | bytes | None, ...]
    erased: str | None = None


class State:
    """The rows that a group of commands sees."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, Any]] = {}
        self._changed: dict[StateTable, dict[Key, None]] = {}

    def load(self, db: apsw.Connection, table: StateTable, keys: Iterable[Key]) -> None:
        """Bring in the rows with these keys, and remember which have none."""
        rows = self._rows.setdefault(table.name, {})
        wanted = [key for key in dict.fromkeys(keys) if key not in rows]
        for first in range(0, len(wanted), LOAD_KEYS_MAX):
            part = wanted[first : first + LOAD_KEYS_MAX]
            rows.update(dict.fromkeys(part))
            found = db.execute(_select(table), (msgspec.json.encode(part).decode(),))
            rows.update((row[: table.key_width], table.row(*row)) for row in found)

    def take(self, table: StateTable, found: Iterable[Struct]) -> None:
        """Bring in rows that a query found."""
        rows = self._rows.setdefault(table.name, {})
        for row in found:
            rows.setdefault(astuple(row)[: table.key_width], row)

    def get(self, row: type[R], *key: str | int) -> R | None:
        """A row, or None where there is none; it must have been loaded."""
        return self._rows[_tables[row].name][key]

    def put(self, changes: Sequence[Struct]) -> None:
        """Take in the rows of a decision."""
        for change in changes:
            if isinstance(change, Removed):
                self._note(change.table, change.key, None)
            else:
                table = _tables[type(change)]
                self._note(table, astuple(change)[: table.key_width], change)

    def _note(self, table: StateTable, key: Key, row: Struct | None) -> None:
        self._rows.setdefault(table.name, {})[key] = row
        self._changed.setdefault(table, {})[key] = None

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._changed)

    def write(self, db: apsw.Connection) -> None:
        """Write the rows that changed, in the order in which they first did."""
        for table, keys in self._changed.items():
            rows = self._rows[table.name]
            put = [astuple(rows[key]) for key in keys if rows[key] is not None]
            if put:
                insert(db, f"INSERT OR REPLACE INTO {table.name}", put)
            gone = [key for key in keys if rows[key] is None]
            if gone:
                db.executemany(_delete(table), gone)

    def rows(self, table: StateTable) -> dict[Key, Any]:
        """What is known of a table: for tests, which compare it with the table."""
        return dict(self._rows.get(table.name, {}))


@cache
def _select(table: StateTable) -> str:
    columns = ", ".join(f"t.{column}" for column in table.columns)
    match = " AND ".join(f"t.{column} = k.value ->> {n}" for n, column in enumerate(table.key))
    return f"SELECT {columns} FROM json_each(?) k CROSS JOIN {table.name} t ON {match}"


@cache
def _delete(table: StateTable) -> str:
    return f"DELETE FROM {table.name} WHERE {' AND '.join(f'{column} = ?' for column in table.key)}"


class CommitMark(Struct, frozen=True):
    """That a writer has committed changes of state, and how often: a row that is that writer's alone."""

    writer: str
    commits: int

    def write(self, db: apsw.Connection) -> None:
        """Leave the mark in the transaction that it is to tell about; marks of writers long gone make room."""
        db.execute("INSERT OR REPLACE INTO state_commits (writer, commits) VALUES (?, ?)", (self.writer, self.commits))
        if self.commits == 1:
            oldest = "SELECT rowid FROM state_commits ORDER BY rowid DESC LIMIT -1 OFFSET ?"
            db.execute(f"DELETE FROM state_commits WHERE rowid IN ({oldest})", (WRITERS_KEPT,))

    def is_stored(self, db: apsw.Connection) -> bool:
        """Whether that transaction was committed."""
        return db.execute("SELECT commits FROM state_commits WHERE writer = ?", (self.writer,)).get == self.commits
