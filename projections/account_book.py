"""What accounts, their grants and their holds become by each event: plain state, folded in memory.

The writer's working set and the projection fold with the same code; a test folds with code of its own.
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from projections.account_part import MARK_LINES, Grant, HoldKey, HoldState
from projections.account_state import NEVER_US, AccountState, Remembered
from projections.bulk import Value
from schema.account import AccountChanged, AccountCreated, key_of
from schema.charge import ZERO, Charge
from schema.correction import ModelCallCorrected, ModelCallRerated, ModelCallVoided
from schema.credit import AccountCollected, AccountCredited, GrantExpired, TransactionKind
from schema.entry import Recorded
from schema.hold import HoldDeclined, HoldExpired, HoldPlaced, HoldReleased, HoldSettled, HoldStatus
from schema.model_call import ModelCallCompleted, ModelCallFailed, ModelCallRecorded
from schema.money import amount_e10
from schema.times import parse_time


class Moved(Protocol):
    """An event, or a part of one, that moved money: its transaction's number and the total after it."""

    @property
    def sequence(self) -> int | None: ...
    @property
    def after(self) -> str | None: ...


# What nearly every charge is, one from the balance alone: with its account, its amount, and the total afterwards.
Plain = tuple[Charge, AccountState, int, int]


class Book:
    """The accounts that a batch touches, with what is loaded of their grants and holds."""

    def __init__(self, remembered: Remembered | None = None) -> None:
        self.remembered = remembered or Remembered()
        self.accounts: dict[str, AccountState] = {}
        self.owners: dict[str, str] = {}
        self.of_users = False  # whether any of the accounts is a user's
        self.grants: dict[str, dict[str, Grant]] = {}
        self.holds: dict[HoldKey, HoldState] = {}
        self.holds_of: dict[str, list[HoldState]] = {}  # by account
        self.linked: dict[HoldKey, list[HoldState]] = {}  # by app and call
        self.plain: Plain | None = None  # the charge that was decided last, so that it need not be read from its event
        # What events changed, collected where it is to be stored.
        self.touched: dict[str, None] = {}
        self.changed_rules: dict[str, None] = {}
        self.lines: list[Value] | None = None  # of statements, the values of all in one sequence
        self.marks: list[tuple[int, int]] = []
        self.changed_grants: dict[tuple[str, str], Grant] = {}
        self.changed_holds: dict[HoldKey, HoldState] = {}

    @property
    def collects(self) -> bool:
        """Whether it keeps what events change."""
        return self.lines is not None

    def collect(self) -> None:
        """Keep what events change from now on, so that it can be stored."""
        self.lines = []

    def add(self, account: AccountState) -> None:
        """Take in an account, unless it is there, and remember it."""
        if account.id not in self.accounts:
            self.take(account)
            self.remembered.states[account.id] = account
            self.remembered.owners[account.owner] = account.id

    def take(self, account: AccountState) -> None:
        """Take in an account that is remembered."""
        self.accounts[account.id] = account
        self.owners[account.owner] = account.id
        self.of_users = self.of_users or account.owner.startswith("user/")

    def add_grant(self, grant: Grant) -> None:
        """Take in a grant, unless it is there."""
        own = self.grants.setdefault(grant.account, {})
        own.setdefault(grant.id, grant)
        if grant.unheld_e10:
            self.due(grant.account, grant.expires_at_us)

    def add_hold(self, hold: HoldState) -> None:
        """Take in a hold, unless it is there."""
        key = hold.key
        if key not in self.holds:
            self.holds[key] = hold
            self.holds_of.setdefault(hold.account, []).append(hold)
            if hold.call_id is not None:
                link = hold.app, hold.call_id
                self.linked[link] = [*self.linked.get(link, ()), hold]  # a new list: a fork has the same ones
        if hold.status == "open":
            self.due(hold.account, hold.expires_at_us)

    def due(self, account: str, at_us: int) -> None:
        """Note that something of an account ends then."""
        state = self.accounts.get(account)
        if state is not None and at_us < state.due_us:
            state.due_us = at_us

    def fork(self, account: str | None = None) -> "Book":
        """A book to try events on: of all accounts, or of one, beside which others' holds are there to be read."""
        other, copy = Book(), msgspec.structs.replace
        ids = self.accounts if account is None else (account,)
        other.accounts = {id_: copy(self.accounts[id_]) for id_ in ids}
        other.owners, other.of_users = self.owners, self.of_users
        other.grants = {id_: {key: copy(each) for key, each in self.grants.get(id_, {}).items()} for id_ in ids}
        other.holds_of = {id_: [copy(hold) for hold in self.holds_of.get(id_, ())] for id_ in ids}
        own = {hold.key: hold for holds in other.holds_of.values() for hold in holds}
        other.holds = {**self.holds, **own}
        other.linked = dict(self.linked)
        for link in {(hold.app, hold.call_id) for hold in own.values() if hold.call_id is not None}:
            other.linked[link] = [own.get(hold.key, hold) for hold in self.linked[link]]
        return other

    def hold_for(self, app: str, call_id: str, now_us: int) -> HoldState | None:
        """The hold that stands for a call: the one that still binds, else the first that was settled."""
        holds = [
            hold
            for hold in self.linked.get((app, call_id), ())
            if hold.status == "settled" or (hold.status == "open" and hold.expires_at_us > now_us)
        ]
        return min(holds, key=lambda hold: (hold.status != "open", hold.position)) if holds else None

    def evolve(self, event: Recorded) -> None:
        """Take in an event; those of other things change nothing."""
        data = event.data
        fold = _FOLDS.get(type(data))
        if fold is not None:
            fold(self, data, event.position)

    def created(self, data: AccountCreated | AccountChanged, position: int) -> None:
        """An account, new or with other rules."""
        state = self.accounts.get(data.id)
        if state is None:
            state = AccountState(data.id, key_of(data.owner), data.overdraft, tuple(data.apps or ()), position)
            self.add(state)
        state.overdraft, state.apps = data.overdraft, tuple(data.apps or ())
        self.changed_rules[state.id] = None
        self._line(state, position)

    def credited(self, data: AccountCredited, position: int) -> None:
        """Balance or a grant."""
        state = self.accounts[data.account]
        amount = amount_e10(data.amount)
        state.issued_e10 += amount
        if data.free:
            expires_us = NEVER_US if data.expires_at is None else parse_time(data.expires_at)
            grant = Grant(state.id, data.id, amount, amount, 0, expires_us, data.priority, data.scope, position)
            self.add_grant(grant)
            self.changed_grants[state.id, data.id] = grant
            state.free_e10 += amount
            state.grants += 1
        else:
            state.balance_e10 += amount
        self._moved(state, data, position, data.kind, amount)

    def expired(self, data: GrantExpired, position: int) -> None:
        """What is left of a grant is gone."""
        state = self.accounts[data.account]
        amount = amount_e10(data.amount)
        grant = self.grants[data.account][data.grant]
        grant.expirations += 1
        self._draw(state, data.grant, amount)
        state.expired_e10 += amount
        self._moved(state, data, position, "expiry", -amount)

    def collected(self, data: AccountCollected, position: int) -> None:
        """A debt is paid."""
        state = self.accounts[data.account]
        amount = amount_e10(data.amount)
        state.balance_e10 -= amount
        state.owed_e10 -= amount
        self._moved(state, data, position, "consumption", -amount)

    def placed(self, data: HoldPlaced, position: int) -> None:
        """Set aside."""
        state = self.accounts[data.account]
        amount = amount_e10(data.amount)
        free = {} if data.free is None else {id_: amount_e10(part) for id_, part in data.free.items()}
        balance = amount - sum(free.values()) if free else amount
        hold = HoldState(
            data.app or "", data.id, data.account, amount, balance, free, data.call_id, parse_time(data.expires_at),
            "open", position,
        )  # fmt: skip
        self.add_hold(hold)
        self.changed_holds[hold.key] = hold
        self._set_aside(state, hold, 1)
        self._line(state, position)

    def declined(self, data: HoldDeclined, position: int) -> None:
        """Nothing is set aside; the hold is there to be read."""
        amount = amount_e10(data.amount)
        hold = HoldState(
            data.app or "", data.id, data.account, amount, 0, {}, None, NEVER_US, "declined", position, position
        )
        self.add_hold(hold)
        self.changed_holds[hold.key] = hold

    def settled(self, data: HoldSettled, position: int) -> None:
        """Free again, then charged."""
        self._closed(data.app, data.id, "settled", position).settled_e10 = amount_e10(data.amount)
        self.charged(data.charge, position)

    def released(self, data: HoldReleased, position: int) -> None:
        """Free again."""
        self._closed(data.app, data.id, "released", position)
        self._line(self.accounts[data.account], position)

    def hold_expired(self, data: HoldExpired, position: int) -> None:
        """Free again."""
        self._closed(data.app, data.id, "expired", position)
        self._line(self.accounts[data.account], position)

    def _closed(self, app: str | None, id_: str, status: HoldStatus, position: int) -> HoldState:
        hold = self.holds[app or "", id_]
        if hold.status == "open":
            self._set_aside(self.accounts[hold.account], hold, -1)
        hold.status, hold.closed_position = status, position
        self.changed_holds[hold.key] = hold
        return hold

    def _set_aside(self, state: AccountState, hold: HoldState, sign: int) -> None:
        state.holds += sign
        state.balance_held_e10 += sign * hold.balance_e10
        for id_, part in hold.free.items():
            grant = self.grants[state.id][id_]
            grant.held_e10 += sign * part
            self.changed_grants[state.id, id_] = grant
            state.free_held_e10 += sign * part
            if sign < 0:
                self.due(state.id, grant.expires_at_us)

    def call_charged(self, data: ModelCallRecorded | ModelCallCompleted | ModelCallFailed, position: int) -> None:
        """A finished call."""
        charge = data.charge
        if charge is None:
            return
        plain = self.plain
        if plain is None or plain[0] is not charge:
            plain = self._plain(charge)
            if plain is None:
                self.charged(charge, position)
                return
        _, state, amount, total = plain
        state.tokens += charge.tokens
        state.balance_e10 = balance = state.balance_e10 - amount
        state.spent_e10 += amount
        state.sequence = sequence = state.sequence + 1
        if self.lines is not None and (charge.sequence != sequence or total != balance + state.free_e10):
            raise _unlike(state, sequence)
        self._line(state, position, "consumption", -amount)

    def _plain(self, charge: Charge) -> Plain | None:
        after = charge.after
        if after is None or charge.free is not None or charge.owed != ZERO or charge.hold is not None:
            return None
        return charge, self.accounts[charge.account], amount_e10(charge.amount), amount_e10(after)

    def call_changed(self, data: ModelCallCorrected | ModelCallVoided | ModelCallRerated, position: int) -> None:
        """A call costs more, less, or another account."""
        for move in () if data.charges is None else data.charges.moves:
            self.charged(move, position)

    def charged(self, charge: Charge, position: int) -> None:
        """Spent, or given back."""
        state = self.accounts[charge.account]
        state.tokens += charge.tokens
        if charge.hold is not None or charge.amount == ZERO and charge.sequence is None:  # noqa: RUF021 - reads well
            self._line(state, position)
            return
        amount = amount_e10(charge.amount)
        owed = 0 if charge.owed == ZERO else amount_e10(charge.owed)
        paid = amount - owed
        balance = paid
        if charge.free is not None:
            for id_, text in charge.free.items():
                part = amount_e10(text)
                balance -= part
                self._draw(state, id_, part)
        state.balance_e10 -= balance
        state.spent_e10 += amount
        state.owed_e10 += owed
        if charge.sequence is None:
            self._line(state, position)
        else:
            kind = "consumption" if paid > 0 else "refund"
            self._moved(state, charge, position, kind, -paid)

    def _draw(self, state: AccountState, id_: str, part: int) -> None:
        grant = self.grants[state.id][id_]
        self.changed_grants[state.id, id_] = grant
        had = grant.remaining_e10 > 0
        grant.remaining_e10 -= part
        state.free_e10 -= part
        state.grants += (grant.remaining_e10 > 0) - had
        if grant.remaining_e10 < grant.held_e10:
            message = f"grant {id_} of account {state.id} would have less than is held of it"
            raise ValueError(message)
        if part < 0:
            self.due(state.id, grant.expires_at_us)

    def _moved(self, state: AccountState, moved: "Moved", position: int, kind: TransactionKind, amount: int) -> None:
        """The event's own figures must be those that it leads to: a fault shows here, before it is written."""
        state.sequence += 1
        if self.lines is not None:  # the working set need not: what it decides passes here before it is written
            told_e10 = None if moved.after is None else amount_e10(moved.after)
            if moved.sequence != state.sequence or told_e10 != state.total_e10:
                raise _unlike(state, moved.sequence)
        self._line(state, position, kind, amount)

    def _line(self, state: AccountState, position: int, kind: TransactionKind | None = None, amount: int = 0) -> None:
        before, state.position = state.position, position
        if self.lines is None:
            return
        held = state.balance_held_e10 + state.free_held_e10
        self.lines += (
            position, state.number, before, kind, amount, held, state.balance_e10, state.free_e10, state.spent_e10,
            state.owed_e10, state.tokens, state.sequence,
        )  # fmt: skip
        self.touched[state.id] = None
        state.lines = lines = state.lines + 1
        if not lines % MARK_LINES:
            self.marks.append((state.number, position))


def _unlike(state: AccountState, sequence: int | None) -> ValueError:
    return ValueError(f"account {state.id}: transaction {sequence} does not add up")


_FOLDS: dict[type[Struct], Callable[[Book, Any, int], None]] = {
    AccountCreated: Book.created,
    AccountChanged: Book.created,
    AccountCredited: Book.credited,
    GrantExpired: Book.expired,
    AccountCollected: Book.collected,
    HoldPlaced: Book.placed,
    HoldDeclined: Book.declined,
    HoldSettled: Book.settled,
    HoldReleased: Book.released,
    HoldExpired: Book.hold_expired,
    ModelCallRecorded: Book.call_charged,
    ModelCallCompleted: Book.call_charged,
    ModelCallFailed: Book.call_charged,
    ModelCallCorrected: Book.call_changed,
    ModelCallVoided: Book.call_changed,
    ModelCallRerated: Book.call_changed,
}
KINDS = tuple(_FOLDS)
