"""Orders: placed, cancelled, swept when their time is over."""

from collections.abc import Sequence

import apsw

from ledger import catalogue, code_guesses, coupon_rules, pricing
from ledger.account_use import require_use
from ledger.decision import Decision, WorkingSet, handles
from ledger.order_event import event_of, expired
from projections import account_balance
from projections import order as rows
from projections.order import OrderRow
from schema.acceptance import differing_fields
from schema.entry import Recorded
from schema.errors import FieldError, IdConflict, LimitReached, NotFound
from schema.money import amount_text
from schema.order import (
    OPEN_ORDERS_MAX,
    SOURCE,
    CancelOrder,
    OrderCancelled,
    OrderPlaced,
    PlaceOrder,
    SweepOrders,
)
from schema.payment_client import PAYMENT_CLIENT, PaymentClient
from schema.payment_errors import NotForSale, OrderClosed
from schema.times import format_time

_OPEN, _ROW, _DUE = "open orders", "order", "due"


def _load_placed(db: apsw.Connection, ws: WorkingSet, commands: Sequence[PlaceOrder]) -> None:
    for command in commands:
        order = command.order
        ws.load(db, [(SOURCE, order.id)])
        account_balance.load(db, ws.book, [command.account])
        pricing.load(db, ws, order)
        if order.client is not None:
            catalogue.load(db, ws, PAYMENT_CLIENT, order.client)
        if command.code_sha256 is not None:
            coupon_rules.load_code(db, ws, command.code_sha256, command.account)
            code_guesses.load(db, ws, command.actor)
        first = ws.find(SOURCE, order.id)
        if first is not None and isinstance(first.data, OrderPlaced) and first.data.coupon is not None:
            coupon_rules.load(db, ws, first.data.coupon, command.account)
        ws.read[_OPEN, command.account] = rows.count_open(db, command.account, command.received_at_us)


@handles(PlaceOrder, _load_placed, alone=True)
def place(ws: WorkingSet, command: PlaceOrder) -> Decision:
    """An order keeps the price of now, and a use of its coupon, until it is paid or over."""
    order, now_us = command.order, command.received_at_us
    account = require_use(ws.book, command.account, command.app)
    first = ws.find(SOURCE, order.id)
    if first is not None:
        return _same_or_conflict(ws, command, first)
    if ws.read[_OPEN, command.account] >= OPEN_ORDERS_MAX:
        raise LimitReached(f"account {command.account} has {OPEN_ORDERS_MAX} orders that are not paid")
    _require_client(ws, order.client)
    quote = pricing.quote(ws, order)
    coupon, more = None, 0
    if command.code_sha256 is not None:
        code_guesses.require_patience(ws, command.actor, now_us)
        found = coupon_rules.with_code(ws, command.code_sha256)
        if found is None:
            return code_guesses.wrong(ws, command.actor, now_us)
        coupon_rules.require_usable(found, account, now_us, order.package)
        coupon, more = found.coupon.id, pricing.with_coupon(quote, found.coupon)
    data = OrderPlaced(
        id=order.id, account=command.account, package=order.package, amount_minor=quote.amount_minor,
        currency=quote.currency, credits=amount_text(quote.credits_e10), bonus_credits=amount_text(quote.bonus_e10),
        coupon=coupon, coupon_credits=amount_text(more), client=order.client,
        expires_at=format_time(now_us + command.lifetime_us), priced_at=quote.priced_at, metadata=order.metadata,
    )  # fmt: skip
    return Decision([event_of(order.id, "", data, now_us, command.actor)])


def _require_client(ws: WorkingSet, client: str | None) -> None:
    if client is None:
        return
    latest = ws.latest.get((PAYMENT_CLIENT.source, client))
    if latest is None or not isinstance(latest.data, PaymentClient) or not latest.data.enabled:
        raise NotForSale(f"there is no payment client {client} in use")


def _same_or_conflict(ws: WorkingSet, command: PlaceOrder, first: Recorded) -> Decision:
    order, placed = command.order, first.data
    assert isinstance(placed, OrderPlaced)
    asked = {"package", "client", "metadata"}
    if order.package is None:
        asked |= {"amount_minor", "currency"}
    different = [name for name in differing_fields(order, placed) if name in asked]
    if command.account != placed.account:
        different.append("account")
    coupon = None if placed.coupon is None else coupon_rules.known(ws, placed.coupon).coupon.code_sha256
    if command.code_sha256 != coupon:
        different.append("coupon")
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(f"this order was placed before, at position {first.position}, otherwise", errors=errors)
    return Decision([], first)


def _load_cancelled(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CancelOrder]) -> None:
    for command in commands:
        ws.load(db, [(SOURCE, f"{command.id}/cancel")])
        row = rows.find(db, command.id)
        if row is not None:
            ws.read[_ROW, command.id] = row
            account_balance.load(db, ws.book, [row.account])


@handles(CancelOrder, _load_cancelled, alone=True)
def cancel(ws: WorkingSet, command: CancelOrder) -> Decision:
    """An order that was not paid is given up; the same again changes nothing."""
    row: OrderRow | None = ws.read.get((_ROW, command.id))
    if row is None:
        raise NotFound(f"there is no order {command.id}")
    require_use(ws.book, row.account, command.app)
    first = ws.find(SOURCE, f"{command.id}/cancel")
    if first is not None:
        return Decision([], first)
    if row.status != "pending" or row.expires_at_us <= command.received_at_us:
        raise OrderClosed(f"order {command.id} is {'expired' if row.status == 'pending' else row.status}")
    data = OrderCancelled(id=row.id, account=row.account, coupon=row.coupon, reason=command.reason)
    return Decision([event_of(row.id, "/cancel", data, command.received_at_us, command.actor)])


def _load_due(db: apsw.Connection, ws: WorkingSet, commands: Sequence[SweepOrders]) -> None:
    (command,) = commands
    ws.read[_DUE, ""] = rows.due(db, command.received_at_us, command.limit)


@handles(SweepOrders, _load_due, alone=True)
def sweep(ws: WorkingSet, command: SweepOrders) -> Decision:
    """Orders whose time is over end, also where nobody looks at them."""
    return Decision([expired(row, command.actor) for row in ws.read[_DUE, ""]])
