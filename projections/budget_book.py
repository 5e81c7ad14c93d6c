"""What budgets become by each event: plain state, folded in memory.

The writer's working set and the projection fold with the same code; a test counts with code of its own.
"""

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from projections.account_part import HoldKey
from projections.quota_period import calendar
from schema.budget import (
    THRESHOLDS_DEFAULT,
    Budget,
    BudgetChanged,
    BudgetCreated,
    BudgetCrossed,
    BudgetRetired,
    PeriodKind,
)
from schema.charge import BudgetSpend
from schema.correction import Counted, ModelCallCorrected, ModelCallRerated, ModelCallVoided
from schema.hold import TAG_VALUE_CHARS_MAX, HoldExpired, HoldPlaced, HoldReleased, HoldSettled
from schema.model_call import FINISHED, ModelCallCompleted, ModelCallFailed, ModelCallRecorded, Rating
from schema.money import amount_e10
from schema.times import HOUR_US, parse_time

COUNTING = (*FINISHED, ModelCallCorrected, ModelCallVoided, ModelCallRerated, HoldSettled)
ENDING = (HoldSettled, HoldReleased, HoldExpired)
KINDS = (BudgetCreated, BudgetChanged, BudgetRetired, BudgetCrossed, HoldPlaced, *ENDING, *COUNTING)


class BudgetState(Struct, gc=False):
    """A budget in force. `spent` has what is known of it, by the start of the day, month or hour.

    `held_e10` is what open holds count against it, `lapsing` those of them that may be over by their time.
    """

    id: str
    key: str
    tag_key: str | None
    period: PeriodKind
    timezone: str
    window_us: int
    amount_e10: int
    hard: bool
    thresholds: tuple[int, ...]
    counts_from_us: int
    held_e10: int = 0
    spent: dict[int, int] = {}
    crossed: dict[tuple[int, int], int] = {}  # by end of the period and threshold: the event's position
    lapsing: dict[HoldKey, tuple[int, int]] = {}  # when it is over, and how much it is
    total: tuple[int, int, int] | None = None  # what a rolling window came to when it was last asked for

    def bucket(self, at_us: int) -> int:
        """What an instant is counted by: the start of its day, month or hour."""
        if self.period == "rolling":
            return at_us // HOUR_US * HOUR_US
        return calendar(self.timezone).period(self.period, at_us).start_us

    def window(self, at_us: int) -> tuple[int, int]:
        """The period that it is at an instant. A rolling one is at least as long as it says, in whole hours."""
        if self.period == "rolling":
            return (at_us - self.window_us) // HOUR_US * HOUR_US, at_us // HOUR_US * HOUR_US + HOUR_US
        period = calendar(self.timezone).period(self.period, at_us)
        return period.start_us, period.end_us

    def spent_in(self, window: tuple[int, int], more: Mapping[int, int]) -> int:
        """What is spent in a period, with what is `more`."""
        start_us, end_us = window
        if self.period != "rolling":
            return self.spent.get(start_us, 0) + more.get(start_us, 0)
        if self.total is None or self.total[:2] != window:
            self.total = start_us, end_us, sum(part for at, part in self.spent.items() if start_us <= at < end_us)
        return self.total[2] + sum(part for at, part in more.items() if start_us <= at < end_us)

    def spend(self, bucket: int, amount_e10: int) -> None:
        """Add to a bucket."""
        self.spent[bucket] = self.spent.get(bucket, 0) + amount_e10
        if self.total is not None and self.total[0] <= bucket < self.total[1]:
            self.total = *self.total[:2], self.total[2] + amount_e10

    def held(self, now_us: int) -> int:
        """What holds that still bind count against it."""
        return self.held_e10 - sum(amount for ends_us, amount in self.lapsing.values() if ends_us <= now_us)

    def was_crossed(self, threshold: int, end_us: int) -> bool:
        """Whether this was told for the period that ends then; of a rolling one, within a window's length."""
        if self.period != "rolling":
            return (end_us, threshold) in self.crossed
        return any(each == threshold and end_us < at + self.window_us for at, each in self.crossed)


