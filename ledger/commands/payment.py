"""Payments: recorded as they are told, once each, and credited where an order asks for exactly that."""

from collections.abc import Sequence

import apsw
import msgspec

from ledger import coupon_rules
from ledger.decision import Decision, WorkingSet, handles
from ledger.order_event import event_of, expired
from ledger.payer import load_details
from ledger.teller import Teller
from projections import account_balance, payment
from projections import order as orders
from projections.order import OrderRow
from projections.payment import PaymentRow
from schema.credit import PostedCredit
from schema.entry import NewEvent, Recorded
from schema.errors import FieldError, IdConflict, LimitReached, NotFound
from schema.money import amount_text
from schema.order import NOUN, OrderPaid, credit_for
from schema.payment import (
    SOURCE,
    Outcome,
    PaymentReceived,
    PaymentResolved,
    RecordPayment,
    ResolvePayment,
    Why,
    payment_id,
    subject_of,
)
from schema.times import format_time

_ORDER, _PAYMENT = "order", "payment"


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RecordPayment]) -> None:
    for command in commands:
        ws.load(db, [(SOURCE, payment_id(command.client, command.payment.payment))])
        row = orders.find(db, command.payment.order)
        if row is not None:
            ws.read[_ORDER, row.id] = row
            account_balance.load(db, ws.book, [row.account])
            if row.coupon is not None:
                coupon_rules.load(db, ws, row.coupon, row.account)
    load_details(db, ws.book, commands)


@handles(RecordPayment, _load, alone=True)
def record(ws: WorkingSet, command: RecordPayment) -> Decision:
    """One event for each payment, and with it what it pays for."""
    told = command.payment
    first = ws.find(SOURCE, payment_id(command.client, told.payment))
    if first is not None:
        return _same_or_conflict(first, command)
    row: OrderRow | None = ws.read.get((_ORDER, told.order))
    if row is None:
        return Decision([_received(command, None, "flagged", "unknown_order")])
    mismatch = _mismatch(row, command)
    if mismatch is not None:
        return Decision([_received(command, row, "refused", mismatch)])
    if row.status not in {"pending", "expired"}:
        why = "order_cancelled" if row.status == "cancelled" else "order_paid_before"
        return Decision([_received(command, row, "flagged", why)])
    try:
        return _paid(ws, command, row)
    except LimitReached:
        return Decision([_received(command, row, "flagged", "account_full")])


def _mismatch(row: OrderRow, command: RecordPayment) -> Why | None:
    if row.client not in {None, command.client}:
        return "client_differs"
    if row.currency != command.payment.currency:
        return "currency_differs"
    return None if row.amount_minor == command.payment.amount_minor else "amount_differs"


def _paid(ws: WorkingSet, command: RecordPayment, row: OrderRow) -> Decision:
    """What the order gives is credited, in time or late; raises LimitReached."""
    now_us, actor = command.received_at_us, command.actor
    late = row.status == "expired" or row.expires_at_us <= now_us
    ended = [expired(row, actor)] if late and row.status == "pending" else []
    again = row.coupon if late and _usable_again(ws, row, now_us) else None
    coupon_e10 = row.coupon_e10 if again is not None or not late else 0
    given = amount_text(row.credits_e10 + row.bonus_e10 + coupon_e10)
    teller = Teller(ws.book, now_us, actor)
    posted = PostedCredit(id=credit_for(row.id), kind="recharge", amount=given, free=False, related=f"{NOUN}:{row.id}")
    teller.credit(row.account, posted)
    id_ = payment_id(command.client, command.payment.payment)
    data = OrderPaid(id=row.id, account=row.account, payment=id_, credits=given, late=late, coupon=again)
    made = [*ended, _received(command, row, "credited"), event_of(row.id, "/pay", data, now_us, actor)]
    return Decision([*made, *teller.events], answer=len(ended))


def _usable_again(ws: WorkingSet, row: OrderRow, now_us: int) -> bool:
    """Whether an order that has expired may use its coupon once more: its own use, if it still counts, is let go."""
    if row.coupon is None:
        return False
    found = coupon_rules.known(ws, row.coupon)
    if row.status == "pending":
        found = msgspec.structs.replace(found, uses=found.uses - 1, uses_of_account=found.uses_of_account - 1)
    return coupon_rules.refusal(found, ws.book.accounts[row.account], now_us, row.package) is None


def _received(command: RecordPayment, row: OrderRow | None, outcome: Outcome, why: Why | None = None) -> NewEvent:
    told, at_us = command.payment, command.received_at_us
    id_ = payment_id(command.client, told.payment)
    data = PaymentReceived(
        id=id_, client=command.client, payment=told.payment, order=told.order, amount_minor=told.amount_minor,
        currency=told.currency, outcome=outcome, why=why, account=None if row is None else row.account,
    )  # fmt: skip
    return NewEvent(SOURCE, id_, subject_of(id_), format_time(at_us), at_us, command.actor, data)


def _same_or_conflict(first: Recorded, command: RecordPayment) -> Decision:
    told, data = command.payment, first.data
    assert isinstance(data, PaymentReceived)
    different = [n for n in ("order", "amount_minor", "currency") if getattr(told, n) != getattr(data, n)]
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from what was told first") for name in different)
        raise IdConflict(f"this payment was told before, at position {first.position}, otherwise", errors=errors)
    return Decision([], first)


def _load_resolved(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ResolvePayment]) -> None:
    for command in commands:
        ws.load(db, [(SOURCE, f"{command.id}/resolve")])
        row = payment.find(db, command.id)
        if row is not None:
            ws.read[_PAYMENT, row.id] = row


@handles(ResolvePayment, _load_resolved, alone=True)
def resolve(ws: WorkingSet, command: ResolvePayment) -> Decision:
    """What became of a payment that waited for somebody; that is said once."""
    row: PaymentRow | None = ws.read.get((_PAYMENT, command.id))
    if row is None:
        raise NotFound(f"there is no payment {command.id}")
    posted = command.posted
    first = ws.find(SOURCE, f"{row.id}/resolve")
    if first is not None:
        assert isinstance(first.data, PaymentResolved)
        if (first.data.resolution, first.data.reason) != (posted.resolution, posted.reason):
            raise IdConflict(f"this payment was resolved before, at position {first.position}, otherwise")
        return Decision([], first)
    if row.status == "credited":
        raise IdConflict("this payment was credited when it came")
    data = PaymentResolved(id=row.id, resolution=posted.resolution, reason=posted.reason)
    at_us = command.received_at_us
    event = NewEvent(SOURCE, f"{row.id}/resolve", subject_of(row.id), format_time(at_us), at_us, command.actor, data)
    return Decision([event])
