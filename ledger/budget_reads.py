"""Reads of budgets: their rules, and what is spent and held in the period that is now."""

from collections.abc import Sequence

import apsw
from msgspec import Struct

from ledger import catalogue_reads, journal
from projections import account_alert, budget_spend
from projections.budget_book import BudgetBook, BudgetState, set_rules, state_of
from projections.catalogue import Condition
from projections.engine import require
from schema.budget import BUDGET, SOURCE, Budget, BudgetCreated, BudgetView, Crossing
from schema.catalogue import HistoryItem, Stand, history
from schema.money import amount_text
from schema.paging import Page, decode_cursor, encode_cursor
from schema.times import format_time


class Watched(Struct, frozen=True):
    """How many budgets are in force, how many thresholds of theirs were ever crossed, how many accounts are low."""

    budgets: int
    crossings: int
    accounts_low: int


def watched(db: apsw.Connection) -> Watched:
    """The numbers as of this snapshot, as far as projections are."""
    budgets, crossings = budget_spend.counts(db)
    return Watched(budgets, crossings, account_alert.count_low(db))


def one(db: apsw.Connection, id_: str, now_us: int) -> tuple[BudgetView, Stand]:
    """A budget as it is at this moment, retired ones too; raises NotFound, Rebuilding."""
    stand = catalogue_reads.one(db, BUDGET, id_)
    (view,) = views(db, [stand], now_us)
    return view, stand


def page(
    db: apsw.Connection, conditions: Sequence[Condition], cursor: str | None, limit: int, now_us: int
) -> Page[BudgetView]:
    """Budgets by id; raises Rebuilding, InvalidInput for a bad cursor."""
    found = catalogue_reads.page(db, BUDGET, conditions, cursor, limit)
    return Page(items=views(db, found.items, now_us), next_cursor=found.next_cursor)


def left_by(db: apsw.Connection, id_: str, position: int, now_us: int) -> tuple[BudgetView, Stand]:
    """A budget with its rules as one of its events left them, whatever came after; its sums as they are now."""
    [event] = journal.at(db, [position])
    stand = catalogue_reads.left_by(db, BUDGET, id_, event)
    (view,) = views(db, [stand], now_us)
    return view, stand


def views(db: apsw.Connection, stands: Sequence[Stand], now_us: int) -> list[BudgetView]:
    """Budgets with what is spent of them, set-wise."""
    require(db, journal.head_position(db), "budget_sums")
    book = BudgetBook()
    budget_spend.load_ids(db, book, [stand.content.id for stand in stands])
    retired = [stand.content.id for stand in stands if stand.content.id not in book.states]
    for event in journal.lookup(db, [(SOURCE, id_) for id_ in retired]):
        assert isinstance(event.data, BudgetCreated)
        state = state_of(event.data)
        state.spent = {}
        book.add(state)
    windows = {id_: state.window(now_us) for id_, state in book.states.items()}
    budget_spend.load_sums(db, book, [(id_, start_us, end_us - 1) for id_, (start_us, end_us) in windows.items()])
    budget_spend.load_lapsed(db, book, now_us)
    return [_view(stand, book.states[stand.content.id], now_us) for stand in stands]


def _view(stand: Stand, state: BudgetState, now_us: int) -> BudgetView:
    content: Budget = stand.content
    set_rules(state, content)
    window = state.window(now_us)
    spent_e10, held_e10 = state.spent_in(window, {}), 0 if stand.deleted else state.held(now_us)
    crossed = {threshold: at for (end_us, threshold), at in state.crossed.items() if _now(state, end_us, window)}
    return BudgetView(
        id=content.id, scope=content.scope, amount=content.amount, period=content.period, timezone=content.timezone,
        window_hours=content.window_hours, enforcement=content.enforcement, thresholds=list(state.thresholds),
        name=content.name, metadata=content.metadata, period_start=format_time(window[0]),
        period_end=format_time(window[1]), spent=amount_text(spent_e10), held=amount_text(held_e10),
        remaining=amount_text(state.amount_e10 - spent_e10 - held_e10), counts_from=format_time(state.counts_from_us),
        crossed=[Crossing(threshold=each, position=at) for each, at in sorted(crossed.items())],
        retired=stand.deleted, position=stand.position, created_at=format_time(stand.created_at_us),
        changed_at=format_time(stand.changed_at_us),
    )  # fmt: skip


def _now(state: BudgetState, end_us: int, window: tuple[int, int]) -> bool:
    """Whether something crossed in the period that ends then was crossed in this one."""
    return window[0] < end_us <= window[1] if state.period == "rolling" else end_us == window[1]


def budget_history(db: apsw.Connection, id_: str, cursor: str | None, limit: int) -> Page[HistoryItem]:
    """Who changed a budget, when; its crossings change nothing. Raises NotFound, InvalidInput for a bad cursor."""
    catalogue_reads.one(db, BUDGET, id_)
    (after,) = decode_cursor(cursor, catalogue_reads.After) if cursor else (0,)
    ends = journal.lookup(db, [(SOURCE, id_), (SOURCE, f"{id_}/delete")])
    events = [event for event in ends if event.position >= after]
    events += journal.events_of(db, SOURCE, f"{id_}/change", after, limit + 2)
    events.sort(key=lambda event: event.position)
    before = events.pop(0) if after else None
    items = history(BUDGET, before, events[:limit])
    return Page(items=items, next_cursor=encode_cursor(items[-1].position) if len(events) > limit else None)
