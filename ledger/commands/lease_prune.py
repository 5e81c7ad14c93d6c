"""Forgetting leases that are older than they are kept, and what was used in periods long past."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import Struct
from msgspec.structs import replace

from ledger.decision import Decision, WorkingSet, handles
from ledger.lease_choice import head_of, now_of
from ledger.lease_load import load_base
from ledger.lease_state import LEASES, USAGES
from ledger.state import Removed
from schema.lease import LEASES_KEPT_US, PruneLeases
from schema.times import DAY_US

USAGE_KEPT_US = 400 * DAY_US  # longer than leases: a year can be looked back on


class Pruned(Struct, frozen=True):
    """How many rows went."""

    leases: int
    periods: int


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[PruneLeases]) -> None:
    (command,) = commands
    load_base(db, ws)
    now_us = now_of(ws, command.received_at_us)
    # Leases are numbered in the order of time, so the oldest are at one end.
    oldest = f"SELECT * FROM {LEASES.name} ORDER BY sequence LIMIT ?"
    expired = f"SELECT id, sequence, leased_at_us FROM ({oldest}) WHERE leased_at_us < ?"
    leases: list[Any] = db.execute(expired, (command.limit, now_us - LEASES_KEPT_US)).fetchall()
    past = f"SELECT credential, kind, period FROM {USAGES.name} WHERE ends_at_us < ? LIMIT ?"
    periods: list[Any] = db.execute(past, (now_us - USAGE_KEPT_US, command.limit)).fetchall()
    ws.known = [leases, periods]


@handles(PruneLeases, _load, alone=True)
def prune(ws: WorkingSet, _: PruneLeases) -> Decision:
    """The oldest go, a bounded number at a time."""
    leases, periods = ws.known
    if not leases and not periods:
        return Decision([], report=Pruned(0, 0))
    state: list[Struct] = [Removed(LEASES, (id_,)) for id_, _, _ in leases]
    state += [Removed(USAGES, key) for key in periods]
    if leases:
        _, pruned, pruned_us = leases[-1]
        state.append(replace(head_of(ws), pruned=pruned, pruned_us=pruned_us))
    return Decision([], report=Pruned(len(leases), len(periods)), state=state)
