"""Alerts of an account: its balance falls to a threshold, and rises above it again; and how long it lasts."""

from typing import Literal

from msgspec import Struct

from schema.event import event

FORECAST_DAYS_DEFAULT = 30
FORECAST_DAYS_MAX = 366
DAYS_LEFT_MAX = 999

Basis = Literal["use", "no_use", "nothing_left"]


@event("account.balance_low", 1)
class AccountBalanceLow(Struct, kw_only=True):
    """Balance and free quota together (`after`) fell to `threshold`. Told once, until they have risen above it."""

    account: str
    threshold: str
    after: str


@event("account.balance_recovered", 1)
class AccountBalanceRecovered(Struct, kw_only=True):
    """Balance and free quota together (`after`) rose above `threshold`: the next fall is told again."""

    account: str
    threshold: str
    after: str


class Forecast(Struct, kw_only=True):
    """How many days an account lasts, by what it spent from `start` to `end`.

    `start` is the first use within the days that were asked for, so that a new account is not averaged over days
    without it, but at least one day back. `average` is credits a day. `days_left` is whole days, 1 where less is left,
    999 at most. `basis` is `no_use` where nothing was spent: then nothing can be told, and `days_left` is 999; and
    `nothing_left` where nothing is available: 0.
    """

    account: str
    basis: Basis
    start: str | None
    end: str
    spent: str
    average: str
    available: str
    days_left: int
    position: int
