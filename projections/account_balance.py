"""What accounts hold, their statement lines, grants and holds. Built from events alone; commands read it.

Sums that have no bound of their own (spent, owed, tokens) are kept as two numbers, how many times 10^18 and the rest.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from projections.account_book import KINDS, Book, Grant, HoldKey, HoldState
from projections.account_part import HIGH
from projections.account_state import DUE_UNKNOWN_US, NEVER_US, AccountState
from projections.account_statement import LINES, MARKS, SHOWN, VIEW, line_at
from projections.account_statement import store as store_lines
from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.account import AccountChanged, AccountCreated, OwnerKind
from schema.charge import Charge, Scope
from schema.correction import ModelCallCorrected, ModelCallRerated, ModelCallVoided
from schema.credit import AccountCollected, AccountCredited, GrantExpired
from schema.entry import Recorded
from schema.hold import HoldDeclined, HoldExpired, HoldPlaced, HoldReleased, HoldSettled
from schema.model_call import FINISHED

_BALANCE_COLUMNS = f"""
    account           TEXT PRIMARY KEY,
    owner             TEXT NOT NULL,
    overdraft         TEXT NOT NULL,
    apps              TEXT NOT NULL,
    {SHOWN.strip()}
    balance_held_e10  INTEGER NOT NULL,
    free_held_e10     INTEGER NOT NULL,
    issued_e10        INTEGER NOT NULL,
    expired_e10       INTEGER NOT NULL,
    grants            INTEGER NOT NULL,  -- with something left
    holds             INTEGER NOT NULL,  -- open
    lines             INTEGER NOT NULL,  -- of its statement
    position          INTEGER NOT NULL   -- of the last of them
"""
_GRANT_COLUMNS = """
    account           TEXT NOT NULL,
    id                TEXT NOT NULL,
    amount_e10        INTEGER NOT NULL,
    remaining_e10     INTEGER NOT NULL,
    held_e10          INTEGER NOT NULL,
    expires_at_us     INTEGER NOT NULL,
    priority          INTEGER NOT NULL,
    scope             TEXT,
    position          INTEGER NOT NULL,
    expirations       INTEGER NOT NULL,
    PRIMARY KEY (id, account)
"""
_HOLD_COLUMNS = """
    app               TEXT NOT NULL,     -- empty: nobody's
    id                TEXT NOT NULL,
    account           TEXT NOT NULL,
    amount_e10        INTEGER NOT NULL,
    balance_e10       INTEGER NOT NULL,
    free              TEXT NOT NULL,     -- held of grants
    call_id           TEXT,
    expires_at_us     INTEGER NOT NULL,
    status            TEXT NOT NULL,
    position          INTEGER NOT NULL,
    closed_position   INTEGER,
    settled_e10       INTEGER,
    PRIMARY KEY (id, app)
