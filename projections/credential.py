"""Credentials by id, as the latest change left them; secrets are sealed here too, and gone from here once erased."""

from collections.abc import Sequence

import apsw
import msgspec

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from projections.projection import Projection, Table, Target
from schema.credential import (
    CREDENTIAL,
    Credential,
    CredentialChanged,
    CredentialCreated,
    CredentialDeleted,
    CredentialDisabled,
    CredentialErased,
    CredentialFilter,
    CredentialRestored,
)
from schema.entry import Recorded

TABLE = CREDENTIAL.table
WHOLE = (CredentialCreated, CredentialChanged, CredentialDisabled, CredentialRestored)

# Lists are by `sort`, which for a credential is its priority.
_COLUMNS = """
    id                TEXT PRIMARY KEY,
    provider          TEXT NOT NULL,
    name              TEXT,
    type              TEXT NOT NULL,
    enabled           INTEGER NOT NULL,
    weight            INTEGER NOT NULL,
    sort              INTEGER NOT NULL,
    data_key          TEXT,
    deleted           INTEGER NOT NULL,
    erased            INTEGER NOT NULL,
    created_position  INTEGER NOT NULL,
    position          INTEGER NOT NULL,
    created_at_us     INTEGER NOT NULL,
    changed_at_us     INTEGER NOT NULL,
    data              TEXT NOT NULL
"""
_CHANGING = (
    "provider", "name", "type", "enabled", "weight", "sort", "data_key", "position", "changed_at_us", "data",
)  # fmt: skip
_PUT = f"VALUES ({','.join('?' * 15)}) ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _CHANGING
)
_ACTIVE = "NOT deleted AND enabled AND weight > 0"


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    table = target.table(TABLE)
    for event in events:
        match event.data:
            case CredentialCreated() | CredentialChanged() | CredentialDisabled() | CredentialRestored() as data:
                target.db.execute(f"INSERT INTO {table} {_PUT}", _row(event, data))
            case CredentialErased() as data:  # a deletion too
                _erase(target, event, data.id)
            case CredentialDeleted() as data:
                ended = f"UPDATE {table} SET deleted = 1, position = ?, changed_at_us = ? WHERE id = ?"
                target.db.execute(ended, (event.position, event.recorded_at_us, data.id))
            case _:
                pass


def _row(event: Recorded, data: Credential) -> tuple[Value, ...]:
    now_us, position = event.recorded_at_us, event.position
    return (
        data.id, data.provider, data.name, data.type, int(data.enabled), data.weight, data.priority,
        None if data.secret is None else data.secret.key, 0, 0, position, position, now_us, now_us, _text(data),
    )  # fmt: skip


def _text(data: Credential) -> str:
    return msgspec.json.encode(content_of(data)).decode()


def content_of(data: Credential) -> Credential:
    """The record alone, without what an event says beside it."""
    return Credential(**{name: getattr(data, name) for name in Credential.__struct_fields__})


def _erase(target: Target, event: Recorded, id_: str) -> None:
    table = target.table(TABLE)
    text: str = target.db.execute(f"SELECT data FROM {table} WHERE id = ?", (id_,)).get
    content = msgspec.json.decode(text, type=Credential)
    content.secret = None
    ended = (
        f"UPDATE {table} SET deleted = 1, erased = 1, data_key = NULL, position = ?, changed_at_us = ?, data = ? "
        "WHERE id = ?"
    )
    target.db.execute(ended, (event.position, event.recorded_at_us, _text(content), id_))


def conditions(wanted: CredentialFilter, provider: str | None = None) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found = catalogue.having(wanted.q, ("id", "coalesce(name, '')"))
    if provider is not None:
        found.append(("provider = ?", (provider,)))
    if wanted.type is not None:
        found.append(("type = ?", (wanted.type,)))
    if wanted.enabled is not None:
        found.append(("enabled = ?", (int(wanted.enabled),)))
    if not wanted.deleted:
        found.append(("NOT deleted", ()))
    return found


def count_live(db: apsw.Connection, provider: str) -> int:
    """How many credentials of a provider are not deleted."""
    return db.execute(f"SELECT count(*) FROM {TABLE} WHERE provider = ? AND NOT deleted", (provider,)).get


def first_key(db: apsw.Connection, provider: str) -> str | None:
    """The API key of a provider that comes first: by priority, then by when it was created."""
    query = (
        f"SELECT id FROM {TABLE} WHERE provider = ? AND {_ACTIVE} AND type = 'api_key' "
        "ORDER BY sort, created_position LIMIT 1"
    )
    return db.execute(query, (provider,)).get


def has_other_active(db: apsw.Connection, provider: str, but: str) -> bool:
    """Whether a provider has a credential other than this one that takes traffic."""
    query = f"SELECT 1 FROM {TABLE} WHERE provider = ? AND {_ACTIVE} AND id <> ? LIMIT 1"
    return db.execute(query, (provider, but)).get is not None


PROJECTION = Projection(
    name=TABLE,
    version=1,
    tables=(
        Table(
            TABLE,
            _COLUMNS,
            key="id",
            indexes=(
                (f"{TABLE}_by_order", "(sort, id)"),
                (f"{TABLE}_by_provider", "(provider) WHERE NOT deleted"),
                (f"{TABLE}_by_position", "(position)"),
            ),
        ),
    ),
    apply=_apply,
    blocking=True,
    of=(*WHOLE, CredentialDeleted, CredentialErased),
)
