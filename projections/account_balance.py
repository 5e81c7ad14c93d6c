"""What accounts hold, with their grants and holds: brought into a book, for commands and for reads."""

from collections.abc import Iterable
from typing import Any

import apsw
import msgspec

from projections.account_book import Book, Grant, HoldKey, HoldState
from projections.account_part import HIGH
from projections.account_state import DUE_UNKNOWN_US, NEVER_US, AccountState
from projections.account_statement import line_at
from schema.charge import Scope

_OVER = "status = 'open' AND expires_at_us <= ?1"
_FIRST = "ORDER BY expires_at_us LIMIT ?2"
_scope = msgspec.json.Decoder(Scope)
_parts = msgspec.json.Decoder(dict[str, int])
_apps = msgspec.json.Decoder(tuple[str, ...])


def exist(db: apsw.Connection) -> bool:
    """Whether there is any account: without one, calls cost what they always did."""
    return bool(db.execute("SELECT 1 FROM account_balances LIMIT 1").get)


def load(db: apsw.Connection, book: Book, ids: Iterable[str], suffix: str = "") -> None:
    """Bring in accounts by their ids, those that are not remembered."""
    states = book.remembered.states
    unknown: list[str] = []
    for id_ in ids:
        state = states.get(id_)
        if state is None:
            unknown.append(id_)
        else:
            book.take(state)
    _take_accounts(db, book, "account", unknown, suffix)


def load_owned(db: apsw.Connection, book: Book, owners: Iterable[str]) -> None:
    """Bring in accounts by their owners, those that are not remembered; that an owner has none is remembered too."""
    remembered = book.remembered
    unknown: list[str] = []
    for owner in owners:
        id_ = remembered.owners.get(owner, "")
        if id_ == "":
            unknown.append(owner)
        elif id_ is not None:
            book.take(remembered.states[id_])
    _take_accounts(db, book, "owner", unknown)
    for owner in unknown:
        remembered.owners.setdefault(owner, None)


def _take_accounts(db: apsw.Connection, book: Book, by: str, keys: Iterable[str], suffix: str = "") -> None:
    wanted = tuple(sorted(key for key in keys if key.isprintable()))  # as all are that exist, and carray takes no NUL
    if wanted:
        query = (
            f"SELECT o.account, o.owner, o.overdraft, o.apps, b.* FROM carray(?) c CROSS JOIN account_owners{suffix} o "
            f"ON o.{by} = c.value CROSS JOIN account_balances{suffix} b ON b.number = o.number"
        )
        for row in db.execute(query, (apsw.carray(wanted),)):
            book.add(_state(row))


def _state(row: Any) -> AccountState:  # noqa: ANN401 - a row
    (
        id_, owner, overdraft, apps, number, balance, free, spent_high, spent, owed_high, owed, tokens_high, tokens,
        sequence, balance_held, free_held, issued, expired, grants, holds, lines, position,
    ) = row  # fmt: skip
    return AccountState(
        id_, owner, overdraft, () if apps == "[]" else _apps.decode(apps), number, balance, balance_held, free,
        free_held, issued, expired, spent_high * HIGH + spent, owed_high * HIGH + owed, tokens_high * HIGH + tokens,
        sequence, grants, holds, lines, position, DUE_UNKNOWN_US if grants or holds else NEVER_US,
    )  # fmt: skip


def owned_by(db: apsw.Connection, owners: str) -> bool:
    """Whether any account's owner begins with these words and a slash."""
    query = "SELECT 1 FROM account_owners WHERE owner >= ?1 || '/' AND owner < ?1 || '0' LIMIT 1"
    return bool(db.execute(query, (owners,)).get)


def load_details(db: apsw.Connection, book: Book, now_us: int) -> None:
    """Bring in what may be spent of the book's accounts, and what of theirs is over."""
    stale = [account for account in book.accounts.values() if account.due_us <= now_us]
    for account in stale:
        if not account.holds:
            account.due_us = NEVER_US
    _load_due_holds(db, book, tuple(account.id for account in stale if account.holds), now_us)
    _load_live_grants(db, book)


def _load_live_grants(db: apsw.Connection, book: Book) -> None:
    """Bring in the grants with something left of the accounts that have any."""
    having = tuple(account.id for account in book.accounts.values() if account.grants)
    if having:
        query = "SELECT g.* FROM carray(?) c CROSS JOIN grants g ON g.account = c.value AND g.remaining_e10 > 0"
        for row in db.execute(query, (apsw.carray(having),)):
            book.add_grant(_grant(row))


