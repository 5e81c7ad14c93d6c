"""Applies batches of events to every projection and moves their checkpoints in the same transaction."""

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from typing import Any

import apsw
from msgspec import Struct

import projections
from projections.account_book import Book
from projections.account_state import AccountMemory, Remembered
from projections.name import PROJECTION as NAMES_PROJECTION
from projections.name import NameTable
from projections.projection import SHADOW, Projection, Target
from schema.entry import Recorded
from schema.errors import Rebuilding


@cache
def registry() -> dict[str, Projection]:
    """Every projection of this package, those that others need first."""
    modules = [importlib.import_module(f"projections.{m.name}") for m in pkgutil.iter_modules(projections.__path__)]
    found: list[Projection] = [module.PROJECTION for module in modules if hasattr(module, "PROJECTION")]
    found.sort(key=lambda projection: (len(projection.needs), projection.name))
    return {projection.name: projection for projection in found}


class Checkpoint(Struct, frozen=True):
    """How far a projection is, and how far its replacement is, if one is being built."""

    name: str
    version: int
    position: int
    shadow_version: int | None
    shadow_position: int | None

    def current(self, position: int) -> bool:
        """Whether its live tables are of this version and include `position`."""
        return self.version == registry()[self.name].version and self.position >= position

    def beside(self, position: int) -> bool:
        """Whether a replacement of this version is being built and includes `position`."""
        return self.shadow_version == registry()[self.name].version and (self.shadow_position or 0) >= position


def checkpoints(db: apsw.Connection) -> dict[str, Checkpoint]:
    """The checkpoint of each known projection."""
    rows = db.execute("SELECT name, version, position, shadow_version, shadow_position FROM projections")
    return {row[0]: Checkpoint(*row) for row in rows if row[0] in registry()}


def require(db: apsw.Connection, head: int, *names: str) -> None:
    """Raise Rebuilding unless these projections are of this version and include the last event."""
    found = checkpoints(db)
    for name in names:
        if name not in found or not found[name].current(head):
            raise Rebuilding(f"{name} is being rebuilt")


