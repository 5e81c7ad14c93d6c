"""Events of orders, as commands of several kinds make them."""

from msgspec import Struct

from projections.order import OrderRow
from schema.entry import NewEvent
from schema.order import SOURCE, OrderExpired, subject_of
from schema.times import format_time


def event_of(order: str, verb: str, data: Struct, at_us: int, actor: str) -> NewEvent:
    """An event of an order; its first has no verb, later ones `/verb`."""
    return NewEvent(SOURCE, f"{order}{verb}", subject_of(order), format_time(at_us), at_us, actor, data)


def expired(row: OrderRow, actor: str) -> NewEvent:
    """That an order's time was over, as of then."""
    data = OrderExpired(id=row.id, account=row.account, coupon=row.coupon)
    return event_of(row.id, "/expire", data, row.expires_at_us, actor)
