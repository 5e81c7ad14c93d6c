"""What follows from a command without having been asked for: a budget's threshold is crossed, a balance is low.

Each decision is followed by itself, so that how commands were grouped makes no difference to what is told.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from projections import account_alert
from projections.account_alert import Alerts, AlertState
from projections.account_book import Book
from projections.budget_book import COUNTING, BudgetBook, BudgetState, set_rules, state_of
from schema import account as accounts
from schema import budget as budgets
from schema.account import AccountChanged
from schema.account_alert import AccountBalanceLow, AccountBalanceRecovered
from schema.budget import BudgetChanged, BudgetCreated, BudgetCrossed, scope_of
from schema.charge import Charge
from schema.correction import ModelCallCorrected, ModelCallRerated, ModelCallVoided
from schema.credit import AccountCollected, AccountCredited, GrantExpired
from schema.entry import NewEvent, Recorded
from schema.hold import HoldSettled
from schema.model_call import FINISHED
from schema.money import amount_e10, amount_text
from schema.times import format_time

ACTOR = "ledger"
PERCENT = 100

Over = tuple[str, int]  # a budget, and by how much


class Watch:
    """The budgets and thresholds that a group of commands may touch."""

    def __init__(self) -> None:
        self.budgets = BudgetBook()
        self.alerts: Alerts = {}

    def evolve(self, event: Recorded) -> None:
        """Take in an event that was decided."""
        self.budgets.evolve(event.data, event.position)
        account_alert.evolve(self.alerts, event.data)

    def room(self, keys: Iterable[str], amount_e10: int, now_us: int) -> tuple[list[str], Over | None]:
        """The budgets that cover something, and the hard one that lacks most for it, if one does."""
        covering = self.budgets.covering(keys)
        over: Over | None = None
        for state in covering:
            if state.hard:
                spent = state.spent_in(state.window(now_us), {})
                lacks = spent + state.held(now_us) + amount_e10 - state.amount_e10
                if lacks > (0 if over is None else over[1]):
                    over = state.id, lacks
        return [state.id for state in covering], over

    def follow(self, book: Book, events: Sequence[NewEvent], now_us: int) -> list[NewEvent]:
        """What is to be told after these events, `book` being from before them. Nothing is changed yet."""
        return [*self._crossings(events, now_us), *self._balances(book, events, now_us)]

    def _crossings(self, events: Sequence[NewEvent], now_us: int) -> Iterator[NewEvent]:
        deltas: dict[str, dict[int, int]] = {}
        for event in events:
            data = event.data
            if isinstance(data, COUNTING):
                for state, bucket, amount in self.budgets.counted(data):
                    own = deltas.setdefault(state.id, {})
                    own[bucket] = own.get(bucket, 0) + amount
            elif isinstance(data, BudgetCreated):
                yield from _new_rules(state_of(data), now_us)
            elif isinstance(data, BudgetChanged):
                state = replace(self.budgets.states[data.id], total=None)
                set_rules(state, data)
                yield from _new_rules(state, now_us)
        for id_, own in deltas.items():
            yield from _spent(self.budgets.states[id_], own, now_us)

    def _balances(self, book: Book, events: Sequence[NewEvent], now_us: int) -> Iterator[NewEvent]:
        rows: Alerts = {}
        totals: dict[str, int] = {}
        for event in events:
            data = event.data
            if isinstance(data, AccountChanged):
                known = self.alerts.get(data.id)
                rows |= {} if known is None else {data.id: replace(known)}
                account_alert.evolve(rows, data)
                totals[data.id] = book.accounts[data.id].total_e10
            elif self.alerts:
                totals.update(_totals(data))
        for account, total in totals.items():
            state = rows.get(account) or self.alerts.get(account)
            if state is not None and state.threshold_e10 is not None:
                yield from _balance(state, state.threshold_e10, total, now_us)


def _new_rules(state: BudgetState, now_us: int) -> Iterator[NewEvent]:
    """A budget that is new, or has another amount, may have been crossed before."""
    yield from _crossed(state, state.window(now_us), {}, now_us)


def _spent(state: BudgetState, more: Mapping[int, int], now_us: int) -> Iterator[NewEvent]:
    """Of days and months each counts by itself, whenever its calls came; a rolling window is the one that is now."""
    grown = [bucket for bucket, amount in more.items() if amount > 0]
    if state.period == "rolling":
        start_us, end_us = state.window(now_us)
        windows = [(start_us, end_us)] if any(start_us <= bucket < end_us for bucket in grown) else []
    else:
        windows = [state.window(bucket) for bucket in grown]
    for window in windows:
        yield from _crossed(state, window, more, now_us)


def _crossed(state: BudgetState, window: tuple[int, int], more: Mapping[int, int], now_us: int) -> Iterator[NewEvent]:
    spent = state.spent_in(window, more)
    for threshold in state.thresholds:
        if spent * PERCENT >= state.amount_e10 * threshold and not state.was_crossed(threshold, window[1]):
            start, end = map(format_time, window)
            data = BudgetCrossed(
                id=state.id, scope=scope_of(state.key), threshold=threshold, amount=amount_text(state.amount_e10),
                spent=amount_text(spent), enforcement="hard" if state.hard else "soft", period=state.period,
                period_start=start, period_end=end,
            )  # fmt: skip
            id_ = f"{state.id}/cross/{end}/{threshold}"
            subject = f"{budgets.NOUN}/{state.id}"
            yield NewEvent(budgets.SOURCE, id_, subject, format_time(now_us), now_us, ACTOR, data)


def _totals(data: Any) -> dict[str, int]:  # noqa: ANN401 - an event's data
    """What accounts have in all after an event: the total that it says itself."""
    if isinstance(data, FINISHED):
        return _charged([] if data.charge is None else [data.charge])
    if isinstance(data, HoldSettled):
        return _charged([data.charge])
    if isinstance(data, ModelCallCorrected | ModelCallVoided | ModelCallRerated):
        return _charged([] if data.charges is None else data.charges.moves)
    if isinstance(data, AccountCredited | AccountCollected | GrantExpired):
        return {data.account: amount_e10(data.after)}
    return {}


def _charged(charges: Sequence[Charge]) -> dict[str, int]:
    return {charge.account: amount_e10(charge.after) for charge in charges if charge.after is not None}


def _balance(state: AlertState, threshold_e10: int, total_e10: int, now_us: int) -> Iterator[NewEvent]:
    low = total_e10 <= threshold_e10
    if low == state.low:
        return
    account, threshold, after = state.account, amount_text(threshold_e10), amount_text(total_e10)
    kind, verb = (AccountBalanceLow, "low") if low else (AccountBalanceRecovered, "recovered")
    id_ = f"{account}/{verb}/{state.told + low}"
    subject = f"{accounts.NOUN}/{account}"
    data = kind(account=account, threshold=threshold, after=after)
    yield NewEvent(accounts.SOURCE, id_, subject, format_time(now_us), now_us, ACTOR, data)
