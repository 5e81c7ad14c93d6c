"""Orders: what an account is to be credited once it was paid for. Pending, then paid, expired or cancelled.

An order keeps the price and the credits of the moment when it was placed. Amounts of money are integers of the
currency's minor unit.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schema.acceptance import check_free_data
from schema.charge import Amount, accept_amount
from schema.conversion import Currency, MinorUnits
from schema.correction import Reason
from schema.coupon import CouponCode
from schema.credit import OWN_ID
from schema.errors import FieldError, InvalidInput
from schema.event import event
from schema.ids import ClientId, ShortId, ledger_source
from schema.money import ZERO
from schema.payment_client import PaymentClientId

NOUN = "order"
SOURCE = ledger_source(NOUN)
OPEN_ORDERS_MAX = 100  # of one account
REFUNDS_MAX = 1_000  # of one order
LIFETIME_S_DEFAULT = 1_800

OrderStatus = Literal["pending", "paid", "partly_refunded", "refunded", "expired", "cancelled"]


class PostedOrder(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An order as posted: of a `package`, or of `amount_minor` of a `currency` that there is a conversion for.

    With `client`, only that payment client's word counts. A `coupon` is a code that gives more for the same price.
    """

    id: ShortId
    package: ClientId | None = None
    amount_minor: MinorUnits | None = None
    currency: Currency | None = None
    client: PaymentClientId | None = None
    coupon: CouponCode | None = None
    metadata: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"PostedOrder(id={self.id!r})"


class PostedCancellation(Struct, kw_only=True, forbid_unknown_fields=True):
    """Why an order is cancelled. The body may be left out."""

    reason: Reason | None = None


class PostedRefund(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A refund as posted: money of an order that was, or is, given back to who paid.

    `credits` are taken from the account's balance for it; left out, the share of what the order gave.
    """

    id: ShortId
    amount_minor: MinorUnits
    credits: Amount | None = None
    reason: Reason


@event("order.placed", 1)
class OrderPlaced(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An order was placed. `priced_at` is the position of the package's or the conversion's event that priced it."""

    id: ShortId
    account: ClientId
    package: ClientId | None = None
    amount_minor: MinorUnits
    currency: Currency
    credits: str
    bonus_credits: str = ZERO
    coupon: ShortId | None = None
    coupon_credits: str = ZERO
    client: PaymentClientId | None = None
    expires_at: str
    priced_at: int
    metadata: dict[str, Any] | None = None


@event("order.paid", 1)
class OrderPaid(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An order was paid, and the account credited with `credits` in all.

    `late`: it had expired before. Its coupon is then used anew, if there was a use of it left: `coupon`.
    """

    id: ShortId
    account: ClientId
    payment: ClientId
    credits: str
    late: bool = False
    coupon: ShortId | None = None


@event("order.expired", 1)
class OrderExpired(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An order's time was over before it was paid; its coupon's use is free again."""

    id: ShortId
    account: ClientId
    coupon: ShortId | None = None


@event("order.cancelled", 1)
class OrderCancelled(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An order is not to be paid any more; its coupon's use is free again."""

    id: ShortId
    account: ClientId
    coupon: ShortId | None = None
    reason: Reason | None = None


@event("order.refunded", 1)
class OrderRefunded(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Money of an order was given back, the `number`th time, and `credits` taken for it; `asked`: it said how many."""

    id: ShortId
    order: ShortId
    account: ClientId
    number: int
    amount_minor: MinorUnits
    credits: str = ZERO
    asked: str | None = None
    reason: Reason


@event("order.refund_declined", 1)
class OrderRefundDeclined(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The account did not have the credits that the refund would have taken. That is final for its id."""

    id: ShortId
    order: ShortId
    account: ClientId
    amount_minor: MinorUnits
    credits: str
    asked: str | None = None
    missing: str
    reason: Reason


class PlaceOrder(Struct, kw_only=True):
    """Command: place an order for an account. `app`: whose key asks; None where the caller may use any account."""

    actor: str
    received_at_us: int
    account: str
    order: PostedOrder
    code_sha256: str | None  # of the coupon, which the order itself then no longer has
    lifetime_us: int
    app: str | None


class CancelOrder(Struct, kw_only=True):
    """Command: an order is not to be paid any more."""

    actor: str
    received_at_us: int
    id: str
    reason: str | None
    app: str | None


class RefundOrder(Struct, kw_only=True):
    """Command: money of an order was given back. The refund was accepted."""

    actor: str
    received_at_us: int
    order: str
    refund: PostedRefund


class SweepOrders(Struct):
    """Command: end the orders whose time is over by `received_at_us`, at most `limit`."""

    received_at_us: int
    limit: int
    actor: str = "ledger"


class OrderView(Struct, kw_only=True):
    """An order as read. `credits`, `bonus_credits` and `coupon_credits` are what it gives; `credited` what it gave.

    `late`: it was paid after it had expired. `position` is that of its latest event.
    """

    id: str
    account: str
    package: str | None
    amount_minor: int
    currency: str
    credits: str
    bonus_credits: str
    coupon: str | None
    coupon_credits: str
    client: str | None
    status: OrderStatus
    late: bool
    payment: str | None
    credited: str
    refunded_minor: int
    refunded_credits: str
    placed_at: str
    expires_at: str
    metadata: dict[str, Any] | None
    position: int


class OrderReceipt(OrderView, kw_only=True):
    """An order as it was placed, or is now where that was before."""

    duplicate: bool


class RefundReceipt(Struct, kw_only=True):
    """A refund as it was taken."""

    id: str
    order: str
    account: str
    amount_minor: int
    credits: str
    reason: str
    position: int
    recorded_at: str
    duplicate: bool


class OrderFilter(Struct, kw_only=True):
    """Which orders; None means any."""

    account: ClientId | None = None
    status: Annotated[OrderStatus, Meta(description="As it is now.")] | None = None


def credit_for(order: str) -> str:
    """The id of the credit that an order gave."""
    return f"{OWN_ID}order:{order}"


def credit_for_refund(order: str, number: int) -> str:
    """The id of the credit that a refund took: up to the second colon it is the ledger's own."""
    return f"{OWN_ID}refund:{number}:{order}"


def refund_id(order: str, id_: str) -> str:
    """The event id of a refund."""
    return f"{order}/refund/{id_}"


def subject_of(id_: str) -> str:
    """The stream of one order."""
    return f"{NOUN}/{id_}"


def accept_order(order: PostedOrder) -> None:
    """Check a posted order; raises InvalidInput or OutOfRange naming the path."""
    free = order.amount_minor is not None or order.currency is not None
    if (order.package is not None) == free or (free and None in {order.amount_minor, order.currency}):
        message = "Expected either `package`, or `amount_minor` and `currency`"
        raise InvalidInput(errors=(FieldError("$.package", message),))
    if order.metadata is not None:
        check_free_data("$.metadata", order.metadata)


def accept_refund(refund: PostedRefund) -> None:
    """Bring a posted refund to its normal form; raises InvalidInput or OutOfRange naming the path."""
    if refund.credits is not None:
        refund.credits = accept_amount(refund.credits, "$.credits", least_e10=0)
    if not refund.reason.isprintable():
        raise InvalidInput(errors=(FieldError("$.reason", "Expected printable characters only"),))
