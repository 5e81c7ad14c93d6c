"""Leases whose secret could not be opened: taken back as not sent, their credential passed over for a while."""

from collections.abc import Sequence

import apsw
from msgspec import Struct
from msgspec.structs import replace

from ledger.commands.lease_report import counted
from ledger.credential_health import UNREADABLE_US
from ledger.decision import Decision, WorkingSet, handles
from ledger.lease_load import load_base, load_ended
from ledger.lease_state import LEASES, LeaseRow, RotationRow
from ledger.state import Removed
from schema.lease import TakeBackLease


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[TakeBackLease]) -> None:
    load_base(db, ws)
    load_ended(db, ws, [command.id for command in commands])


@handles(TakeBackLease, _load, alone=True)
def take_back(ws: WorkingSet, command: TakeBackLease) -> Decision:
    """The lease stays on record under its spare id, so that its own can be lent again."""
    lease = ws.state.get(LeaseRow, command.id)
    if lease is None or lease.outcome is not None or lease.credential != command.credential:
        return Decision([])
    now_us = command.received_at_us
    row = ws.state.get(RotationRow, lease.credential) or RotationRow(lease.credential, lease.provider)
    ended = replace(lease, id=command.spare, outcome="not_sent", reported_at_us=now_us)
    state: list[Struct] = [
        Removed(LEASES, (lease.id,)), ended, replace(row, unreadable_until_us=now_us + UNREADABLE_US),
        *counted(ws, lease, "not_sent"),
    ]  # fmt: skip
    return Decision([], state=state)
