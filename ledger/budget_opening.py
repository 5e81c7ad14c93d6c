"""What calls came to before a budget came into force, so that it counts its first period whole.

Of an app, a user or a model the roll-ups know it, of an account or a tag only the calls themselves: where there are
more of these than is looked at, the budget counts those that start from its creation on, and says so.
"""

from typing import cast

import apsw
from msgspec import Struct

from ledger import journal
from ledger.changed_call import known_calls
from ledger.recharging import standing
from projections.budget_book import BudgetState
from projections.engine import require
from projections.model_call_stat_read import read_stats
from projections.name import PROJECTION as NAMES
from schema.acceptance import AHEAD_MAX_US
from schema.budget import Budget
from schema.errors import LimitReached
from schema.model_call_query import CallFilter, StatQuery
from schema.money import amount_e10
from schema.times import HOUR_US, parse_time

CALLS_MAX = 20_000
STEP_CALLS = 1_000


class Opening(Struct):
    """From when on a budget counts, and what was spent by the start of the day, month or hour."""

    counts_from_us: int
    spent_e10: dict[int, int]


def read(db: apsw.Connection, content: Budget, now_us: int) -> Opening:
    """The opening of a budget created now; raises InvalidInput for a zone, Rebuilding, LimitReached."""
    require(db, journal.head_position(db), "model_calls", "model_call_stats", NAMES.name)
    state = _empty(content)
    since_us = state.window(now_us)[0]
    if content.scope.kind in {"account", "tag"}:
        for from_us in (since_us, now_us):
            positions = _positions(db, from_us)
            if len(positions) <= CALLS_MAX:
                return Opening(from_us, _walked(db, content, state, positions))
        raise LimitReached(f"over {CALLS_MAX:,} calls start in the future, and a budget has to look at each")
    return Opening(since_us, _added_up(db, content, (since_us, state.window(now_us + AHEAD_MAX_US)[1])))


def _empty(content: Budget) -> BudgetState:
    window_us = (content.window_hours or 0) * HOUR_US
    return BudgetState("", "", None, content.period, content.timezone, window_us, 0, False, (), 0)


def _added_up(db: apsw.Connection, content: Budget, span: tuple[int, int]) -> dict[int, int]:
    scope = content.scope
    wanted = CallFilter(
        from_us=span[0], to_us=span[1], app=scope.id if scope.kind == "app" else scope.app,
        user_id=scope.id if scope.kind == "user" else None, model=scope.id if scope.kind == "model" else None,
    )  # fmt: skip
    granularity = "hour" if content.period == "rolling" else content.period
    found = read_stats(db, StatQuery(filter=wanted, granularity=granularity, timezone=content.timezone))
    spent = ((parse_time(bucket.start), amount_e10(bucket.cost)) for bucket in found.buckets)
    return {start_us: amount for start_us, amount in spent if amount}


def _positions(db: apsw.Connection, from_us: int) -> list[int]:
    query = (
        "SELECT position FROM model_calls WHERE started_at_us >= ? AND voided = 0 AND cost_e10 > 0 "
        "ORDER BY started_at_us LIMIT ?"
    )
    rows = cast("list[tuple[int]]", db.execute(query, (from_us, CALLS_MAX + 1)).fetchall())
    return [position for (position,) in rows]


def _walked(db: apsw.Connection, content: Budget, state: BudgetState, positions: list[int]) -> dict[int, int]:
    scope, spent = content.scope, dict[int, int]()
    for first in range(0, len(positions), STEP_CALLS):
        calls = known_calls(db, positions[first : first + STEP_CALLS])
        priced = journal.at(db, [known.row.rated for known in calls])
        for known, event in zip(calls, priced, strict=True):
            call = known.call
            if call is None:
                continue
            if scope.kind == "account":
                charge = standing(event)
                covered = charge is not None and charge.account == scope.id
            else:
                covered = scope.app in {None, call.app} and (call.metadata or {}).get(scope.key or "") == scope.id
            if covered:
                bucket = state.bucket(known.started_at_us)
                spent[bucket] = spent.get(bucket, 0) + (known.row.cost_e10 or 0)
    return spent
