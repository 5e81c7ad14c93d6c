"""Payments: what payment clients tell of money that arrived. Each is an event, whatever becomes of it.

Money for a pending order credits its account; so does money for one that had expired, because who paid did their part
and nobody decided otherwise. Money that nothing can be credited for is flagged, to be given back or credited by hand.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schema.conversion import Currency, MinorUnits
from schema.correction import Reason
from schema.event import event
from schema.ids import ClientId, ledger_source
from schema.payment_client import PaymentClientId

NOUN = "payment"
SOURCE = ledger_source(NOUN)

# `flagged`: nothing to credit it for. `refused`: it is not what its order asks for.
Outcome = Literal["credited", "flagged", "refused"]
PaymentStatus = Literal["credited", "flagged", "refused", "resolved"]
Why = Literal[
    "unknown_order", "order_cancelled", "order_paid_before", "account_full",
    "amount_differs", "currency_differs", "client_differs",
]  # fmt: skip
Resolution = Literal["returned", "credited"]
VendorId = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._:~-]{1,95}\Z", description="The vendor's own id of a payment: 1 to 95 characters.")
]


class Payment(Struct, kw_only=True, frozen=True):
    """A payment as a callback tells it."""

    payment: VendorId
    order: Annotated[str, Meta(min_length=1, max_length=200)]
    amount_minor: MinorUnits
    currency: Currency


class PostedResolution(Struct, kw_only=True, forbid_unknown_fields=True):
    """What was done by hand about a payment that was flagged or refused."""

    resolution: Resolution
    reason: Reason


@event("payment.received", 1)
class PaymentReceived(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A payment client told that money arrived; `id` is the client's, a colon and the vendor's."""

    id: ClientId
    client: PaymentClientId
    payment: VendorId
    order: Annotated[str, Meta(min_length=1, max_length=200)]
    amount_minor: MinorUnits
    currency: Currency
    outcome: Outcome
    why: Why | None = None
    account: ClientId | None = None


@event("payment.resolved", 1)
class PaymentResolved(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What became of a payment that was flagged or refused."""

    id: ClientId
    resolution: Resolution
    reason: Reason


class RecordPayment(Struct, kw_only=True):
    """Command: a payment client told that money arrived. Its signature was verified."""

    actor: str
    received_at_us: int
    client: str
    payment: Payment


class ResolvePayment(Struct, kw_only=True):
    """Command: something was done by hand about a payment."""

    actor: str
    received_at_us: int
    id: str
    posted: PostedResolution


class PaymentView(Struct, kw_only=True):
    """A payment as read. `why` it was flagged or refused; `position` is that of its latest event."""

    id: str
    client: str
    payment: str
    order: str
    account: str | None
    amount_minor: int
    currency: str
    status: PaymentStatus
    why: Why | None
    resolution: Resolution | None
    received_at: str
    position: int


class CallbackReceipt(Struct, kw_only=True):
    """What became of a callback: a payment by its id; nothing but `ignored` where it tells of none."""

    status: Literal["credited", "flagged", "ignored"]
    payment: str | None = None
    order: str | None = None
    why: Why | None = None
    position: int | None = None
    duplicate: bool = False


class PaymentFilter(Struct, kw_only=True):
    """Which payments; None means any. `flagged` and `refused` ones wait for somebody."""

    status: PaymentStatus | None = None
    order: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


def payment_id(client: str, payment: str) -> str:
    """A payment's id in the ledger: a client's has no colon, so no two payments share one."""
    return f"{client}:{payment}"


def subject_of(id_: str) -> str:
    """The stream of one payment."""
    return f"{NOUN}/{id_}"
