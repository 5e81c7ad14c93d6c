"""What a projection is: tables, and what each batch of events does to them."""

from collections.abc import Callable, Sequence
from typing import Protocol

import apsw
from msgspec import Struct

from projections.account_book import Book
from schema.correction import ModelCallChange, ModelCallCorrected
from schema.entry import Recorded
from schema.model_call import ModelCallEvent

SHADOW = "__shadow"


class Names(Protocol):
    """Resolves interned names to their ids."""

    wanted: list[str | None]

    def calls(
        self, db: apsw.Connection, events: Sequence[Recorded]
    ) -> list[tuple[Recorded, ModelCallEvent | ModelCallCorrected | ModelCallChange, tuple[int, ...]]]:
        """The call events of a batch with the ids of user, app, provider, model, credential, type, status."""
        ...

    def of_batch(self, db: apsw.Connection, events: Sequence[Recorded]) -> dict[str | None, int]:
        """The known ids, among them those of a batch's names; `wanted` then lists these."""
        ...

    def load(self, db: apsw.Connection, wanted: Sequence[str | None]) -> dict[str | None, int]:
        """The known ids, among them those of the wanted names that have one."""
        ...


class Target(Struct):
    """Where a batch is applied: the live tables (suffix "") or the replacement built beside them.

    `peers` is the suffix of what it needs: a replacement takes from a replacement, if one is being built with it.
    `book` has the accounts as the batch leaves them, where deciding it has folded them already.
    """

    db: apsw.Connection
    names: Names
    suffix: str = ""
    peers: str = ""
    book: Book | None = None

    def table(self, name: str) -> str:
        """The physical name of a table of this projection."""
        return name + self.suffix

    def peer(self, name: str) -> str:
        """The physical name of a table of a projection that this one needs."""
        return name + self.peers


Apply = Callable[[Target, Sequence[Recorded]], None]


class Table(Struct, frozen=True):
    """A table's columns, and how to order its rows for comparison: by its primary key."""

    name: str
    columns: str
    key: str
    options: str = "STRICT"
    indexes: tuple[tuple[str, str], ...] = ()
    seed: str = ""


class Projection(Struct, frozen=True):
    """One read model. Raise `version` when tables or apply change: it is then rebuilt, not migrated.

    `blocking`: commands or authentication read it, so it is rebuilt before the first write is accepted.
    `of`: the only kinds of event data that it takes notice of; a batch without them is none of its business.
    """

    name: str
    version: int
    tables: tuple[Table, ...]
    apply: Apply
    views: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    blocking: bool = False
    of: tuple[type, ...] | None = None

    def create(self, db: apsw.Connection, suffix: str = "") -> None:
        """Make the tables and their indexes, empty."""
        for table in self.tables:
            db.execute(f"CREATE TABLE {table.name}{suffix} ({table.columns}) {table.options}")
            for name, columns in table.indexes:
                index = _free_index_name(db, name)
                db.execute(f"CREATE INDEX {index} ON {table.name}{suffix} {columns}")
            if table.seed:
                db.execute(f"INSERT INTO {table.name}{suffix} {table.seed}")

    def create_views(self, db: apsw.Connection) -> None:
        """Make the views over the live tables."""
        for name, sql in self.views:
            db.execute(f"CREATE VIEW {name} AS {sql}")

    def concerns(self, kinds: set[type]) -> bool:
        """Whether a batch of events with these kinds of data changes it."""
        return self.of is None or not kinds.isdisjoint(self.of)

    def drop_views(self, db: apsw.Connection) -> None:
        """Views hold on to table names: they go before a table is renamed."""
        for name, _ in self.views:
            db.execute(f"DROP VIEW IF EXISTS {name}")

    def drop(self, db: apsw.Connection, suffix: str = "") -> None:
        """Remove the tables."""
        for table in self.tables:
            db.execute(f"DROP TABLE IF EXISTS {table.name}{suffix}")


def _free_index_name(db: apsw.Connection, name: str) -> str:
    """SQLite cannot rename an index, so the live table and its replacement take turns with two names."""
    taken = db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?", (name,)).get
    return f"{name}_2" if taken else name
