"""API keys by id: what authentication looks up at every request."""

from collections.abc import Sequence

import apsw
from msgspec import Struct

from projections.bulk import insert
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.key import KeyCreated, KeyRevoked, KeyView, Principal
from schema.times import format_time

_COLUMNS = """
    id             TEXT PRIMARY KEY,
    role           TEXT NOT NULL,
    app            TEXT,
    name           TEXT,
    sha256         TEXT NOT NULL,
    created_at_us  INTEGER NOT NULL,
    revoked_at_us  INTEGER
"""


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    table = target.table("keys")
    for event in events:
        match event.data:
            case KeyCreated() as key:
                row = (key.id, key.role, key.app, key.name, key.sha256, event.recorded_at_us, None)
                insert(target.db, f"INSERT INTO {table}", [row])
            case KeyRevoked() as key:
                target.db.execute(f"UPDATE {table} SET revoked_at_us = ? WHERE id = ?", (event.recorded_at_us, key.id))
            case _:
                pass


class KeyRecord(Struct, frozen=True):
    """A key that has not been revoked."""

    principal: Principal
    sha256: str


def find(db: apsw.Connection, key_id: str) -> KeyRecord | None:
    """A valid key by its id."""
    query = "SELECT role, app, sha256 FROM keys WHERE id = ? AND revoked_at_us IS NULL"
    for role, app, sha256 in db.execute(query, (key_id,)):
        return KeyRecord(Principal(key_id, role, app), sha256)
    return None


def list_keys(db: apsw.Connection, after: str, limit: int) -> list[KeyView]:
    """Keys by id, revoked ones included."""
    query = "SELECT id, role, app, name, created_at_us, revoked_at_us FROM keys WHERE id > ? ORDER BY id LIMIT ?"
    return [
        KeyView(
            id=id_, role=role, app=app, name=name, created_at=format_time(created),
            revoked_at=None if revoked is None else format_time(revoked),
        )
        for id_, role, app, name, created, revoked in db.execute(query, (after, limit))
    ]  # fmt: skip


PROJECTION = Projection(
    name="keys",
    version=1,
    tables=(Table("keys", _COLUMNS, key="id"),),
    apply=_apply,
    blocking=True,
    of=(KeyCreated, KeyRevoked),
)
