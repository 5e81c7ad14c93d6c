"""Builders of account, credit and hold commands."""

from typing import Any

import msgspec

from ledger.writer import Writer
from projections import account_balance
from projections.account_book import Book
from projections.account_state import NEVER_US
from schema.account import AccountChange, AccountCreated, ChangeAccount, CreateAccount, check_account
from schema.credit import CreditAccount, PostedCredit, SweepAccounts, accept_credit
from schema.hold import PlaceHold, PostedHold, ReleaseHold, SettleHold, accept_hold
from tests.histories import ACTOR, APP, NOON_US


def create_account(
    id_: str = "acc",
    kind: str = "app",
    owner: str = APP,
    *,
    app: str | None = None,
    at_us: int = NOON_US,
    **fields: Any,  # noqa: ANN401
) -> CreateAccount:
    content = msgspec.convert({"id": id_, "owner": {"kind": kind, "id": owner, "app": app}, **fields}, AccountCreated)
    check_account(content)
    return CreateAccount(ACTOR, at_us, content)


def change_account(id_: str = "acc", *, at_us: int = NOON_US, **fields: Any) -> ChangeAccount:  # noqa: ANN401
    return ChangeAccount(ACTOR, at_us, id_, None, msgspec.convert(fields, AccountChange))


def credit(
    amount: str,
    id_: str = "cr-1",
    account: str = "acc",
    *,
    kind: str = "recharge",
    at_us: int = NOON_US,
    **fields: Any,  # noqa: ANN401
) -> CreditAccount:
    posted = msgspec.convert({"id": id_, "kind": kind, "amount": amount, **fields}, PostedCredit)
    accept_credit(posted)
    return CreditAccount(actor=ACTOR, received_at_us=at_us, account=account, credit=posted)


def hold(
    amount: str,
    id_: str = "h-1",
    account: str = "acc",
    *,
    app: str | None = APP,
    at_us: int = NOON_US,
    **fields: Any,  # noqa: ANN401
) -> PlaceHold:
    posted = msgspec.convert({"id": id_, "amount": amount, "app": app, **fields}, PostedHold)
    accept_hold(posted)
    return PlaceHold(actor=ACTOR, received_at_us=at_us, account=account, hold=posted)


def settle(amount: str, id_: str = "h-1", *, app: str | None = APP, at_us: int = NOON_US) -> SettleHold:
    return SettleHold(actor=ACTOR, received_at_us=at_us, app=app, id=id_, amount=amount)


def release(id_: str = "h-1", *, app: str | None = APP, at_us: int = NOON_US) -> ReleaseHold:
    return ReleaseHold(actor=ACTOR, received_at_us=at_us, app=app, id=id_)


def sweep_accounts(at_us: int = NOON_US, limit: int = 500) -> SweepAccounts:
    return SweepAccounts(at_us, limit)


def remembered_as_stored(writer: Writer) -> int:
    """How many accounts a writer remembers; each must be as the file has it."""
    db, engine = writer._connect()
    kept, stored = engine.accounts.kept, Book()
    account_balance.load(db, stored, kept.states)
    account_balance.load_details(db, stored, NEVER_US)  # with a look at when the first of each ends
    for id_, state in kept.states.items():
        in_file = stored.accounts[id_]
        assert state.due_us <= in_file.due_us
        assert msgspec.structs.replace(state, due_us=in_file.due_us) == in_file
    rows = db.execute("SELECT owner, account FROM account_owners")
    owners: dict[str, str] = {str(owner): str(id_) for owner, id_ in rows}
    assert all(owners.get(owner) == id_ for owner, id_ in kept.owners.items())
    return len(kept.states)
