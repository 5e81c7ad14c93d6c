"""Checking that the file still has the tables, indexes and triggers that guard it."""

import apsw

from ledger import migrate
from ops.faults import Faults
from ops.scratch import open_scratch

SCHEMA = "sqlite_schema"
_OBJECTS = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"


def check_schema(db: apsw.Connection, faults: Faults, notes: list[str]) -> None:
    """Compare what migrations made with what they make in an empty file."""
    pending = [step.name for step in migrate.status(db) if step.applied_at is None]
    if pending:
        notes.append(f"schema not compared: migrations are pending: {', '.join(pending)}")
        return
    found = {name: (kind, sql) for kind, name, sql in db.execute(_OBJECTS)}
    with open_scratch() as scratch:
        for kind, name, sql in scratch.execute(_OBJECTS):
            if name not in found:
                faults.add(SCHEMA, f"the {kind} is missing", key=name)
            elif found[name] != (kind, sql):
                faults.add(SCHEMA, f"the {kind} is not as it was made", key=name)