class HeldFor(Struct, gc=False):
    """An open hold as budgets see it."""

    budgets: tuple[str, ...]
    amount_e10: int
    expires_at_us: int


class Move(Struct, gc=False):
    """What an event adds to budgets: those that have one of these scopes, at the call's start, or those it names."""

    keys: list[str]
    at_us: int
    amount_e10: int
    budgets: list[str] = []


def scope_keys(
    app: str | None, account: str | None, user: str | None, model: str | None, tags: Mapping[str, str]
) -> list[str]:
    """The scopes that something is within."""
    named = [("user", user), ("model", model), *(("tag", f"{key}/{value}") for key, value in tags.items())]
    found = [f"{kind}//{name}" for kind, name in named if name is not None]
    if account is not None:
        found.append(f"account/{account}")
    if app is not None:
        found += [f"{kind}/{app}/{name}" for kind, name in named if name is not None]
        found.append(f"app/{app}")
    return found


def tags_of(metadata: Mapping[str, Any] | None, keys: Iterable[str]) -> dict[str, str]:
    """The entries of a call's metadata that budgets ask for and that can be tags."""
    found: dict[str, str] = {}
    for key in keys if metadata else ():
        value: Any = (metadata or {}).get(key)
        if isinstance(value, str) and 0 < len(value) <= TAG_VALUE_CHARS_MAX and value.isprintable():
            found[key] = value
    return found


def moves_of(data: Any, tag_keys: Iterable[str]) -> Iterator[Move]:  # noqa: ANN401 - an event's data
    """What an event of a call, or of a hold that is settled by hand, takes from budgets and adds to them."""
    if isinstance(data, FINISHED):
        amount, charge = _cost(data.rating), data.charge
        if amount:
            account = None if charge is None else charge.account
            yield Move(_keys(data, account, tag_keys), parse_time(data.started_at), amount)
        if charge is not None and charge.takes_back is not None:
            yield _by_hand(charge.takes_back, -1)
    elif isinstance(data, HoldSettled):
        if data.budget_spend is not None:
            yield _by_hand(data.budget_spend, 1)
    elif isinstance(data, (ModelCallCorrected, ModelCallVoided, ModelCallRerated)):
        before = data.replaces
        keys, at_us = _keys_before(data.app, before), parse_time(before.started_at)
        yield Move(keys, at_us, -_cost(before.rating))
        if isinstance(data, ModelCallRerated):
            yield Move(keys, at_us, _cost(data.rating))
        elif isinstance(data, ModelCallCorrected):
            stands = None if data.charges is None else data.charges.stands
            account = None if stands is None else stands.account
            yield Move(_keys(data, account, tag_keys), parse_time(data.started_at), _cost(data.rating))


def _by_hand(spend: BudgetSpend, sign: int) -> Move:
    return Move([], parse_time(spend.at), sign * amount_e10(spend.amount), spend.budgets)


def _cost(rating: Rating | None) -> int:
    return 0 if rating is None or rating.cost is None else amount_e10(rating.cost)


def _keys(
    data: ModelCallRecorded | ModelCallCompleted | ModelCallFailed | ModelCallCorrected,
    account: str | None,
    tag_keys: Iterable[str],
) -> list[str]:
    return scope_keys(data.app, account, data.user_id, data.model, tags_of(data.metadata, tag_keys))


def _keys_before(app: str | None, before: Counted) -> list[str]:
    return scope_keys(app, before.charged, before.user_id, before.model, before.tags or {})


def state_of(data: BudgetCreated) -> BudgetState:
    """A budget as it comes into force."""
    opening = {parse_time(at): amount_e10(amount) for at, amount in (data.opening or {}).items()}
    state = BudgetState(
        data.id, data.scope.text, data.scope.key, data.period, data.timezone, (data.window_hours or 0) * HOUR_US,
        0, False, (), parse_time(data.counts_from), spent=opening,
    )  # fmt: skip
    set_rules(state, data)
    return state


def set_rules(state: BudgetState, content: Budget) -> None:
    """What a change may change."""
    state.amount_e10, state.hard = amount_e10(content.amount), content.enforcement == "hard"
    state.thresholds = tuple(content.thresholds or THRESHOLDS_DEFAULT)


