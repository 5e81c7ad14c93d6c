"""Holds: placed or declined, then settled, released or over."""

from collections.abc import Sequence

import apsw

from ledger.decision import Decision, Key, WorkingSet, handles
from ledger.hold_cover import place_hold
from ledger.payer import load_details, may_use
from ledger.teller import Teller
from projections import account_balance
from projections.account_book import HoldState
from schema.acceptance import differing_fields
from schema.charge import BudgetSpend
from schema.entry import Recorded
from schema.errors import FieldError, Forbidden, HoldClosed, IdConflict, NotFound
from schema.hold import (
    HoldDeclined,
    HoldPlaced,
    HoldSettled,
    PlaceHold,
    PostedHold,
    ReleaseHold,
    SettleHold,
    source_of,
)
from schema.model_call import FINISHED
from schema.model_call import source_of as call_source
from schema.money import amount_e10
from schema.times import format_time


def _load_placed(db: apsw.Connection, ws: WorkingSet, commands: Sequence[PlaceHold]) -> None:
    ws.load(db, [(source_of(c.hold.app), c.hold.id) for c in commands])
    # It may be settled before the group ends.
    ws.load(db, [key for c in commands if c.hold.call_id for key in _ends_of_call(c.hold.app, c.hold.call_id)])
    account_balance.load_linked(db, ws.book, [(c.hold.app or "", c.hold.call_id) for c in commands if c.hold.call_id])
    ws.book.collect()  # every event is about an account: what it does need not be worked out twice
    linked = (hold.account for holds in ws.book.linked.values() for hold in holds)
    account_balance.load(db, ws.book, dict.fromkeys([*(c.account for c in commands), *linked]))
    load_details(db, ws.book, commands)


@handles(PlaceHold, _load_placed)
def place(ws: WorkingSet, command: PlaceHold) -> Decision:
    """Credit is set aside; where there is not enough, that is the answer to this id for ever."""
    hold = command.hold
    first = ws.find(source_of(hold.app), hold.id)
    if first is not None:
        return same_or_conflict(first, command.account, hold)
    account = ws.book.accounts.get(command.account)
    if account is None:
        raise NotFound(f"there is no account {command.account}")
    if not command.any_account and not may_use(account, hold.app):
        raise Forbidden(f"account {command.account} is not this app's, nor granted to it")
    teller = Teller(ws.book, command.received_at_us, command.actor, command.account)
    place_hold(ws, teller, command.account, hold)
    return teller.decision()


def same_or_conflict(first: Recorded, account: str, hold: PostedHold) -> Decision:
    """The decision on a hold's id that was used before; raises IdConflict."""
    assert isinstance(first.data, HoldPlaced | HoldDeclined)
    different = differing_fields(hold, first.data)
    if account != first.data.account:
        different = (*different, "account")
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(f"this hold was placed before, at position {first.position}, otherwise", errors=errors)
    return Decision([], first)


_ENDS = ("", "/settle", "/release", "/expire")


def _load_ended(db: apsw.Connection, ws: WorkingSet, commands: Sequence[SettleHold | ReleaseHold]) -> None:
    ws.load(db, [(source_of(c.app), c.id + end) for c in commands for end in _ENDS])
    book = ws.book
    book.collect()
    account_balance.load_holds(db, book, [(c.app or "", c.id) for c in commands])
    account_balance.load(db, book, {hold.account: None for hold in book.holds.values()})
    load_details(db, book, commands)
    ws.load(db, [key for hold in book.holds.values() for key in _ends_of_call(hold.app, hold.call_id)])


def _ends_of_call(app: str | None, call_id: str | None) -> list[Key]:
    """Where the event is that told the end of the call that a hold is for."""
    return [] if call_id is None else [(call_source(app or ""), call_id + verb) for verb in ("", "/complete", "/fail")]


def _found(ws: WorkingSet, command: SettleHold | ReleaseHold) -> HoldState:
    hold = ws.book.holds.get((command.app or "", command.id))
    if hold is None:
        raise NotFound(f"there is no hold {command.id}")
    if hold.status == "declined":
        raise HoldClosed(f"hold {command.id} was declined, at position {hold.position}")
    return hold


@handles(SettleHold, _load_ended)
def settle(ws: WorkingSet, command: SettleHold) -> Decision:
    """What was held for is charged. After its time that is a charge like any that nobody held for."""
    hold = _found(ws, command)
    first = ws.find(source_of(command.app), f"{command.id}/settle")
    if first is not None:
        assert isinstance(first.data, HoldSettled)
        if first.data.amount != command.amount:
            raise HoldClosed(f"hold {command.id} was settled at position {first.position}, with {first.data.amount}")
        return Decision([], first)
    if hold.status == "released":
        raise HoldClosed(f"hold {command.id} was released, at position {hold.closed_position}")
    _require_uncharged(ws, hold)
    teller = Teller(ws.book, command.received_at_us, command.actor, hold.account)
    teller.settle(hold, amount_e10(command.amount), budget_spend=_budget_spend(ws, command))
    return teller.decision()


def _require_uncharged(ws: WorkingSet, hold: HoldState) -> None:
    """The call may have come when the hold's time was over, and then was charged itself: once is enough."""
    for ended in (ws.find(*key) for key in _ends_of_call(hold.app, hold.call_id)):
        charge = ended.data.charge if ended is not None and isinstance(ended.data, FINISHED) else None
        if ended is not None and charge is not None:
            raise HoldClosed(f"the call that hold {hold.id} is for was charged at position {ended.position}")


def _budget_spend(ws: WorkingSet, command: SettleHold) -> BudgetSpend | None:
    """What was spent of the budgets that covered the hold, also where its time is over: the credit is gone."""
    placed = ws.find(source_of(command.app), command.id)
    assert placed is not None
    assert isinstance(placed.data, HoldPlaced)
    budgets = placed.data.budgets
    if budgets is None:
        return None
    return BudgetSpend(budgets=budgets, amount=command.amount, at=format_time(command.received_at_us))


@handles(ReleaseHold, _load_ended)
def release(ws: WorkingSet, command: ReleaseHold) -> Decision:
    """What was held is free again; one that is over by its time has been freed before."""
    hold = _found(ws, command)
    source = source_of(command.app)
    first = ws.find(source, f"{command.id}/release") or ws.find(source, f"{command.id}/expire")
    settled = ws.find(source, f"{command.id}/settle")
    if settled is not None:
        raise HoldClosed(f"hold {command.id} was settled at position {settled.position}")
    if first is not None:
        return Decision([], first)
    teller = Teller(ws.book, command.received_at_us, command.actor, hold.account)
    teller.release(hold, command.reason)
    return teller.decision()
