"""The state of sealing: wrapped data keys by subject, and which master key wraps new ones.

Read here, and changed only by what a decision writes, in the writer's transaction.
"""

from typing import Any

import apsw

from ledger.state import Write
from schema.sealed import WrappedKey

_COLUMNS = "id, subject, master_key_id, nonce, wrapped"


def find(db: apsw.Connection, subject: str) -> WrappedKey | None:
    """The data key of a subject; None once it was erased."""
    rows: list[Any] = db.execute(f"SELECT {_COLUMNS} FROM data_keys WHERE subject = ?", (subject,)).fetchall()
    return _wrapped(rows[0]) if rows else None


def page(db: apsw.Connection, after: str, limit: int) -> list[WrappedKey]:
    """Data keys by id."""
    query = f"SELECT {_COLUMNS} FROM data_keys WHERE id > ? ORDER BY id LIMIT ?"
    return [_wrapped(row) for row in db.execute(query, (after, limit))]


def master_key_id(db: apsw.Connection) -> str | None:
    """The master key that new data keys are wrapped with; None until there was one."""
    return db.execute("SELECT id FROM master_key").get


def by_master_key(db: apsw.Connection) -> dict[str, int]:
    """How many data keys each master key wraps."""
    query = "SELECT master_key_id, count(*) FROM data_keys GROUP BY master_key_id ORDER BY master_key_id"
    rows: list[Any] = db.execute(query).fetchall()
    return dict(rows)


def put(wrapped: WrappedKey, now_us: int) -> list[Write]:
    """Keep a subject's data key, in place of the one it may have; its master key is the current one."""
    return [
        Write("INSERT OR IGNORE INTO master_key VALUES (1, ?)", (wrapped.master_key_id,)),
        Write("DELETE FROM data_keys WHERE subject = ?", (wrapped.subject,)),
        Write(
            "INSERT INTO data_keys VALUES (?, ?, ?, ?, ?, ?)",
            (wrapped.id, wrapped.subject, wrapped.master_key_id, wrapped.nonce, wrapped.wrapped, now_us),
        ),
    ]


def replace(wrapped: WrappedKey) -> Write:
    """Keep the same data key, wrapped anew."""
    update = "UPDATE data_keys SET master_key_id = ?, nonce = ?, wrapped = ? WHERE id = ?"
    return Write(update, (wrapped.master_key_id, wrapped.nonce, wrapped.wrapped, wrapped.id))


def erase(wrapped: WrappedKey) -> Write:
    """Destroy a data key."""
    return Write("DELETE FROM data_keys WHERE id = ?", (wrapped.id,), erased=wrapped.id)


def adopt(id_: str) -> Write:
    """Wrap new data keys with this master key."""
    return Write("INSERT INTO master_key VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET id = excluded.id", (id_,))


def _wrapped(row: Any) -> WrappedKey:  # noqa: ANN401 - a row
    id_, subject, master, nonce, wrapped = row
    return WrappedKey(id=id_, subject=subject, master_key_id=master, nonce=nonce, wrapped=wrapped)
