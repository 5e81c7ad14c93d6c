"""Checking that the file still has the tables, indexes, triggers and views that it was made with.

Those of projections only where they are of this version.
"""

import apsw

from ledger import migrate
from ops.faults import Faults
from ops.scratch import open_scratch
from projections.engine import Engine, checkpoints, registry
from projections.projection import SHADOW

SCHEMA = "sqlite_schema"
_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
Objects = dict[str, tuple[str, str]]


def check_schema(db: apsw.Connection, faults: Faults, notes: list[str]) -> None:
    """Compare what migrations and projections made with what they make in an empty file."""
    pending = [step.name for step in migrate.status(db) if step.applied_at is None]
    if pending:
        notes.append(f"schema not compared: migrations are pending: {', '.join(pending)}")
        return
    found = _objects(db)
    with open_scratch() as scratch:
        wanted = _objects(scratch)
        Engine(scratch).ensure()
        projected = _objects(scratch)
    have = checkpoints(db)
    for projection in registry().values():
        made = have.get(projection.name)
        if made is not None and made.version == projection.version:
            own = {table.name for table in projection.tables} | {name for name, _ in projection.views}
            # Not the tables: their rows are compared one by one.
            wanted |= {k: each for k, each in projected.items() if k.split(".")[0] in own and each[0] != "table"}
    for key, (kind, sql) in wanted.items():
        name = key.split(".")[1]
        if key not in found:
            faults.add(SCHEMA, f"the {kind} is missing", key=name)
        elif found[key] != (kind, sql):
            faults.add(SCHEMA, f"the {kind} is not as it was made", key=name)


def _objects(db: apsw.Connection) -> Objects:
    """Kind and text by table and name, as they read before any rebuild.

    A rebuild renames tables, which SQLite then puts in quotes, and gives indexes a name of two in turn.
    """
    found: Objects = {}
    for kind, name, table, sql in db.execute(_OBJECTS):
        plain = sql.replace('"', "")
        if table.endswith(SHADOW):
            continue
        if kind == "index":
            found[f"{table}.{name.removesuffix('_2')}"] = (kind, plain.replace("_2 ON ", " ON ", 1))
        else:
            found[f"{table}.{name}"] = (kind, plain)
    return found
