"""Looking again at credentials that errors disabled: claimed by one process, which says what it found."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ledger.credential_book import Line
from ledger.credential_cure import restore
from ledger.credential_event import Told
from ledger.credential_health import recheck_delay_us
from ledger.decision import Decision, WorkingSet, handles
from ledger.lease_choice import head_of
from ledger.lease_load import DUE, due, load_base
from ledger.lease_state import ROTATIONS, RotationRow
from schema.lease import ClaimRechecks, RecheckCredential, can_be_probed
from schema.times import SECOND_US

CLAIM_US = 60 * SECOND_US  # after which a look that nobody finished is somebody else's

_CLAIMED = f"""SELECT r.* FROM credential_rotation r JOIN (
    SELECT credential, row_number() OVER (PARTITION BY provider ORDER BY recheck_at_us, credential) AS nth
    FROM credential_rotation WHERE {DUE} AND provider NOT IN (SELECT value FROM json_each(?))
) due ON due.credential = r.credential WHERE due.nth <= ? ORDER BY r.recheck_at_us, r.credential LIMIT ?"""


class Claim(Struct, frozen=True):
    """A credential to be looked at, and where; what was found is told with `until_us`, by which the claim is known."""

    line: Line
    provider_type: str
    base_url: str | None
    until_us: int


class Claimed(Struct, frozen=True):
    """What this process is to look at."""

    claims: list[Claim]


def _load_due(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ClaimRechecks]) -> None:
    (command,) = commands
    load_base(db, ws)
    now_us = command.received_at_us
    busy = msgspec.json.encode(command.busy).decode()
    found: list[Any] = db.execute(_CLAIMED, (*due(now_us), busy, command.per_provider, command.limit)).fetchall()
    ws.known = [RotationRow(*row) for row in found]
    ws.state.take(ROTATIONS, ws.known)


@handles(ClaimRechecks, _load_due, alone=True)
def claim(ws: WorkingSet, command: ClaimRechecks) -> Decision:
    """Each that is due is taken on for a while; what needs no look any more is let go."""
    now_us = command.received_at_us
    state: list[Struct] = []
    claims: list[Claim] = []
    for row in ws.known:
        line, provider = _failed(ws, row.credential), ws.credentials.provider(row.provider)
        if line is None or provider is None or not can_be_probed(line.content.type, provider.base_url):
            state.append(replace(row, recheck_at_us=None, recheck_failures=0))
        else:
            state.append(replace(row, recheck_at_us=now_us + CLAIM_US))
            claims.append(Claim(line, provider.type, provider.base_url, now_us + CLAIM_US))
    return Decision([], report=Claimed(claims), state=state)


def _failed(ws: WorkingSet, credential: str) -> Line | None:
    """A credential that is out of use because calls with it failed, and for no other reason."""
    line = ws.credentials.find(credential)
    if line is None or line.content.enabled or line.content.disabled_reason in {None, "manual"}:
        return None
    return line


def _load_looked(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RecheckCredential]) -> None:
    load_base(db, ws)
    ws.state.load(db, ROTATIONS, [(command.id,) for command in commands])


@handles(RecheckCredential, _load_looked, alone=True)
def looked(ws: WorkingSet, command: RecheckCredential) -> Decision:
    """Back into use if it works; else the next look, later. What a claim that is no longer held found is not heard."""
    row, line = ws.state.get(RotationRow, command.id), _failed(ws, command.id)
    if row is None or line is None or row.recheck_at_us != command.claim:
        return Decision([])
    now_us = command.received_at_us
    told = Told(row, command.actor, now_us)
    if command.works:
        restore(told, line, head_of(ws), probed=True)
    else:
        failures = row.recheck_failures + 1
        told.set(recheck_failures=failures, recheck_at_us=now_us + recheck_delay_us(failures))
    return Decision(told.events, state=[told.rotation])
