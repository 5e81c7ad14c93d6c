"""Accounts by id, as the latest change left their rules; what they hold is in `account_balances`."""

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from schema.account import ACCOUNT, Account, AccountFilter, key_of, owner_key

_COLUMNS = """
    name           TEXT,
    owner_kind     TEXT NOT NULL,
    owner_id       TEXT NOT NULL,
    owner          TEXT NOT NULL
"""


def _values(account: Account) -> tuple[Value, ...]:
    return account.name, account.owner.kind, account.owner.id, key_of(account.owner)


_OF_APP = (
    "(owner = ? OR (owner >= ? AND owner < ?) OR EXISTS (SELECT 1 FROM json_each(data, '$.apps') WHERE value = ?))"
)


def conditions(wanted: AccountFilter, app: str | None = None) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds.

    With `app`, only accounts of that app, of its users, and those granted to it: of global users it charges those that
    it knows, but is told of none.
    """
    found = catalogue.having(wanted.q, ("id", "coalesce(name, '')", "owner_id"))
    if app is not None:
        users = owner_key("user", "", app)  # what follows every user's of the app ends in the sign after the slash
        found.append((_OF_APP, (owner_key("app", app), users, f"{users[:-1]}{chr(ord('/') + 1)}", app)))
    if wanted.owner_kind is not None:
        found.append(("owner_kind = ?", (wanted.owner_kind,)))
    if wanted.owner_id is not None:
        found.append(("owner_id = ?", (wanted.owner_id,)))
    return found


PROJECTION = catalogue.projection(ACCOUNT, 1, _COLUMNS, _values, unique="owner")
