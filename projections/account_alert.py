"""Accounts with a threshold: whether it was told that their balance is at or below it, and how often."""

from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from projections.bulk import insert
from projections.projection import Projection, Table, Target
from schema.account import AccountChanged, AccountCreated
from schema.account_alert import AccountBalanceLow, AccountBalanceRecovered
from schema.entry import Recorded
from schema.money import amount_e10

TABLE = "account_alerts"
_COLUMNS = """
    account        TEXT PRIMARY KEY,
    threshold_e10  INTEGER,            -- null: none any more
    low            INTEGER NOT NULL,
    told           INTEGER NOT NULL    -- how often
"""
_OF = (AccountCreated, AccountChanged, AccountBalanceLow, AccountBalanceRecovered)


class AlertState(Struct, gc=False):
    """An account's threshold, whether its balance was last told to be at or below it, and how often that was."""

    account: str
    threshold_e10: int | None
    low: bool
    told: int = 0


Alerts = dict[str, AlertState]


def evolve(alerts: Alerts, data: Any) -> str | None:  # noqa: ANN401 - an event's data
    """Take in an event; the account whose row it changed, if one.

    A new account is empty, which is nothing to tell, so it is not low: else its first credit would be a recovery.
    """
    if isinstance(data, AccountCreated | AccountChanged):
        return _ruled(alerts, data)
    if isinstance(data, AccountBalanceLow):
        state = alerts[data.account]
        state.low, state.told = True, state.told + 1
    elif isinstance(data, AccountBalanceRecovered):
        alerts[data.account].low = False
    else:
        return None
    return data.account


def _ruled(alerts: Alerts, data: AccountCreated | AccountChanged) -> str | None:
    threshold = None if data.low_balance is None else amount_e10(data.low_balance)
    state = alerts.get(data.id)
    if state is None:
        if threshold is None:
            return None
        alerts[data.id] = AlertState(data.id, threshold, low=False)
    else:
        state.threshold_e10, state.low = threshold, state.low and threshold is not None
    return data.id


def exist(db: apsw.Connection) -> bool:
    """Whether any account ever had a threshold: without one, nothing is looked up."""
    return bool(db.execute(f"SELECT 1 FROM {TABLE} LIMIT 1").get)


def load(db: apsw.Connection, ids: Iterable[str], suffix: str = "") -> Alerts:
    """The rows of those accounts that have one."""
    query = f"SELECT a.* FROM json_each(?) k CROSS JOIN {TABLE}{suffix} a ON a.account = k.value"
    rows = db.execute(query, (msgspec.json.encode(list(ids)).decode(),))
    return {account: AlertState(account, threshold, bool(low), told) for account, threshold, low, told in rows}


def count_low(db: apsw.Connection) -> int:
    """How many accounts were told to be at or below their threshold and have not recovered."""
    found: int = db.execute(f"SELECT count(*) FROM {TABLE} WHERE low = 1").get
    return found


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    own = [event.data for event in events if isinstance(event.data, _OF)]
    ids = [data.id if isinstance(data, AccountCreated | AccountChanged) else data.account for data in own]
    alerts = load(target.db, dict.fromkeys(ids), target.suffix)
    touched = dict.fromkeys(account for data in own if (account := evolve(alerts, data)) is not None)
    rows = [
        (state.account, state.threshold_e10, int(state.low), state.told) for state in map(alerts.get, touched) if state
    ]
    insert(target.db, f"REPLACE INTO {target.table(TABLE)}", rows)


PROJECTION = Projection(
    name=TABLE,
    version=2,
    tables=(Table(TABLE, _COLUMNS, key="account", indexes=((f"{TABLE}_low", "(low) WHERE low = 1"),)),),
    apply=_apply,
    blocking=True,
    of=_OF,
)
