"""Payments by id, as they were told, and what became of those that nothing was credited for."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import Struct
from msgspec.structs import astuple

from projections.catalogue import Condition
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.payment import PaymentFilter, PaymentReceived, PaymentResolved, PaymentStatus, Resolution, Why

_COLUMNS = """
    id                 TEXT PRIMARY KEY,
    client             TEXT NOT NULL,
    payment            TEXT NOT NULL,
    order_id           TEXT NOT NULL,
    account            TEXT,
    amount_minor       INTEGER NOT NULL,
    currency           TEXT NOT NULL,
    status             TEXT NOT NULL,
    why                TEXT,
    resolution         TEXT,
    received_at_us     INTEGER NOT NULL,
    received_position  INTEGER NOT NULL,
    position           INTEGER NOT NULL
"""


class PaymentRow(Struct):
    """A row of `payments`."""

    id: str
    client: str
    payment: str
    order_id: str
    account: str | None
    amount_minor: int
    currency: str
    status: PaymentStatus
    why: Why | None
    resolution: Resolution | None
    received_at_us: int
    received_position: int
    position: int


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    table = target.table("payments")
    for event in events:
        match event.data:
            case PaymentReceived() as data:
                marks = ",".join("?" * len(PaymentRow.__struct_fields__))
                target.db.execute(f"INSERT INTO {table} VALUES ({marks})", astuple(row_of(event, data)))
            case PaymentResolved() as data:
                resolved = f"UPDATE {table} SET status = 'resolved', resolution = ?, position = ? WHERE id = ?"
                target.db.execute(resolved, (data.resolution, event.position, data.id))
            case _:
                pass


def row_of(event: Recorded, data: PaymentReceived) -> PaymentRow:
    """A payment as it was told."""
    return PaymentRow(
        data.id, data.client, data.payment, data.order, data.account, data.amount_minor, data.currency, data.outcome,
        data.why, None, event.recorded_at_us, event.position, event.position,
    )  # fmt: skip


def find(db: apsw.Connection, id_: str) -> PaymentRow | None:
    """A payment by its id."""
    rows: list[Any] = db.execute("SELECT * FROM payments WHERE id = ?", (id_,)).fetchall()
    return PaymentRow(*rows[0]) if rows else None


def conditions(wanted: PaymentFilter) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found: list[Condition] = []
    if wanted.status is not None:
        found.append(("status = ?", (wanted.status,)))
    if wanted.order is not None:
        found.append(("order_id = ?", (wanted.order,)))
    return found


def newest(db: apsw.Connection, conditions: Sequence[Condition], before: int, limit: int) -> list[PaymentRow]:
    """Payments told before a position that meet all conditions, newest first."""
    where = " AND ".join(("received_position < ?", *(condition for condition, _ in conditions)))
    bound = [value for _, values in conditions for value in values]
    query = f"SELECT * FROM payments WHERE {where} ORDER BY received_position DESC LIMIT ?"
    rows: list[Any] = db.execute(query, (before, *bound, limit)).fetchall()
    return [PaymentRow(*row) for row in rows]


PROJECTION = Projection(
    name="payments",
    version=1,
    tables=(
        Table(
            "payments", _COLUMNS, key="id",
            indexes=(
                ("payments_by_position", "(received_position)"),
                ("payments_by_status", "(status, received_position)"),
                ("payments_by_order", "(order_id, received_position)"),
            ),
        ),
    ),
    apply=_apply,
    blocking=True,
    of=(PaymentReceived, PaymentResolved),
)  # fmt: skip
