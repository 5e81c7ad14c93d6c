"""Accounts, transactions and holds as they are read."""

from typing import Any, Protocol

from msgspec import Struct

from schema.account import Account, Overdraft, Owner
from schema.account_alert import Basis
from schema.credit import AccountCollected, AccountCredited, GrantExpired, TransactionKind
from schema.entry import Recorded
from schema.hold import HoldPlaced, HoldStatus, HoldView
from schema.money import amount_text
from schema.times import format_time


class AccountView(Struct, kw_only=True):
    """An account as read. Balance and free quota include what is held; available = balance + free_quota - held.

    `spent` is what calls cost in all, of which `owed` could not be paid yet; `tokens` is what they used. `position` is
    that of the latest event that it shows; the ETag is that of the latest change of its rules.
    """

    id: str
    owner: Owner
    overdraft: Overdraft
    low_balance: str | None
    name: str | None
    apps: list[str]
    metadata: dict[str, Any] | None
    balance: str
    free_quota: str
    held: str
    available: str
    owed: str
    spent: str
    tokens: int
    transactions: int
    position: int


class AccountFigures(Struct, kw_only=True):
    """What an account in a list holds, as `AccountView` tells it, and how long that lasts, as its `Forecast` does."""

    balance: str
    free_quota: str
    held: str
    available: str
    owed: str
    spent: str
    tokens: int
    average: str
    days_left: int
    basis: Basis


class TransactionView(Struct, kw_only=True):
    """One movement of money. `before` and `after` are balance and free quota together; `related` names its cause."""

    sequence: int
    kind: TransactionKind
    amount: str
    before: str
    after: str
    position: int
    related: str | None
    at: str
    actor: str
    reason: str | None


class Sums(Protocol):
    """What an account holds, in 1e-10 credits."""

    balance_e10: int
    free_e10: int
    owed_e10: int
    spent_e10: int
    tokens: int
    sequence: int
    position: int

    @property
    def total_e10(self) -> int: ...
    @property
    def held_e10(self) -> int: ...


class Held(Protocol):
    """A hold, in 1e-10 credits."""

    app: str
    id: str
    account: str
    amount_e10: int
    call_id: str | None
    expires_at_us: int
    status: HoldStatus
    position: int
    closed_position: int | None
    settled_e10: int | None


def account_view(content: Account, state: Sums) -> AccountView:
    """An account's rules and what it holds."""
    return AccountView(
        id=content.id, owner=content.owner, overdraft=content.overdraft, low_balance=content.low_balance,
        name=content.name, apps=list(content.apps or ()), metadata=content.metadata,
        balance=amount_text(state.balance_e10), free_quota=amount_text(state.free_e10),
        held=amount_text(state.held_e10),
        available=amount_text(state.total_e10 - state.held_e10), owed=amount_text(state.owed_e10),
        spent=amount_text(state.spent_e10), tokens=state.tokens, transactions=state.sequence,
        position=state.position,
    )  # fmt: skip


def transaction_view(account: str, row: tuple[int, int, TransactionKind, int, int], event: Recorded) -> TransactionView:
    """A line of an account's statement, with what its event says of it."""
    position, sequence, kind, amount, after = row
    return TransactionView(
        sequence=sequence, kind=kind, amount=amount_text(amount), before=amount_text(after - amount),
        after=amount_text(after), position=position, related=related_of(account, event),
        at=format_time(event.recorded_at_us), actor=event.actor, reason=getattr(event.data, "reason", None),
    )  # fmt: skip


def related_of(account: str, event: Recorded) -> str | None:
    """What a transaction belongs to: the subject of a call or a hold, or what a credit names."""
    match event.data:
        case AccountCredited() as data:
            return data.related or f"account/{account}/credit/{data.id}"
        case GrantExpired() as data:
            return f"account/{account}/credit/{data.grant}"
        case AccountCollected():
            return None
        case _:
            return event.subject


def hold_view(hold: Held) -> HoldView:
    """A hold as it is."""
    declined = hold.status == "declined"
    return HoldView(
        id=hold.id, app=hold.app or None, account=hold.account, amount=amount_text(hold.amount_e10),
        status=hold.status, call_id=hold.call_id, expires_at=None if declined else format_time(hold.expires_at_us),
        settled=None if hold.settled_e10 is None else amount_text(hold.settled_e10),
        position=hold.closed_position or hold.position,
    )  # fmt: skip


def placed_view(data: HoldPlaced, position: int) -> HoldView:
    """A hold as it was placed."""
    return HoldView(
        id=data.id, app=data.app, account=data.account, amount=data.amount, status="open", call_id=data.call_id,
        expires_at=data.expires_at, settled=None, position=position,
    )  # fmt: skip
