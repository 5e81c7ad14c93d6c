"""Who pays for a call: the account it names, else its user's, else its app's, if there is one."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import Struct

from ledger.decision import WorkingSet
from projections import account_balance
from projections.account_book import AccountState, Book
from schema.hold import source_of


class CallKeys(Struct, frozen=True, gc=False):
    """What tells who pays for a call, where there is no call yet."""

    app: str | None
    id: str
    user_id: str | None
    account: str | None


def load(db: apsw.Connection, ws: WorkingSet, calls: Sequence[Any], commands: Sequence[Any]) -> None:
    """Bring in, set-wise, the accounts that may pay for calls, in any form; nothing where there are no accounts."""
    if not account_balance.exist(db):
        return
    book = ws.book
    book.collect()  # nearly every event will be a charge: what it does need not be worked out twice
    named = {call.account for call in calls if call.account is not None}
    if account_balance.any_linked(db):
        account_balance.load_linked(db, book, [(call.app or "", call.id or "") for call in calls])
        linked = [hold for holds in book.linked.values() for hold in holds]
        named.update(hold.account for hold in linked)
        settled = [hold for hold in linked if hold.status == "settled"]
        ws.load(db, [(source_of(hold.app or None), f"{hold.id}/settle") for hold in settled])
    owners = {f"app//{app}" for app in {call.app or "" for call in calls}}
    if account_balance.owned_by(db, "user"):
        users = {(call.app or "", call.user_id) for call in calls if call.user_id is not None}
        owners.update(f"user/{app}/{user}" for app, user in users)
        if account_balance.owned_by(db, "user/"):  # of any app
            owners.update(f"user//{user}" for _, user in users)
    account_balance.load(db, book, named)
    account_balance.load_owned(db, book, owners)
    load_details(db, book, commands)


def load_details(db: apsw.Connection, book: Book, commands: Sequence[Any]) -> None:
    """Bring in what may be spent of the book's accounts, and what of theirs is over when commands were received."""
    account_balance.load_details(db, book, max(command.received_at_us for command in commands))


def may_use(account: AccountState, app: str | None) -> bool:
    """Whether an app may charge and hold an account: its own, its users', those of global users, and granted ones."""
    owner = account.owner
    return (
        owner == f"app//{app}"
        or owner.startswith((f"user/{app}/", "user//"))
        or (app is not None and app in account.apps)
    )


def payer(book: Book, call: Any, *, any_account: bool) -> AccountState | None:  # noqa: ANN401 - a call in any form
    """The account that pays for a call; one that its app may not use is passed over."""
    app = call.app or ""
    if call.account is not None:
        named = book.accounts.get(call.account)
        if named is not None and (any_account or may_use(named, app)):
            return named
    owners = book.owners
    found = None
    if book.of_users and call.user_id is not None:
        found = owners.get(f"user/{app}/{call.user_id}") or owners.get(f"user//{call.user_id}")
    found = found or owners.get(f"app//{app}")
    return None if found is None else book.accounts[found]
