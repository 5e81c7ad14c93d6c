"""The last sync of each provider's own list of models that changed something."""

from collections.abc import Sequence
from typing import Any

import apsw

from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.model_sync import ModelListSynced, ModelSync
from schema.times import format_time

TABLE = "model_list_syncs"
_COLUMNS = """
    provider      TEXT PRIMARY KEY,
    position      INTEGER NOT NULL,
    synced_at_us  INTEGER NOT NULL,
    credential    TEXT NOT NULL,
    listed        INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    updated       INTEGER NOT NULL,
    skipped       INTEGER NOT NULL,
    missing       INTEGER NOT NULL
"""


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    newest: dict[str, Row] = {}
    for event in events:
        if isinstance(event.data, ModelListSynced):
            newest[event.data.provider] = _row(event, event.data)
    if newest:
        insert(target.db, f"INSERT OR REPLACE INTO {target.table(TABLE)}", list(newest.values()))


def _row(event: Recorded, sync: ModelListSynced) -> Row:
    return (
        sync.provider, event.position, event.time_us, sync.credential, sync.listed, sync.created, sync.updated,
        sync.skipped, sync.missing,
    )  # fmt: skip


def find(db: apsw.Connection, provider: str) -> ModelSync | None:
    """The last sync of a provider."""
    rows: list[Any] = db.execute(f"SELECT * FROM {TABLE} WHERE provider = ?", (provider,)).fetchall()
    return next((_view(*row) for row in rows), None)


def _view(_provider: str, position: int, at_us: int, credential: str, *counts: int) -> ModelSync:
    listed, created, updated, skipped, missing = counts
    return ModelSync(
        position=position, synced_at=format_time(at_us), credential_id=credential, listed=listed, created=created,
        updated=updated, skipped=skipped, missing=missing,
    )  # fmt: skip


PROJECTION = Projection(
    name=TABLE,
    version=1,
    tables=(Table(TABLE, _COLUMNS, key="provider"),),
    apply=_apply,
    blocking=True,
    of=(ModelListSynced,),
)
