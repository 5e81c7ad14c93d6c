"""Orders by id: what they ask for and give, and what became of them. Commands read it."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from projections.catalogue import Condition
from projections.projection import Projection, Table, Target
from schema.entry import Recorded
from schema.money import amount_e10
from schema.order import OrderCancelled, OrderExpired, OrderPaid, OrderPlaced, OrderRefunded, OrderStatus
from schema.times import parse_time

_COLUMNS = """
    id                TEXT PRIMARY KEY,
    account           TEXT NOT NULL,
    package           TEXT,
    amount_minor      INTEGER NOT NULL,
    currency          TEXT NOT NULL,
    credits_e10       INTEGER NOT NULL,
    bonus_e10         INTEGER NOT NULL,
    coupon            TEXT,
    coupon_e10        INTEGER NOT NULL,
    client            TEXT,
    metadata          TEXT,
    placed_at_us      INTEGER NOT NULL,
    expires_at_us     INTEGER NOT NULL,
    placed_position   INTEGER NOT NULL,
    status            TEXT NOT NULL,
    position          INTEGER NOT NULL,
    late              INTEGER NOT NULL,
    payment           TEXT,
    credited_e10      INTEGER NOT NULL,
    refunded_minor    INTEGER NOT NULL,
    refunded_e10      INTEGER NOT NULL,
    refunds           INTEGER NOT NULL
"""


class OrderRow(Struct):
    """A row of `orders`."""

    id: str
    account: str
    package: str | None
    amount_minor: int
    currency: str
    credits_e10: int
    bonus_e10: int
    coupon: str | None
    coupon_e10: int
    client: str | None
    metadata: str | None
    placed_at_us: int
    expires_at_us: int
    placed_position: int
    status: OrderStatus
    position: int
    late: int = 0
    payment: str | None = None
    credited_e10: int = 0
    refunded_minor: int = 0
    refunded_e10: int = 0
    refunds: int = 0


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    for event in events:
        match event.data:
            case OrderPlaced() as data:
                marks = ",".join("?" * len(OrderRow.__struct_fields__))
                target.db.execute(f"INSERT INTO {target.table('orders')} VALUES ({marks})", astuple(_row(event, data)))
            case OrderPaid() as data:
                paid = {"late": int(data.late), "payment": data.payment, "credited_e10": amount_e10(data.credits)}
                _set(target, event, data.id, status="paid", **paid)
            case OrderExpired() as data:
                _set(target, event, data.id, status="expired")
            case OrderCancelled() as data:
                _set(target, event, data.id, status="cancelled")
            case OrderRefunded() as data:
                _refund(target, event, data)
            case _:
                pass


def _row(event: Recorded, data: OrderPlaced) -> OrderRow:
    metadata = None if data.metadata is None else msgspec.json.encode(data.metadata).decode()
    return OrderRow(
        data.id, data.account, data.package, data.amount_minor, data.currency, amount_e10(data.credits),
        amount_e10(data.bonus_credits), data.coupon, amount_e10(data.coupon_credits), data.client, metadata,
        event.recorded_at_us, parse_time(data.expires_at), event.position, "pending", event.position,
    )  # fmt: skip


def _set(target: Target, event: Recorded, id_: str, **values: str | int) -> None:
    setting = ", ".join(f"{name} = ?" for name in values)
    update = f"UPDATE {target.table('orders')} SET {setting}, position = ? WHERE id = ?"
    target.db.execute(update, (*values.values(), event.position, id_))


def _refund(target: Target, event: Recorded, data: OrderRefunded) -> None:
    update = (
        f"UPDATE {target.table('orders')} SET refunded_minor = refunded_minor + ?1, refunded_e10 = refunded_e10 + ?2, "
        "refunds = refunds + 1, position = ?3, "
        "status = iif(refunded_minor + ?1 = amount_minor, 'refunded', 'partly_refunded') WHERE id = ?4"
    )
    target.db.execute(update, (data.amount_minor, amount_e10(data.credits), event.position, data.order))


def find(db: apsw.Connection, id_: str) -> OrderRow | None:
    """An order by its id."""
    rows: list[Any] = db.execute("SELECT * FROM orders WHERE id = ?", (id_,)).fetchall()
    return OrderRow(*rows[0]) if rows else None


def count_open(db: apsw.Connection, account: str, now_us: int) -> int:
    """How many of an account's orders can still be paid in time."""
    query = "SELECT count(*) FROM orders WHERE account = ? AND status = 'pending' AND expires_at_us > ?"
    return db.execute(query, (account, now_us)).get


def due(db: apsw.Connection, now_us: int, limit: int) -> list[OrderRow]:
    """Orders whose time is over and that are not recorded as expired, the longest over first."""
    query = "SELECT * FROM orders WHERE status = 'pending' AND expires_at_us <= ? ORDER BY expires_at_us, id LIMIT ?"
    rows: list[Any] = db.execute(query, (now_us, limit)).fetchall()
    return [OrderRow(*row) for row in rows]


def with_status(status: OrderStatus, now_us: int) -> list[Condition]:
    """The status at a moment, as conditions of which any will do: each is found by an index.

    One that is over is expired, whether or not that was recorded yet. The plus keeps the planner from the index by
    expiry, which would have it sort.
    """
    match status:
        case "pending":
            return [("status = 'pending' AND +expires_at_us > ?", (now_us,))]
        case "expired":
            return [("status = 'expired'", ()), ("status = 'pending' AND +expires_at_us <= ?", (now_us,))]
        case _:
            return [("status = ?", (status,))]


def newest(db: apsw.Connection, conditions: Sequence[Condition], before: int, limit: int) -> list[OrderRow]:
    """Orders placed before a position that meet all conditions, newest first."""
    where = " AND ".join(("placed_position < ?", *(condition for condition, _ in conditions)))
    bound = [value for _, values in conditions for value in values]
    query = f"SELECT * FROM orders WHERE {where} ORDER BY placed_position DESC LIMIT ?"
    rows: list[Any] = db.execute(query, (before, *bound, limit)).fetchall()
    return [OrderRow(*row) for row in rows]


PROJECTION = Projection(
    name="orders",
    version=1,
    tables=(
        Table(
            "orders", _COLUMNS, key="id",
            indexes=(
                ("orders_by_position", "(placed_position)"),
                ("orders_by_account", "(account, placed_position)"),
                ("orders_by_status", "(status, placed_position)"),
                ("orders_by_account_and_status", "(account, status, placed_position)"),
                ("orders_due", "(status, expires_at_us, id)"),
                ("orders_open", "(account, expires_at_us) WHERE status = 'pending'"),
            ),
        ),
    ),
    apply=_apply,
    blocking=True,
    of=(OrderPlaced, OrderPaid, OrderExpired, OrderCancelled, OrderRefunded),
)  # fmt: skip
