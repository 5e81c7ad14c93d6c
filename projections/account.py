"""Accounts by id, as the latest change left their rules; what they hold is in `account_balances`."""

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from schema.account import ACCOUNT, Account, AccountFilter, key_of

_COLUMNS = """
    name           TEXT,
    owner_kind     TEXT NOT NULL,
    owner_id       TEXT NOT NULL,
    owner          TEXT NOT NULL
"""


def _values(account: Account) -> tuple[Value, ...]:
    return account.name, account.owner.kind, account.owner.id, key_of(account.owner)


def conditions(wanted: AccountFilter) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found = catalogue.having(wanted.q, ("id", "coalesce(name, '')", "owner_id"))
    if wanted.owner_kind is not None:
        found.append(("owner_kind = ?", (wanted.owner_kind,)))
    if wanted.owner_id is not None:
        found.append(("owner_id = ?", (wanted.owner_id,)))
    return found


PROJECTION = catalogue.projection(ACCOUNT, 1, _COLUMNS, _values, unique="owner")