def load_grants(db: apsw.Connection, book: Book, keys: Iterable[tuple[str, str]], table: str = "grants") -> None:
    """Bring in grants by account and id."""
    query = f"SELECT * FROM {table} WHERE account = ? AND id = ?"
    for key in keys:
        for row in db.execute(query, key):
            book.add_grant(_grant(row))


def _grant(row: Any) -> Grant:  # noqa: ANN401 - a row
    account, id_, amount, remaining, held, expires_us, priority, scope, position, expirations = row
    return Grant(
        account, id_, amount, remaining, held, expires_us, priority, None if scope is None else _scope.decode(scope),
        position, expirations,
    )  # fmt: skip


def load_holds(db: apsw.Connection, book: Book, keys: Iterable[HoldKey], table: str = "holds") -> None:
    """Bring in holds by app and id."""
    at = "h.id = k.value ->> 1 AND h.app = k.value ->> 0"
    _take_holds(db, book, f"SELECT h.* FROM json_each(?) k CROSS JOIN {table} h ON {at}", keys)


def any_linked(db: apsw.Connection) -> bool:
    """Whether any hold is for a call."""
    return bool(db.execute("SELECT 1 FROM holds WHERE call_id IS NOT NULL LIMIT 1").get)


def load_linked(db: apsw.Connection, book: Book, keys: Iterable[HoldKey]) -> None:
    """Bring in holds by app and the call that they are for."""
    if any_linked(db):
        on = "h.call_id = k.value ->> 1 AND h.app = k.value ->> 0 AND h.call_id IS NOT NULL"
        _take_holds(db, book, f"SELECT h.* FROM json_each(?) k CROSS JOIN holds h ON {on}", keys)


def _load_due_holds(db: apsw.Connection, book: Book, ids: tuple[str, ...], now_us: int) -> None:
    """Bring in the open holds of accounts whose time is over. No index leads from an account to its holds.

    All that are over and not ended yet are gone through: seldom any, as each ends at the next sweep. When the next one
    ends is not looked up: it is after now.
    """
    if not ids:
        return
    since_us = min(book.accounts[id_].due_us for id_ in ids)
    for id_ in ids:
        book.accounts[id_].due_us = now_us + 1
    query = (
        "SELECT h.* FROM holds o CROSS JOIN holds h ON h.id = o.id AND h.app = o.app WHERE o.status = 'open' "
        "AND o.expires_at_us BETWEEN ?1 AND ?2 AND o.account IN (SELECT value FROM carray(?3))"
    )
    for row in db.execute(query, (since_us, now_us, apsw.carray(ids))):
        book.add_hold(_hold(row))


def load_due(db: apsw.Connection, book: Book, now_us: int, limit: int) -> None:
    """Bring in at most `limit` holds whose time is over, those that ended first, and as many grants' accounts."""
    holds = [_hold(row) for row in db.execute(f"SELECT * FROM holds WHERE {_OVER} {_FIRST}", (now_us, limit))]
    grants = (
        "SELECT account FROM grants WHERE remaining_e10 > held_e10 AND expires_at_us <= ?1 "
        f"AND expires_at_us < {NEVER_US} {_FIRST}"
    )
    ids = [hold.account for hold in holds] + [id_ for (id_,) in db.execute(grants, (now_us, limit))]
    load(db, book, dict.fromkeys(ids))
    for hold in holds:
        book.add_hold(hold)
    _load_live_grants(db, book)


def _take_holds(db: apsw.Connection, book: Book, query: str, keys: Iterable[HoldKey]) -> None:
    wanted = list(keys)
    if wanted:
        for row in db.execute(query, (msgspec.json.encode(wanted).decode(),)):
            book.add_hold(_hold(row))


def _hold(row: Any) -> HoldState:  # noqa: ANN401 - a row
    app, id_, account, amount, balance, free, call_id, expires_us, status, position, closed, settled = row
    return HoldState(
        app, id_, account, amount, balance, _parts.decode(free), call_id, expires_us, status, position, closed, settled
    )


def find_holds(db: apsw.Connection, app: str | None, id_: str) -> list[HoldState]:
    """The holds with an id: of one app, or of any."""
    query = "SELECT * FROM holds WHERE id = ?1 AND (?2 IS NULL OR app = ?2)"
    return [_hold(row) for row in db.execute(query, (id_, app))]


def state_at(db: apsw.Connection, account: str, position: int) -> AccountState | None:
    """What an account held after the last event up to a position that touched it; rules and other details aside."""
    line = line_at(db, account, position)
    if line is None:
        return None
    at, number, _, _, _, held, *shown = line
    return _state((account, "", "", "[]", number, *shown, held, 0, 0, 0, 0, 0, 0, at))
