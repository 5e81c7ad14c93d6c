"""Bringing in, set-wise, the budgets and thresholds that a group of commands may touch; nothing without any."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import apsw

from ledger.watch import Watch
from ledger.watch_use import uses_of
from projections import account_alert, budget_spend
from projections.account_book import Book
from projections.budget_book import BudgetState, scope_keys, tags_of
from schema.account import ChangeAccount
from schema.budget import ChangeBudget, CreateBudget, RetireBudget
from schema.charge import BudgetSpend
from schema.hold import HoldPlaced, HoldSettled, PlaceHold
from schema.model_call import StartModelCall
from schema.times import parse_time

_BUDGETS = (CreateBudget, ChangeBudget, RetireBudget)


def load(db: apsw.Connection, ws: Any, commands: Sequence[Any]) -> Watch | None:  # noqa: ANN401 - a working set
    """The watch over a group, whose own loads were done; None where nothing is watched."""
    kinds: set[type] = {type(command) for command in commands}
    budgets = budget_spend.exist(db) or not kinds.isdisjoint(_BUDGETS)
    alerts = account_alert.exist(db) or ChangeAccount in kinds
    if not budgets and not alerts:
        return None
    watch = Watch()
    if budgets:
        _load_budgets(db, ws, watch, commands)
    if alerts:
        watch.alerts = account_alert.load(db, ws.book.accounts)
    return watch


def _load_budgets(db: apsw.Connection, ws: Any, watch: Watch, commands: Sequence[Any]) -> None:  # noqa: ANN401
    book, accounts = watch.budgets, ws.book
    keys = budget_spend.tag_keys(db)
    book.tag_keys = dict(keys)
    uses = [use for command in commands for use in uses_of(ws, command)]
    scopes: dict[str, None] = {f"account/{account}": None for account in accounts.accounts}
    for use in uses:
        scopes.update(dict.fromkeys(scope_keys(use.app, None, use.user, use.model, tags_of(use.metadata, keys))))
    apps = set(_holding(commands))
    for user in {owner_user(account.owner) for account in accounts.accounts.values()} - {None} if apps else ():
        for app in apps:
            scopes.update(dict.fromkeys(scope_keys(app, None, user, None, {})))
    budget_spend.load_scopes(db, book, scopes)
    ids = [command.id for command in commands if isinstance(command, ChangeBudget | RetireBudget)]
    placed, spends = _held(ws)
    ids += [id_ for each in (*placed, *spends) for id_ in each.budgets or ()]
    budget_spend.load_ids(db, book, dict.fromkeys(ids))
    times = [command.received_at_us for command in commands]
    starts = sorted({
        *times, *(use.at_us for use in uses if use.at_us is not None), *(parse_time(spend.at) for spend in spends)
    })  # fmt: skip
    first_us = min(times)
    budget_spend.load_sums(db, book, [_span(state, starts, first_us) for state in book.states.values()])
    budget_spend.load_holds(db, book, _open(accounts))
    budget_spend.load_lapsed(db, book, max(times))


def _holding(commands: Sequence[Any]) -> Iterator[str | None]:
    """The apps that may hold credit: on a user's account for that user, unless they name another."""
    for command in commands:
        if isinstance(command, PlaceHold):
            yield command.hold.app
        elif isinstance(command, StartModelCall) and command.call.hold is not None:
            yield command.call.app


def _held(ws: Any) -> tuple[list[HoldPlaced], list[BudgetSpend]]:  # noqa: ANN401 - a working set
    """The holds that may be settled by hand, and those that were, whose calls may come."""
    data = [event.data for event in ws.events.values()] if ws.book.holds else []
    settled = [each.budget_spend for each in data if isinstance(each, HoldSettled)]
    return [each for each in data if isinstance(each, HoldPlaced)], [spend for spend in settled if spend is not None]


def _open(book: Book) -> list[tuple[str, str]]:
    return [hold.key for hold in book.holds.values() if hold.status == "open"]


def _span(state: BudgetState, starts: Sequence[int], now_us: int) -> tuple[str, int, int]:
    """From which to which bucket a group may look at a budget; `now_us` is when its first command came."""
    first = starts[min(bisect_left(starts, state.counts_from_us), len(starts) - 1)]
    low = min(state.window(now_us)[0], state.bucket(max(first, state.counts_from_us)))
    return state.id, low, state.bucket(max(starts[-1], state.counts_from_us))


def owner_user(owner: str) -> str | None:
    """The user that an account belongs to; None where it is an app's or a team's."""
    kind, _, name = owner.split("/", 2)
    return name if kind == "user" else None