class Engine:
    """The projections of one connection. Runs inside the caller's write transactions."""

    def __init__(self, db: apsw.Connection) -> None:
        self.db = db
        self.names = NameTable()
        self.accounts = AccountMemory()
        self._version: int | None = None  # changes when another connection has written
        self._at: int | None = None  # the position where these projections are exactly, once a group has begun
        self._live: list[str] = []
        self._kinds_of: Sequence[Recorded] | None = None
        self._found_kinds: set[type] = set()

    def ensure(self) -> None:
        """Make the tables of projections that this file has never had."""
        have = checkpoints(self.db)
        for projection in registry().values():
            if projection.name in have:
                continue
            projection.create(self.db)
            projection.create_views(self.db)
            self.db.execute(
                "INSERT INTO projections VALUES (?, ?, 0, NULL, NULL)", (projection.name, projection.version)
            )

    def begin(self, before: int) -> Remembered:
        """What is remembered of accounts; call inside the write transaction, before anything is decided.

        Raises Rebuilding where a projection that decisions read does not include position `before` as this version has
        it: another version of this software has opened the file, and what it left says nothing of what came since.
        """
        version: Any = self.db.execute("PRAGMA data_version").get
        if version != self._version:
            self._version, self._at = version, None
            self.accounts.forget()
        if self._at != before:
            live = self._live_at(before)
            for projection in registry().values():
                if projection.blocking and projection.name not in live:
                    raise Rebuilding(f"{projection.name} is not as this version keeps it: run one version on a file")
            self._at, self._live = before, live
        return self.accounts.take()

    def _live_at(self, before: int) -> list[str]:
        """The projections that are of this version and exactly there, with all that they need, in their order."""
        have = checkpoints(self.db)
        live: list[str] = []
        for projection in registry().values():
            checkpoint = have[projection.name]
            here = checkpoint.position == before and checkpoint.version == projection.version
            if here and all(need in live for need in projection.needs):
                live.append(projection.name)
        return live

    def apply(self, before: int, events: Sequence[Recorded], book: Book | None = None) -> None:
        """Apply events that follow position `before` to every projection that is exactly there.

        `book` is what deciding them made of their accounts, if it has collected all of that.

        One that is behind, or of another version, is left to its rebuild, and so is what needs it: nothing is
        skipped.
        """
        begun = self._at == before
        applied = self._live if begun else self._live_at(before)
        live = Target(self.db, self.names, book=book)
        kinds = self._kinds(events)
        for name in applied:
            projection = registry()[name]
            if projection.concerns(kinds):
                projection.apply(live, events)
        marks = ",".join("?" * len(applied))
        self.db.execute(f"UPDATE projections SET position = ? WHERE name IN ({marks})", (events[-1].position, *applied))
        self._at = events[-1].position if begun else None

    def _kinds(self, events: Sequence[Recorded]) -> set[type]:
        """The kinds of data in a batch, told once for all projections."""
        if events is not self._kinds_of:
            self._kinds_of, self._found_kinds = events, {type(event.data) for event in events}
        return self._found_kinds

    def forget(self) -> None:
        """Drop what is cached of the file; call after every roll-back."""
        self.names.forget()
        self.accounts.forget()
        self._at = None

    def catch_up(self, projection: Projection, events: Sequence[Recorded]) -> None:
        """Apply the next events to one live projection that is behind."""
        if projection.concerns(self._kinds(events)):
            projection.apply(Target(self.db, self.names), events)
        position = events[-1].position
        self.db.execute("UPDATE projections SET position = ? WHERE name = ?", (position, projection.name))

    def begin_shadow(self, projection: Projection) -> None:
        """Start a replacement from position 0."""
        projection.drop(self.db, SHADOW)
        projection.create(self.db, SHADOW)
        self.db.execute(
            "UPDATE projections SET shadow_version = ?, shadow_position = 0 WHERE name = ?",
            (projection.version, projection.name),
        )

    def apply_shadow(self, projection: Projection, events: Sequence[Recorded]) -> None:
        """Apply the next events to the replacement."""
        # A replacement of the names resolves by itself, from the file alone: another process may have begun it again.
        names = NameTable(SHADOW, self.names) if projection.name == NAMES_PROJECTION.name else self.names
        position = events[-1].position
        if projection.concerns(self._kinds(events)):
            projection.apply(Target(self.db, names, SHADOW, self._peers(projection, position)), events)
        self.db.execute("UPDATE projections SET shadow_position = ? WHERE name = ?", (position, projection.name))

    def _peers(self, projection: Projection, position: int) -> str:
        """The suffix of what a replacement needs: also the replacements, once they are this far."""
        have = checkpoints(self.db)
        # Not names: their ids are those of the live table, which any rebuild of it gives again.
        needed = [have[need] for need in projection.needs if need != NAMES_PROJECTION.name]
        beside = [
            c.shadow_version == registry()[c.name].version and (c.shadow_position or 0) >= position for c in needed
        ]
        return SHADOW if beside and all(beside) else ""

    def swap(self, projection: Projection) -> None:
        """Put the replacement in the place of the live tables."""
        projection.drop_views(self.db)
        projection.drop(self.db)
        # Else SQLite looks through all views at each rename, and one of an operator, or of a version that came after
        # this one, may name what is not there just now.
        self.db.pragma("legacy_alter_table", True)
        try:
            for table in projection.tables:
                self.db.execute(f"ALTER TABLE {table.name}{SHADOW} RENAME TO {table.name}")
        finally:
            self.db.pragma("legacy_alter_table", False)
        projection.create_views(self.db)
        self.db.execute(
            "UPDATE projections SET version = shadow_version, position = shadow_position, "
            "shadow_version = NULL, shadow_position = NULL WHERE name = ?",
            (projection.name,),
        )
        self.forget()
