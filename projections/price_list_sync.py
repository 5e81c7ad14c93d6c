"""The last sync of each provider that changed something."""

from collections.abc import Sequence

import apsw

from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.model_rate import ListedPrice
from schema.price_list import PriceListSynced, ProviderSync
from schema.times import format_time

_COLUMNS = """
    provider     TEXT PRIMARY KEY,
    position     INTEGER NOT NULL,
    synced_at_us INTEGER NOT NULL,
    source       TEXT NOT NULL,
    version      TEXT NOT NULL,
    hash         TEXT NOT NULL,
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    skipped      INTEGER NOT NULL,
    missing      INTEGER NOT NULL
"""


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    newest: dict[str, Row] = {}
    for event in events:
        if isinstance(event.data, PriceListSynced):
            newest[event.data.provider] = _row(event, event.data)
    if newest:
        insert(target.db, f"INSERT OR REPLACE INTO {target.table('price_list_syncs')}", list(newest.values()))


def _row(event: Recorded, sync: PriceListSynced) -> Row:
    listed = sync.listed
    return (
        sync.provider, event.position, event.time_us, listed.source, listed.version, listed.hash, sync.created,
        sync.updated, sync.skipped, sync.missing,
    )  # fmt: skip


def syncs(db: apsw.Connection) -> dict[str, ProviderSync]:
    """The last sync of every provider that had one."""
    return {row[0]: _view(row) for row in db.execute("SELECT * FROM price_list_syncs")}


def find(db: apsw.Connection, provider: str) -> ProviderSync | None:
    """The last sync of a provider."""
    rows = db.execute("SELECT * FROM price_list_syncs WHERE provider = ?", (provider,))
    return next((_view(row) for row in rows), None)


def _view(row: tuple[str, int, int, str, str, str, int, int, int, int]) -> ProviderSync:
    provider, position, at_us, source, version, hash_, created, updated, skipped, missing = row
    return ProviderSync(
        provider=provider, position=position, synced_at=format_time(at_us),
        listed=ListedPrice(source=source, version=version, hash=hash_),
        created=created, updated=updated, skipped=skipped, missing=missing,
    )  # fmt: skip


PROJECTION = Projection(
    name="price_list_syncs",
    version=1,
    tables=(Table("price_list_syncs", _COLUMNS, key="provider"),),
    apply=_apply,
    blocking=True,
    of=(PriceListSynced,),
)
