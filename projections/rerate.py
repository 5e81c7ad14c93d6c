"""Re-rates: how far each is, and which calls it changed, so that it goes on where it was and can be taken back."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.correction import ModelCallRerated
from schema.entry import Recorded
from schema.rerate import Progress, RerateAdvanced, RerateReverting, RerateStarted, RerateStatus

_RUNS = """
    id             TEXT PRIMARY KEY,
    position       INTEGER NOT NULL,
    recorded_at_us INTEGER NOT NULL,
    actor          TEXT NOT NULL,
    status         TEXT NOT NULL,
    started        TEXT NOT NULL,
    progress       TEXT,
    batches        INTEGER NOT NULL
"""
_CALLS = "rerate TEXT NOT NULL, event_position INTEGER NOT NULL, PRIMARY KEY (rerate, event_position)"
_encode = msgspec.json.Encoder().encode
_decode_started = msgspec.json.Decoder(RerateStarted).decode
_decode_progress = msgspec.json.Decoder(Progress).decode


class RerateRow(Struct, frozen=True):
    """A re-rate as it stands. `progress` is None before its first batch; `batches` counts them."""

    id: str
    position: int
    recorded_at_us: int
    actor: str
    status: RerateStatus
    started: RerateStarted
    progress: Progress | None
    batches: int


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    table = target.table("rerates")
    changed: list[Row] = []
    for event in events:
        match event.data:
            case RerateStarted() as data:
                row = (
                    data.id,
                    event.position,
                    event.recorded_at_us,
                    event.actor,
                    "running",
                    _encode(data).decode(),
                    None,
                    0,
                )
                insert(target.db, f"INSERT INTO {table}", [row])
            case RerateAdvanced() as data:
                over = data.progress.next is None
                status = (
                    ("reverted" if over else "reverting") if data.reverting else ("completed" if over else "running")
                )
                target.db.execute(
                    f"UPDATE {table} SET status = ?, progress = ?, batches = batches + 1 WHERE id = ?",
                    (status, _encode(data.progress).decode(), data.id),
                )
            case RerateReverting() as data:
                target.db.execute(f"UPDATE {table} SET status = 'reverting', progress = NULL WHERE id = ?", (data.id,))
            case ModelCallRerated(reverted=False) as data:
                changed.append((data.rerate, event.position))
            case _:
                pass
    if changed:
        insert(target.db, f"INSERT INTO {target.table('rerated_calls')}", changed)


_SELECT = "SELECT id, position, recorded_at_us, actor, status, started, progress, batches FROM rerates"


def find(db: apsw.Connection, id_: str) -> RerateRow | None:
    """A re-rate by its id."""
    return next(iter(_found(db, "id = ?", (id_,))), None)


def unfinished(db: apsw.Connection) -> list[str]:
    """The ids of re-rates with something left to do, oldest first."""
    query = "SELECT id FROM rerates WHERE status IN ('running', 'reverting') ORDER BY position"
    return [id_ for (id_,) in db.execute(query)]


def list_rerates(db: apsw.Connection, below: int, limit: int) -> list[RerateRow]:
    """Re-rates below a position, latest first."""
    return _found(db, "position < ? ORDER BY position DESC LIMIT ?", (below, limit))


def rerated_after(db: apsw.Connection, id_: str, position: int, limit: int) -> list[int]:
    """Positions of the events by which a re-rate changed calls, after one of them."""
    query = (
        "SELECT event_position FROM rerated_calls WHERE rerate = ? AND event_position > ? "
        "ORDER BY event_position LIMIT ?"
    )
    return [found for (found,) in db.execute(query, (id_, position, limit))]


def _found(db: apsw.Connection, where: str, bound: tuple[str | int, ...]) -> list[RerateRow]:
    rows: list[Any] = db.execute(f"{_SELECT} WHERE {where}", bound).fetchall()
    return [
        RerateRow(
            id_, position, at_us, actor, status, _decode_started(text),
            None if progress is None else _decode_progress(progress), batches,
        )
        for id_, position, at_us, actor, status, text, progress, batches in rows
    ]  # fmt: skip


PROJECTION = Projection(
    name="rerates",
    version=1,
    tables=(
        Table("rerates", _RUNS, key="id", indexes=(("rerates_position", "(position)"),)),
        Table("rerated_calls", _CALLS, key="rerate, event_position", options="STRICT, WITHOUT ROWID"),
    ),
    apply=_apply,
    blocking=True,
    of=(RerateStarted, RerateAdvanced, RerateReverting, ModelCallRerated),
)
