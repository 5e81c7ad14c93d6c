"""Reads of accounts: what one holds, now or at a position, its transactions, its history, and holds."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated, Any

import apsw
from msgspec import Meta

from ledger import catalogue_reads, journal
from ledger.payer import may_use
from ledger.teller import Teller
from projections import account_balance, account_statement
from projections.account_book import AccountState, Book, HoldState
from projections.engine import require
from schema.account import ACCOUNT, SOURCE
from schema.account_view import AccountView, TransactionView, account_view, transaction_view
from schema.catalogue import HistoryItem, Stand, history
from schema.errors import FieldError, Forbidden, InvalidInput, NotFound
from schema.paging import Page, decode_cursor, encode_cursor

After = tuple[Annotated[int, Meta(ge=0, le=2**62)]]


def account(db: apsw.Connection, id_: str, app: str | None, now_us: int) -> tuple[AccountView, Stand]:
    """An account as it is at this moment: what is over by now counts no more. Raises NotFound, Forbidden."""
    stand = catalogue_reads.one(db, ACCOUNT, id_)
    state = _state(db, id_, app)
    book = Book()
    book.add(state)
    account_balance.load_details(db, book, now_us)
    held = [(id_, grant) for hold in book.holds.values() for grant in hold.free]
    account_balance.load_grants(db, book, held)
    return account_view(stand.content, Teller(book, now_us, "").settle_due(id_)), stand


def account_as_of(db: apsw.Connection, id_: str, app: str | None, position: int) -> tuple[AccountView, Stand]:
    """An account as the event at a position left it; raises NotFound where it was not there yet."""
    _state(db, id_, app)
    found = account_balance.state_at(db, id_, position)
    events = _rules(db, id_)
    if found is None or events[0].position > position:
        raise NotFound(f"there was no account {id_} at position {position}")
    created = latest = events[0]
    while events and events[0].position <= position:
        latest = [event for event in events if event.position <= position][-1]
        events = _rules(db, id_, events[-1].position + 1)
    stand = Stand(latest.data, False, latest.position, created.recorded_at_us, latest.recorded_at_us)
    return account_view(stand.content, found), stand


def position_at(db: apsw.Connection, time_us: int) -> int:
    """The last position recorded at or before an instant: recorded times never run backwards."""
    recorded = _Recorded(db, journal.head_position(db))
    return bisect_right(recorded, time_us)


def recorded_at(db: apsw.Connection, position: int) -> int:
    """When the event at a position was recorded."""
    [event] = journal.at(db, [position])
    return event.recorded_at_us


class _Recorded(Sequence[int]):
    """When each event was recorded, by position; looked up, not loaded."""

    def __init__(self, db: apsw.Connection, size: int) -> None:
        self.db = db
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - a sequence's own
        [event] = journal.at(self.db, [index + 1])
        return event.recorded_at_us


def _state(db: apsw.Connection, id_: str, app: str | None) -> AccountState:
    require(db, journal.head_position(db), "accounts", "account_balances")
    book = Book()
    account_balance.load(db, book, [id_])
    state = book.accounts.get(id_)
    if state is None:
        raise NotFound(f"there is no account {id_}")
    if app is not None and not may_use(state, app):
        raise Forbidden(f"account {id_} is not this app's, nor granted to it")
    return state


def _rules(db: apsw.Connection, id_: str, since: int = 0, limit: int = 1_000) -> list[Any]:
    """An account's creation and changes, in order: its other events move money."""
    found = journal.lookup(db, [(SOURCE, id_)]) if not since else iter(())
    return [*found, *journal.events_of(db, SOURCE, f"{id_}/change", since, limit)]


def account_history(db: apsw.Connection, id_: str, cursor: str | None, limit: int) -> Page[HistoryItem]:
    """Who changed an account's rules, when; raises NotFound, InvalidInput for a bad cursor."""
    (after,) = decode_cursor(cursor, After) if cursor else (0,)
    events = _rules(db, id_, after, limit + 2)
    if after == catalogue_reads.one(db, ACCOUNT, id_).position:
        return Page(items=[])
    if after and events and events[0].position != after:  # the creation is not among the changes
        events = [*journal.lookup(db, [(SOURCE, id_)]), *events]
    before = events.pop(0) if after else None
    items = history(ACCOUNT, before, events[:limit])
    return Page(items=items, next_cursor=encode_cursor(items[-1].position) if len(events) > limit else None)


def transactions(
    db: apsw.Connection, id_: str, app: str | None, cursor: str | None, limit: int
) -> Page[TransactionView]:
    """An account's transactions in order; raises NotFound, Forbidden, InvalidInput for a bad cursor."""
    _state(db, id_, app)
    (after,) = decode_cursor(cursor, After) if cursor else (0,)
    rows = account_statement.transactions(db, id_, after, limit)
    events = journal.at(db, [row[0] for row in rows])
    items = [transaction_view(id_, row, event) for row, event in zip(rows, events, strict=True)]
    return Page(items=items, next_cursor=encode_cursor(rows[-1][0]) if len(rows) == limit else None)


def hold(db: apsw.Connection, id_: str, app: str | None) -> HoldState:
    """A hold; without an app every app's are looked at. Raises NotFound, InvalidInput where two apps share the id."""
    require(db, journal.head_position(db), "account_balances")
    found = account_balance.find_holds(db, app, id_)
    if not found:
        raise NotFound(f"there is no hold {id_}")
    if len(found) > 1:
        message = f"Expected an app: {len(found)} have a hold {id_}"
        raise InvalidInput(errors=(FieldError("$.app", message),))
    return found[0]
