"""Accounts: created and changed, credited, swept."""

from collections.abc import Sequence

import apsw

from ledger import catalogue
from ledger.decision import Decision, WorkingSet, handles
from ledger.payer import load_details
from ledger.teller import Teller
from projections import account_balance
from schema.acceptance import differing_fields
from schema.account import ACCOUNT, SOURCE, ChangeAccount, CreateAccount, key_of
from schema.credit import AccountCredited, CreditAccount, CreditDeclined, PostedCredit, SweepAccounts, credit_id
from schema.entry import Recorded
from schema.errors import FieldError, IdConflict, NameTaken, NotFound


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateAccount]) -> None:
    for command in commands:
        catalogue.load(db, ws, ACCOUNT, command.content.id)
        catalogue.load_holder(db, ws, ACCOUNT, owner=key_of(command.content.owner))


@handles(CreateAccount, _load_created, alone=True)
def create(ws: WorkingSet, command: CreateAccount) -> Decision:
    """An account comes into being; an owner has one."""
    first = catalogue.repeated(ws, ACCOUNT, command)
    if first is not None:
        return first
    holder = ws.holders.get((ACCOUNT.noun, key_of(command.content.owner)))
    if holder is not None:
        error = FieldError("$.owner", f"Expected an owner that has no account; this one has {holder}")
        raise NameTaken(errors=(error,))
    return catalogue.created(ACCOUNT, command)


def _load_changed(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangeAccount]) -> None:
    for command in commands:
        catalogue.load(db, ws, ACCOUNT, command.id)
    account_balance.load(db, ws.book, [command.id for command in commands])  # a new threshold is compared with it


@handles(ChangeAccount, _load_changed, alone=True)
def change(ws: WorkingSet, command: ChangeAccount) -> Decision:
    """An account gets other rules, if anything differs."""
    return catalogue.replaced(ws, ACCOUNT, command, catalogue.changed(ws, ACCOUNT, command))


def _load_credited(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreditAccount]) -> None:
    ws.load(db, [(SOURCE, credit_id(c.account, c.credit.id)) for c in commands])
    account_balance.load(db, ws.book, {c.account: None for c in commands})
    load_details(db, ws.book, commands)


@handles(CreditAccount, _load_credited)
def credit(ws: WorkingSet, command: CreditAccount) -> Decision:
    """Credit is put in, or taken out by an adjustment."""
    posted = command.credit
    first = ws.find(SOURCE, credit_id(command.account, posted.id))
    if first is not None:
        return _same_or_conflict(first, posted)
    if command.account not in ws.book.accounts:
        raise NotFound(f"there is no account {command.account}")
    teller = Teller(ws.book, command.received_at_us, command.actor)
    teller.credit(command.account, posted)
    return teller.decision()


def _same_or_conflict(first: Recorded, posted: PostedCredit) -> Decision:
    assert isinstance(first.data, AccountCredited | CreditDeclined)
    different = differing_fields(posted, first.data)
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(f"this credit was made before, at position {first.position}, otherwise", errors=errors)
    return Decision([], first)


def _load_due(db: apsw.Connection, ws: WorkingSet, commands: Sequence[SweepAccounts]) -> None:
    (command,) = commands
    account_balance.load_due(db, ws.book, command.received_at_us, command.limit)


@handles(SweepAccounts, _load_due, alone=True)
def sweep(ws: WorkingSet, command: SweepAccounts) -> Decision:
    """Holds and grants whose time is over end, also where nobody touches their accounts."""
    teller = Teller(ws.book, command.received_at_us, command.actor)
    for account in sorted(ws.book.accounts):  # not in an order that what is remembered has a part in
        teller.settle_due(account)
    return teller.decision()
