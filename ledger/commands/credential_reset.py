"""Setting a credential's counters back by hand, and bringing it back into use."""

from collections.abc import Sequence

import apsw
from msgspec import Struct
from msgspec.structs import replace

from ledger.credential_cure import restore
from ledger.credential_event import Told
from ledger.decision import Decision, WorkingSet, handles
from ledger.lease_choice import head_of, now_of, period_of, rotation_of, usage_of
from ledger.lease_load import load_base, load_standings
from projections.quota_period import PeriodKind
from schema.credential import Counters, CredentialReset
from schema.errors import NotFound
from schema.lease import ResetCredential

PERIODS: dict[Counters, tuple[PeriodKind, ...]] = {
    "all": ("day", "month"), "daily": ("day",), "monthly": ("month",), "error": (),
}  # fmt: skip


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ResetCredential]) -> None:
    (command,) = commands
    load_base(db, ws)
    load_standings(db, ws, [command.id], [command.received_at_us])


@handles(ResetCredential, _load, alone=True)
def reset(ws: WorkingSet, command: ResetCredential) -> Decision:
    """Leases made until now count no more in the periods set back, and are not given back to them either."""
    line = ws.credentials.find(command.id)
    if line is None:
        raise NotFound(f"there is no credential {command.id}")
    head, now_us, counters = head_of(ws), now_of(ws, command.received_at_us), command.reset.counters
    told = Told(rotation_of(ws, line), command.actor, command.received_at_us)
    told.tell("reset", CredentialReset(id=command.id, counters=counters))
    if counters in {"all", "error"}:
        told.set(errors=0, penalised_until_us=0, cleared=head.sequence)
    if command.reset.reactivate and not line.content.enabled:
        restore(told, line, head, probed=False)
    state: list[Struct] = [told.rotation]
    for kind in PERIODS[counters]:
        usage = usage_of(ws, command.id, period_of(line, kind, now_us))
        state.append(replace(usage, used=0, reset=head.sequence, near=False, exhausted=False))
    return Decision(told.events, state=state)