"""
_STATE = (
    "account, owner, overdraft, apps, balance_e10, free_e10, spent_high, spent_e10, owed_high, owed_e10, tokens_high, "
    "tokens, sequence, balance_held_e10, free_held_e10, issued_e10, expired_e10, grants, holds, lines, "
    "position"
)
_CHANGING = tuple(_STATE.split(", ")[2:])
_UPSERT = f"ON CONFLICT (account) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _CHANGING)}"
_OVER = "status = 'open' AND expires_at_us <= ?1"
_FIRST = "ORDER BY expires_at_us LIMIT ?2"
_scope = msgspec.json.Decoder(Scope)
_parts = msgspec.json.Decoder(dict[str, int])
_apps = msgspec.json.Decoder(tuple[str, ...])


def exist(db: apsw.Connection) -> bool:
    """Whether there is any account: without one, calls cost what they always did."""
    return bool(db.execute("SELECT 1 FROM account_balances LIMIT 1").get)


def load(db: apsw.Connection, book: Book, ids: Iterable[str], table: str = "account_balances") -> None:
    """Bring in accounts by their ids, those that are not remembered."""
    states = book.remembered.states
    unknown: list[str] = []
    for id_ in ids:
        state = states.get(id_)
        if state is None:
            unknown.append(id_)
        else:
            book.add(state)
    _take_accounts(db, book, f"SELECT {_STATE} FROM carray(?) c CROSS JOIN {table} b ON b.account = c.value", unknown)


def load_owned(db: apsw.Connection, book: Book, owners: Iterable[str]) -> None:
    """Bring in accounts by their owners, those that are not remembered; that an owner has none is remembered too."""
    remembered = book.remembered
    unknown: list[str] = []
    for owner in owners:
        id_ = remembered.owners.get(owner, "")
        if id_ == "":
            unknown.append(owner)
        elif id_ is not None:
            book.add(remembered.states[id_])
    query = f"SELECT {_STATE} FROM carray(?) c CROSS JOIN account_balances b ON b.owner = c.value"
    _take_accounts(db, book, query, unknown)
    for owner in unknown:
        remembered.owners.setdefault(owner, None)


def _take_accounts(db: apsw.Connection, book: Book, query: str, keys: Iterable[str]) -> None:
    wanted = tuple(key for key in keys if key.isprintable())  # as all are that exist, and carray takes no NUL
    if wanted:
        for row in db.execute(query, (apsw.carray(wanted),)):
            book.add(_state(row))


def _state(row: Any) -> AccountState:  # noqa: ANN401 - a row
    (
        id_, owner, overdraft, apps, balance, free, spent_high, spent, owed_high, owed, tokens_high, tokens, sequence,
        balance_held, free_held, issued, expired, grants, holds, lines, position,
    ) = row  # fmt: skip
    return AccountState(
        id_, owner, overdraft, () if apps == "[]" else _apps.decode(apps), balance, balance_held, free, free_held,
        issued, expired, spent_high * HIGH + spent, owed_high * HIGH + owed, tokens_high * HIGH + tokens, sequence,
        grants, holds, lines, position, DUE_UNKNOWN_US if grants or holds else NEVER_US,
    )  # fmt: skip


def owned_by(db: apsw.Connection, kind: OwnerKind) -> bool:
    """Whether any account belongs to one of this kind."""
    query = "SELECT 1 FROM account_balances WHERE owner >= ?1 || '/' AND owner < ?1 || '0' LIMIT 1"
    return bool(db.execute(query, (kind,)).get)


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
    at, _, _, _, _, held, *shown = line
    return _state((account, "", "", "[]", *shown, held, 0, 0, 0, 0, 0, 0, at))


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    book = target.book or _folded(target, events)
    db = target.db
    states = [book.accounts[id_] for id_ in book.touched]
    insert(db, f"INSERT INTO {target.table('account_balances')}", [_balance_row(s) for s in states], _UPSERT)
    store_lines(target, book.lines or (), book.marks)
    insert(db, f"REPLACE INTO {target.table('grants')}", [_grant_row(each) for each in book.changed_grants.values()])
    insert(db, f"REPLACE INTO {target.table('holds')}", [_hold_row(each) for each in book.changed_holds.values()])


def _folded(target: Target, events: Sequence[Recorded]) -> Book:
    """A book of what the events touch, as they leave it."""
    book = _loaded(target, events)
    if book is None:
        return Book()
    book.collect()
    for event in events:
        book.evolve(event)
    return book


def _loaded(target: Target, events: Sequence[Recorded]) -> Book | None:
    """A book with what the events touch; None where they touch no account."""
    accounts: dict[str, None] = {}
    grants: dict[tuple[str, str], None] = {}
    holds: dict[HoldKey, None] = {}
    for event in events:
        data = event.data
        if isinstance(data, FINISHED):
            if data.charge is None:
                continue
            charges: Sequence[Charge] = (data.charge,)
        elif isinstance(data, KINDS):
            charges = _touched(data, accounts, grants, holds)
        else:
            continue
        for charge in charges:
            accounts[charge.account] = None
            if charge.free is not None:
                grants.update(dict.fromkeys((charge.account, id_) for id_ in charge.free))
    if not accounts and not holds:
        return None
    book = Book()
    load(target.db, book, accounts, target.table("account_balances"))
    load_holds(target.db, book, holds, target.table("holds"))
    held = ((hold.account, id_) for hold in book.holds.values() for id_ in hold.free)
    load_grants(target.db, book, [*grants, *held], target.table("grants"))
    return book


def _touched(
    data: object, accounts: dict[str, None], grants: dict[tuple[str, str], None], holds: dict[HoldKey, None]
) -> Sequence[Charge]:
    """Note what an event touches, but for its charges, which are returned."""
    match data:
        case ModelCallCorrected() | ModelCallVoided() | ModelCallRerated():
            return () if data.charges is None else data.charges.moves
        case HoldSettled():
            holds[data.app or "", data.id] = None
            return (data.charge,)
        case AccountCreated() | AccountChanged():
            accounts[data.id] = None
        case AccountCredited() | AccountCollected():
            accounts[data.account] = None
        case GrantExpired():
            accounts[data.account] = None
            grants[data.account, data.grant] = None
        case HoldPlaced():
            accounts[data.account] = None
            grants.update(dict.fromkeys((data.account, id_) for id_ in data.free or ()))
        case HoldReleased() | HoldExpired() | HoldDeclined():
            accounts[data.account] = None
            holds[data.app or "", data.id] = None
        case _:
            message = f"{type(data).__name__} is not folded"
            raise TypeError(message)
    return ()


def _balance_row(state: AccountState) -> Row:
    if not state.balanced():
        message = f"account {state.id}: what was issued is not what is there"
        raise ValueError(message)
    apps = msgspec.json.encode(state.apps).decode() if state.apps else "[]"
    return (
        state.id, state.owner, state.overdraft, apps, *state.shown(), state.balance_held_e10, state.free_held_e10,
        state.issued_e10, state.expired_e10, state.grants, state.holds, state.lines, state.position,
    )  # fmt: skip


def _grant_row(grant: Grant) -> Row:
    scope = None if grant.scope is None else msgspec.json.encode(grant.scope).decode()
    return (
        grant.account, grant.id, grant.amount_e10, grant.remaining_e10, grant.held_e10, grant.expires_at_us,
        grant.priority, scope, grant.position, grant.expirations,
    )  # fmt: skip


def _hold_row(hold: HoldState) -> Row:
    free = msgspec.json.encode(hold.free).decode() if hold.free else "{}"
    return (
        hold.app, hold.id, hold.account, hold.amount_e10, hold.balance_e10, free, hold.call_id, hold.expires_at_us,
        hold.status, hold.position, hold.closed_position, hold.settled_e10,
    )  # fmt: skip


PROJECTION = Projection(
    name="account_balances",
    version=4,
    tables=(
        Table(
            "account_balances", _BALANCE_COLUMNS, key="account", options="STRICT, WITHOUT ROWID",
            indexes=(("account_balances_by_owner", "(owner)"),),
        ),
        LINES,
        MARKS,
        Table(
            "grants", _GRANT_COLUMNS, key="id, account", options="STRICT, WITHOUT ROWID",
            indexes=(
                ("grants_live", "(account) WHERE remaining_e10 > 0"),
                ("grants_due", f"(expires_at_us) WHERE remaining_e10 > held_e10 AND expires_at_us < {NEVER_US}"),
            ),
        ),
        Table(
            "holds", _HOLD_COLUMNS, key="id, app", options="STRICT, WITHOUT ROWID",
            indexes=(
                ("holds_due", "(expires_at_us, account) WHERE status = 'open'"),
                ("holds_by_call", "(call_id, app) WHERE call_id IS NOT NULL"),
            ),
        ),
    ),
    apply=_apply,
    views=(VIEW,),
    blocking=True,
    of=KINDS,
)  # fmt: skip
