"""Refunds of orders: money given back to who paid, and the credits that it bought taken back."""

from collections.abc import Sequence
from typing import Any

import apsw

from ledger.decision import Decision, WorkingSet, handles
from ledger.order_event import event_of
from ledger.payer import load_details
from ledger.teller import Teller
from projections import account_balance
from projections import order as rows
from projections.order import OrderRow
from schema.credit import PostedCredit
from schema.entry import Recorded
from schema.errors import FieldError, IdConflict, LimitReached, NotFound, OutOfRange
from schema.money import amount_e10, amount_text, half_up
from schema.order import (
    NOUN,
    REFUNDS_MAX,
    SOURCE,
    OrderRefundDeclined,
    OrderRefunded,
    PostedRefund,
    RefundOrder,
    credit_for_refund,
    refund_id,
)
from schema.payment_errors import OrderClosed, RefundExceedsPaid

_ROW = "order"


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RefundOrder]) -> None:
    for command in commands:
        ws.load(db, [(SOURCE, refund_id(command.order, command.refund.id))])
        row = rows.find(db, command.order)
        if row is not None:
            ws.read[_ROW, row.id] = row
            account_balance.load(db, ws.book, [row.account])
    load_details(db, ws.book, commands)


@handles(RefundOrder, _load, alone=True)
def refund(ws: WorkingSet, command: RefundOrder) -> Decision:
    """All refunds together are at most what was paid. Credits that the account no longer has decline it, for good."""
    row: OrderRow | None = ws.read.get((_ROW, command.order))
    if row is None:
        raise NotFound(f"there is no order {command.order}")
    posted = command.refund
    first = ws.find(SOURCE, refund_id(row.id, posted.id))
    if first is not None:
        return _same_or_conflict(first, posted)
    _require_left(row, posted.amount_minor)
    taken = _taken_e10(row, posted)
    teller = Teller(ws.book, command.received_at_us, command.actor)
    state = teller.settle_due(row.account)
    missing = taken - max(state.unheld_balance_e10, 0)
    verb = refund_id("", posted.id)
    common: dict[str, Any] = {
        "id": posted.id, "order": row.id, "account": row.account, "amount_minor": posted.amount_minor,
        "credits": amount_text(taken), "asked": posted.credits, "reason": posted.reason,
    }  # fmt: skip
    if taken and missing > 0:
        declined = OrderRefundDeclined(**common, missing=amount_text(missing))
        return Decision([event_of(row.id, verb, declined, command.received_at_us, command.actor)])
    number = row.refunds + 1
    if taken:
        teller.credit(row.account, _taken_back(row, number, taken, posted.reason))
    refunded = OrderRefunded(**common, number=number)
    made = event_of(row.id, verb, refunded, command.received_at_us, command.actor)
    return Decision([made, *teller.events], answer=0)


def _require_left(row: OrderRow, amount_minor: int) -> None:
    if row.status not in {"paid", "partly_refunded", "refunded"}:
        raise OrderClosed(f"order {row.id} was not paid: it is {row.status}")
    left = row.amount_minor - row.refunded_minor
    if amount_minor > left:
        raise RefundExceedsPaid(f"{left} of {row.amount_minor} {row.currency} are left to be refunded")
    if row.refunds >= REFUNDS_MAX:
        raise LimitReached(f"order {row.id} has {REFUNDS_MAX:,} refunds")


def _taken_e10(row: OrderRow, posted: PostedRefund) -> int:
    """The credits that a refund takes back: as many as it says, else its share; all shares add up to all.

    Its own share, whatever the refunds before it took: one that said another number is not made up for.
    """
    left = row.credited_e10 - row.refunded_e10
    if posted.credits is None:
        before = half_up(row.credited_e10 * row.refunded_minor, row.amount_minor)
        after = half_up(row.credited_e10 * (row.refunded_minor + posted.amount_minor), row.amount_minor)
        return min(after - before, left)
    taken = amount_e10(posted.credits)
    if taken > left:
        raise OutOfRange(errors=(FieldError("$.credits", f"Expected at most {amount_text(left)}, which are left"),))
    return taken


def _taken_back(row: OrderRow, number: int, taken: int, reason: str) -> PostedCredit:
    return PostedCredit(
        id=credit_for_refund(row.id, number), kind="refund", amount=amount_text(-taken), free=False, reason=reason,
        related=f"{NOUN}:{row.id}",
    )  # fmt: skip


def _same_or_conflict(first: Recorded, posted: PostedRefund) -> Decision:
    data = first.data
    assert isinstance(data, OrderRefunded | OrderRefundDeclined)
    pairs = {
        "amount_minor": (data.amount_minor, posted.amount_minor), "credits": (data.asked, posted.credits),
        "reason": (data.reason, posted.reason),
    }  # fmt: skip
    errors = tuple(FieldError(f"$.{n}", "differs from the first content") for n, (a, b) in pairs.items() if a != b)
    if errors:
        raise IdConflict(f"this refund was made before, at position {first.position}, otherwise", errors=errors)
    return Decision([], first)
