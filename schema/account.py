"""Accounts: whose they are, and by what rules they are charged. What they hold is moved by credits, holds and calls.

An account belongs to an app, a user or a team. A call is charged to the account that it names, else its user's, else
its app's.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import Change, Create, Kind, check_content
from schema.charge import Amount, accept_amount
from schema.errors import FieldError, InvalidInput
from schema.event import event
from schema.ids import AppId, ClientId, Name, ledger_source

NOUN = "account"
SOURCE = ledger_source(NOUN)
APPS_MAX = 100

OwnerKind = Literal["user", "app", "team"]
Overdraft = Literal["never", "unheld"]
Apps = Annotated[
    list[AppId], Meta(max_length=APPS_MAX, description="Apps that may charge and hold it beside those that own it.")
]


class Owner(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """Whose an account is. A user is of an app, or without `app` the same user in every app."""

    kind: OwnerKind
    id: Name
    app: AppId | None = None


class Account(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An account as posted.

    `overdraft`: whether a call that nobody held credit for may take the balance below zero. Where it may not, what
    cannot be paid is owed. `low_balance`: when balance and free quota together fall to this, an event says so, once.
    """

    id: ClientId
    owner: Owner
    overdraft: Overdraft = "never"
    low_balance: Amount | None = None
    name: Name | None = None
    apps: Apps | None = None
    metadata: dict[str, Any] | None = None

    @property
    def sort(self) -> int:
        """Accounts are listed by id."""
        return 0


class AccountChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given; null sets an optional field back. The owner stays."""

    overdraft: Overdraft | UnsetType = UNSET
    low_balance: Amount | UnsetType | None = UNSET
    name: Name | UnsetType | None = UNSET
    apps: Apps | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


@event("account.created", 1)
class AccountCreated(Account, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An account came into being, empty."""


@event("account.changed", 1)
class AccountChanged(Account, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An account's rules as they are after a change; `replaces` is the position of its event before."""

    replaces: int


class NeverDeleted(Struct):
    """Accounts are not deleted: their history is money. No event has this."""


ACCOUNT = Kind(
    noun=NOUN,
    source=SOURCE,
    table="accounts",
    content=Account,
    created=AccountCreated,
    changed=AccountChanged,
    deleted=NeverDeleted,
)


class CreateAccount(Create[AccountCreated]):
    """Command: an account comes into being. Its content was checked."""


class ChangeAccount(Change[AccountChange]):
    """Command: change an account's rules. The change was checked."""


class AccountFilter(Struct, kw_only=True):
    """Which accounts; None means any. `q` is text in id, name and owner."""

    owner_kind: OwnerKind | None = None
    owner_id: Name | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="Text in id, name and owner.")] | None = None


def owner_key(kind: OwnerKind, id_: str, app: str | None = None) -> str:
    """One text for an owner: an app's id has no slash, so no two owners share it."""
    return f"{kind}/{app or ''}/{id_}"


def key_of(owner: Owner) -> str:
    """The same of a whole owner."""
    return owner_key(owner.kind, owner.id, owner.app)


def check_account(content: Account | AccountChange) -> None:
    """Check a posted account or change, and bring it to its normal form; raises InvalidInput or OutOfRange."""
    check_content(content, "metadata")
    if isinstance(content.low_balance, str):
        content.low_balance = accept_amount(content.low_balance, "$.low_balance", least_e10=0)
    if isinstance(content, Account):
        owner = content.owner
        if not owner.id.isprintable():
            raise InvalidInput(errors=(FieldError("$.owner.id", "Expected printable characters only"),))
        if owner.app is not None and owner.kind != "user":
            raise InvalidInput(errors=(FieldError("$.owner.app", "Expected an app only for a user"),))
