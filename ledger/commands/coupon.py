"""Coupons: created, changed, deleted, redeemed."""

from collections.abc import Sequence

import apsw

from ledger import catalogue, code_guesses, coupon_rules
from ledger.account_use import require_use
from ledger.decision import Decision, WorkingSet, handles
from ledger.payer import load_details
from ledger.teller import Teller
from projections import account_balance
from schema import account as accounts
from schema.coupon import (
    COUPON,
    ChangeCoupon,
    Coupon,
    CouponRedeemed,
    CreateCoupon,
    DeleteCoupon,
    RedeemCoupon,
    check_validity,
    credit_for,
    redemption_id,
)
from schema.credit import PostedCredit, credit_id
from schema.entry import NewEvent, Recorded
from schema.errors import FieldError, IdConflict, NameTaken
from schema.payment_errors import CouponUnusable
from schema.times import DAY_US, format_time


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateCoupon]) -> None:
    for command in commands:
        catalogue.load(db, ws, COUPON, command.content.id)
        catalogue.load_holder(db, ws, COUPON, command.content.id, code_sha256=command.content.code_sha256)


@handles(CreateCoupon, _load_created, alone=True)
def create(ws: WorkingSet, command: CreateCoupon) -> Decision:
    """A coupon comes into being. One whose code was drawn keeps the first that was."""
    content = command.content
    first = ws.find(COUPON.source, content.id)
    if first is not None and command.drawn:
        assert isinstance(first.data, Coupon)
        content.code_sha256, content.code_mask = first.data.code_sha256, first.data.code_mask
    repeated = catalogue.repeated(ws, COUPON, command)
    if repeated is not None:
        return repeated
    holder = ws.holders.get((COUPON.noun, content.code_sha256))
    if holder is not None:
        error = FieldError("$.code", f"Expected a code that no other coupon has; it is that of {holder}")
        raise NameTaken(errors=(error,))
    return catalogue.created(COUPON, command)


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangeCoupon | DeleteCoupon]) -> None:
    for command in commands:
        catalogue.load(db, ws, COUPON, command.id)


@handles(ChangeCoupon, _load, alone=True)
def change(ws: WorkingSet, command: ChangeCoupon) -> Decision:
    """A coupon is changed, if anything differs."""
    coupon = catalogue.changed(ws, COUPON, command)
    check_validity(coupon)
    return catalogue.replaced(ws, COUPON, command, coupon)


@handles(DeleteCoupon, _load, alone=True)
def delete(ws: WorkingSet, command: DeleteCoupon) -> Decision:
    """A coupon can be redeemed no more."""
    return catalogue.deleted(ws, COUPON, command)


def _load_redeemed(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RedeemCoupon]) -> None:
    for command in commands:
        ws.load(db, [(accounts.SOURCE, redemption_id(command.account, command.id))])
        ws.load(db, [(accounts.SOURCE, credit_id(command.account, credit_for(command.id)))])
        for event in list(ws.events.values()):
            if isinstance(event.data, CouponRedeemed):
                coupon_rules.load(db, ws, event.data.coupon, command.account)
        coupon_rules.load_code(db, ws, command.code_sha256, command.account)
        account_balance.load(db, ws.book, [command.account])
        code_guesses.load(db, ws, command.actor)
    load_details(db, ws.book, commands)


@handles(RedeemCoupon, _load_redeemed, alone=True)
def redeem(ws: WorkingSet, command: RedeemCoupon) -> Decision:
    """An account gets a coupon's credits. Refused, it leaves nothing, and may be asked again."""
    account = require_use(ws.book, command.account, command.app)
    first = ws.find(accounts.SOURCE, redemption_id(command.account, command.id))
    if first is not None:
        return _repeated(ws, command, first)
    code_guesses.require_patience(ws, command.actor, command.received_at_us)
    found = coupon_rules.with_code(ws, command.code_sha256)
    if found is None:
        return code_guesses.wrong(ws, command.actor, command.received_at_us)
    if found.coupon.credits is None:
        raise CouponUnusable("this coupon is for an order")
    coupon_rules.require_usable(found, account, command.received_at_us)
    teller = Teller(ws.book, command.received_at_us, command.actor)
    teller.credit(command.account, _gift(command, found.coupon))
    return Decision([_redeemed(command, found.coupon), *teller.events], answer=teller.answer + 1)


def _gift(command: RedeemCoupon, coupon: Coupon) -> PostedCredit:
    assert coupon.credits is not None
    days = coupon.credits_expire_in_days
    ends = None if days is None else format_time(command.received_at_us + days * DAY_US)
    return PostedCredit(
        id=credit_for(command.id), kind=coupon.kind, amount=coupon.credits, free=True, expires_at=ends,
        related=f"{COUPON.noun}:{coupon.id}",
    )  # fmt: skip


def _redeemed(command: RedeemCoupon, coupon: Coupon) -> NewEvent:
    assert coupon.credits is not None
    data = CouponRedeemed(
        id=command.id, coupon=coupon.id, account=command.account, amount=coupon.credits, credit=credit_for(command.id)
    )
    at_us = command.received_at_us
    subject, id_ = f"{accounts.NOUN}/{command.account}", redemption_id(command.account, command.id)
    return NewEvent(accounts.SOURCE, id_, subject, format_time(at_us), at_us, command.actor, data)


def _repeated(ws: WorkingSet, command: RedeemCoupon, first: Recorded) -> Decision:
    """The same redemption again gets the credit that it got."""
    assert isinstance(first.data, CouponRedeemed)
    if coupon_rules.known(ws, first.data.coupon).coupon.code_sha256 != command.code_sha256:
        error = FieldError("$.code", "differs from the first content")
        raise IdConflict(f"this id was used before, at position {first.position}", errors=(error,))
    return Decision([], ws.find(accounts.SOURCE, credit_id(command.account, credit_for(command.id))))
