"""What events make of accounts, their statement lines, grants and holds, and the tables that it is stored in.

Sums that have no bound of their own (spent, owed, tokens) are kept as two numbers, how many times 10^18 and the rest.
What changes with every charge lies apart from the names: short rows by number, so that a commit writes few pages.
"""

from collections.abc import Sequence

import msgspec

from projections.account_balance import load, load_grants, load_holds
from projections.account_book import KINDS, Book, Grant, HoldKey, HoldState
from projections.account_state import NEVER_US, AccountState
from projections.account_statement import LINES, MARKS, SHOWN, VIEW
from projections.account_statement import store as store_lines
from projections.bulk import Row, insert
from projections.projection import Projection, Table, Target
from schema.account import AccountChanged, AccountCreated
from schema.charge import Charge
from schema.correction import ModelCallCorrected, ModelCallRerated, ModelCallVoided
from schema.credit import AccountCollected, AccountCredited, GrantExpired
from schema.entry import Recorded
from schema.hold import HoldDeclined, HoldExpired, HoldPlaced, HoldReleased, HoldSettled
from schema.model_call import FINISHED

_OWNER_COLUMNS = """
    number            INTEGER PRIMARY KEY,  -- position of the account's first event
    account           TEXT NOT NULL,
    owner             TEXT NOT NULL,
    overdraft         TEXT NOT NULL,
    apps              TEXT NOT NULL
"""
_BALANCE_COLUMNS = f"""
    number            INTEGER PRIMARY KEY,  -- of the account
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
_NAMED = (
    "account_balances_named",
    "SELECT o.account, o.owner, b.* FROM account_balances b JOIN account_owners o USING (number)",
)


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    book = target.book or _folded(target, events)
    db = target.db
    owners = [_owner_row(book.accounts[id_]) for id_ in book.changed_rules]
    insert(db, f"REPLACE INTO {target.table('account_owners')}", owners)
    balances = sorted(_balance_row(book.accounts[id_]) for id_ in book.touched)  # neighbours lie on one page
    insert(db, f"REPLACE INTO {target.table('account_balances')}", balances)
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
    load(target.db, book, accounts, target.suffix)
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


def _owner_row(state: AccountState) -> Row:
    apps = msgspec.json.encode(state.apps).decode() if state.apps else "[]"
    return state.number, state.id, state.owner, state.overdraft, apps


def _balance_row(state: AccountState) -> tuple[int, ...]:
    if not state.balanced():
        message = f"account {state.id}: what was issued is not what is there"
        raise ValueError(message)
    return (
        state.number, *state.shown(), state.balance_held_e10, state.free_held_e10, state.issued_e10, state.expired_e10,
        state.grants, state.holds, state.lines, state.position,
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
    version=5,
    tables=(
        Table(
            "account_owners", _OWNER_COLUMNS, key="number",
            indexes=(("account_owners_by_account", "(account)"), ("account_owners_by_owner", "(owner)")),
        ),
        Table("account_balances", _BALANCE_COLUMNS, key="number"),
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
    views=(VIEW, _NAMED),
    blocking=True,
    of=KINDS,
)  # fmt: skip
