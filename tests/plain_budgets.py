"""Budgets told plainly: every sum added up anew from all calls, in code that shares nothing with the ledger's."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

HOUR_US = 3_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Window = tuple[int, int]


@dataclass
class PlainCall:
    user: str | None
    model: str
    tag: str | None
    account: str
    at: int
    tokens: int
    cost: int
    voided: bool = False
    charged: int = 0  # what its account paid: another amount where its hold was settled by hand


@dataclass
class PlainHold:
    user: str | None
    model: str | None
    tag: str | None
    account: str
    amount: int
    ends: int
    open: bool = True
    budgets: list[str] = field(default_factory=list[str])  # in force when it was placed
    fate: str = "open"
    settled: int = 0
    by_hand_at: int | None = None  # until its call came


@dataclass
class PlainBudget:
    kind: str
    scope: str
    amount: int
    period: str
    zone: str
    hours: int
    hard: bool
    since: int
    thresholds: tuple[int, ...] = (80, 100)
    retired: bool = False
    told: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    def covers(self, use: PlainCall | PlainHold) -> bool:
        return {
            "app": True, "account": use.account == self.scope, "user": use.user == self.scope,
            "model": use.model == self.scope, "tag": use.tag == self.scope,
        }[self.kind]  # fmt: skip

    def window(self, at: int) -> Window:
        if self.period == "rolling":
            return (at // HOUR_US - self.hours) * HOUR_US, (at // HOUR_US + 1) * HOUR_US
        zone = ZoneInfo(self.zone)
        day = (EPOCH + timedelta(microseconds=at)).astimezone(zone).date()
        if self.period == "day":
            return midnight(day, zone), midnight(day + timedelta(days=1), zone)
        first = day.replace(day=1)
        return midnight(first, zone), midnight((first + timedelta(days=40)).replace(day=1), zone)


def midnight(day: date, zone: ZoneInfo) -> int:
    local = datetime(day.year, day.month, day.day, tzinfo=zone)
    return (local.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)


class PlainBudgets:
    def __init__(self) -> None:
        self.calls: dict[str, PlainCall] = {}
        self.holds: dict[str, PlainHold] = {}
        self.budgets: dict[str, PlainBudget] = {}
        self.crossings: Counter[tuple[str, int, int, int]] = Counter()  # budget, threshold, end, spent
        self.before: dict[str, Counter[int]] = {}

    def live(self) -> dict[str, PlainBudget]:
        return {id_: budget for id_, budget in self.budgets.items() if not budget.retired}

    def spent(self, id_: str, now: int) -> int:
        budget = self.budgets[id_]
        return self.spent_in(id_, budget.window(now))

    def spent_in(self, id_: str, window: Window) -> int:
        return sum(cost for at, cost in self.counted(id_) if window[0] <= at < window[1])

    def counted(self, id_: str) -> list[tuple[int, int]]:
        """Calls and holds that were settled by hand: when, and how much."""
        budget, holds = self.budgets[id_], self.holds.values()
        calls = [call for call in self.calls.values() if not call.voided and budget.covers(call)]
        found = [(call.at, call.cost) for call in calls if call.at >= budget.since]
        return found + [(h.by_hand_at, h.settled) for h in holds if h.by_hand_at is not None and id_ in h.budgets]

    def held(self, id_: str, now: int) -> int:
        return sum(h.amount for h in self.holds.values() if h.open and h.ends > now and id_ in h.budgets)

    def lacks(self, hold: PlainHold, now: int) -> int:
        """By how much the fullest hard budget has no room for a hold."""
        over = [
            self.spent(id_, now) + self.held(id_, now) + hold.amount - budget.amount
            for id_, budget in self.live().items()
            if budget.hard and budget.covers(hold)
        ]
        return max([0, *over])

    def begin(self) -> None:
        """Before a command."""
        self.before = {id_: self.by_window(id_) for id_ in self.live()}

    def by_window(self, id_: str) -> Counter[int]:
        """Sums by day, month or hour."""
        sums: Counter[int] = Counter()
        budget = self.budgets[id_]
        for at, cost in self.counted(id_):
            sums[at // HOUR_US * HOUR_US if budget.period == "rolling" else budget.window(at)[0]] += cost
        return sums

    def end(self, now: int) -> None:
        """After a command: what grew may have crossed."""
        for id_, budget in self.live().items():
            if id_ not in self.before:
                continue
            after = self.by_window(id_)
            grown = [start for start, total in after.items() if total > self.before[id_][start]]
            if budget.period == "rolling":
                start, end = budget.window(now)
                windows = [(start, end)] if any(start <= at < end for at in grown) else []
            else:
                windows = [budget.window(start) for start in grown]
            for window in windows:
                self.cross(id_, window)

    def cross(self, id_: str, window: Window) -> None:
        budget = self.budgets[id_]
        spent = self.spent_in(id_, window)
        for threshold in budget.thresholds:
            if budget.period == "rolling":
                length = budget.hours * HOUR_US
                known = any(each == threshold and window[1] < end + length for end, each in budget.told)
            else:
                known = (window[1], threshold) in budget.told
            if spent * 100 >= budget.amount * threshold and not known:
                budget.told.add((window[1], threshold))
                self.crossings[id_, threshold, window[1], spent] += 1
