"""Which other providers' prices a provider falls back to, as its newest event tells it."""

from collections.abc import Sequence

import apsw
import msgspec

from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.provider import ProviderChanged, ProviderCreated, ProviderDeleted

_COLUMNS = """
    provider TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    data     TEXT NOT NULL
"""
_UPSERT = "ON CONFLICT (provider) DO UPDATE SET position = excluded.position, data = excluded.data"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str]).decode


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    newest: dict[str, Row] = {}
    for event in events:
        match event.data:
            case ProviderCreated() | ProviderChanged() as provider:
                fallbacks = provider.fallback_providers or []
                newest[provider.id] = (provider.id, event.position, _encode(fallbacks).decode())
            case ProviderDeleted() as provider:
                newest[provider.id] = (provider.id, event.position, "[]")
            case _:
                pass
    if newest:
        insert(target.db, f"INSERT INTO {target.table('provider_fallbacks')}", list(newest.values()), _UPSERT)


def last_position(db: apsw.Connection) -> int:
    """The position of the latest event of any provider, 0 where there is none."""
    return db.execute("SELECT max(position) FROM provider_fallbacks").get or 0


def fallbacks(db: apsw.Connection) -> dict[str, list[str]]:
    """Each provider that has some, with those in the order they are tried."""
    rows = db.execute("SELECT provider, data FROM provider_fallbacks WHERE data <> '[]'")
    return {provider: _decode(data) for provider, data in rows}


PROJECTION = Projection(
    name="provider_fallbacks",
    version=1,
    tables=(
        Table("provider_fallbacks", _COLUMNS, key="provider", indexes=(("provider_fallbacks_position", "(position)"),)),
    ),
    apply=_apply,
    blocking=True,
    of=(ProviderCreated, ProviderChanged, ProviderDeleted),
)