def _id(state: BudgetState) -> str:
    return state.id


class BudgetBook:
    """The budgets that a batch touches, with what is loaded of their sums, and of the holds that they cover."""

    def __init__(self) -> None:
        self.states: dict[str, BudgetState] = {}
        self.by_key: dict[str, list[BudgetState]] = {}
        self.holds: dict[HoldKey, HeldFor] = {}
        self.tag_keys: dict[str, None] = {}
        self.touched: dict[tuple[str, int], None] = {}  # budget and bucket
        self.changed: dict[str, None] = {}  # in their rules, or in what is held
        self.gone: dict[str, BudgetState] = {}  # retired
        # What was worked out of events that are not taken in yet; these are kept so that their ids stay theirs.
        self._moves: dict[int, tuple[object, list[Move]]] = {}

    def add(self, state: BudgetState) -> None:
        """Take in a budget, unless it is there. Those of one scope are in order of id, however they were found."""
        if state.id not in self.states:
            self.states[state.id] = state
            insort(self.by_key.setdefault(state.key, []), state, key=_id)
            if state.tag_key is not None:
                self.tag_keys[state.tag_key] = None

    def moves(self, data: object) -> list[Move]:
        """What an event takes from budgets and adds to them, worked out once until it is taken in."""
        found = self._moves.get(id(data))
        if found is None:
            found = self._moves[id(data)] = data, list(moves_of(data, self.tag_keys))
        return found[1]

    def covering(self, keys: Iterable[str]) -> list[BudgetState]:
        """The budgets of these scopes."""
        return [state for key in keys for state in self.by_key.get(key, ())]

    def counted(self, data: object) -> Iterator[tuple[BudgetState, int, int]]:
        """What an event adds: to which budget, in which bucket, how much."""
        for move in self.moves(data):
            if move.amount_e10:
                for state in (*self.covering(move.keys), *self._known(move.budgets)):
                    if move.at_us >= state.counts_from_us:
                        yield state, state.bucket(move.at_us), move.amount_e10

    def evolve(self, data: Any, position: int) -> None:  # noqa: ANN401 - an event's data
        """Take in an event; those of other things change nothing."""
        if isinstance(data, COUNTING):
            for state, bucket, amount in self.counted(data):
                state.spend(bucket, amount)
                self.touched[state.id, bucket] = None
            del self._moves[id(data)]
        if isinstance(data, ENDING):
            self._ended((data.app or "", data.id))
        elif isinstance(data, HoldPlaced):
            self._placed(data)
        elif isinstance(data, BudgetCreated):
            state = state_of(data)
            self.add(state)
            self.changed[state.id] = None
            self.touched.update(dict.fromkeys((state.id, bucket) for bucket in state.spent))
        elif isinstance(data, BudgetChanged):
            set_rules(self.states[data.id], data)
            self.changed[data.id] = None
        elif isinstance(data, BudgetRetired):
            state = self.gone[data.id] = self.states.pop(data.id)
            self.by_key[state.key].remove(state)
        elif isinstance(data, BudgetCrossed) and data.id in self.states:
            self.states[data.id].crossed[parse_time(data.period_end), data.threshold] = position

    def _placed(self, data: HoldPlaced) -> None:
        if data.budgets is None:
            return
        key, amount, ends_us = (data.app or "", data.id), amount_e10(data.amount), parse_time(data.expires_at)
        self.holds[key] = HeldFor(tuple(data.budgets), amount, ends_us)
        for state in self._known(data.budgets):
            state.held_e10 += amount
            self.changed[state.id] = None
            state.lapsing[key] = ends_us, amount

    def _ended(self, key: HoldKey) -> None:
        hold = self.holds.pop(key, None)
        for state in self._known(() if hold is None else hold.budgets):
            assert hold is not None
            state.held_e10 -= hold.amount_e10
            self.changed[state.id] = None
            state.lapsing.pop(key, None)

    def _known(self, ids: Iterable[str]) -> list[BudgetState]:
        return [self.states[id_] for id_ in ids if id_ in self.states]
