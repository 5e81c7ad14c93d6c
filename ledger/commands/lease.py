"""Leases: a credential lent for a call. The journal hears of it only where a quota comes near its end."""

from collections.abc import Sequence

import apsw
from msgspec import Struct
from msgspec.structs import replace

from ledger.credential_book import Line
from ledger.credential_event import Told
from ledger.decision import Decision, WorkingSet, handles
from ledger.lease_choice import Choice, Moment, head_of, moment_of, of_model, of_one_provider, rotation_of
from ledger.lease_load import load_base, load_choice
from ledger.lease_state import LEASES, ROTATIONS, LeaseHead, LeaseRow, RotationRow, UsageRow
from projections.budget_book import scope_keys
from schema.budget import BudgetExceeded
from schema.credential import CredentialQuotaExhausted, CredentialQuotaNear, QuotaKind
from schema.errors import FieldError, IdConflict, LeaseEnded
from schema.lease import LeaseCredential
from schema.money import amount_text
from schema.times import SECOND_US, format_time

NEAR_PERCENT = 90
QUOTAS: dict[str, QuotaKind] = {"day": "daily", "month": "monthly"}


class Lent(Struct, frozen=True):
    """A lease and the credential that it lends, its secret sealed, with its data key as it was last seen."""

    lease: LeaseRow
    line: Line


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[LeaseCredential]) -> None:
    load_base(db, ws)
    ws.state.load(db, LEASES, [(command.id,) for command in commands])
    known = [lease for command in commands if (lease := ws.state.get(LeaseRow, command.id)) is not None]
    ws.state.load(db, ROTATIONS, [(lease.credential,) for lease in known])
    load_choice(db, ws, [command.wanted for command in commands], [command.received_at_us for command in commands])


@handles(LeaseCredential, _load)
def lease(ws: WorkingSet, command: LeaseCredential) -> Decision:
    """The credential whose turn it is; one is taken from its quotas. The same id again gets a lease that is open."""
    known = ws.state.get(LeaseRow, command.id)
    if known is not None:
        return _repeated(ws, command, known)
    _require_room(ws, command)
    at, wanted = moment_of(ws, command.received_at_us), command.wanted
    if wanted.provider is not None:
        choice = of_one_provider(ws, wanted.provider, at)
    else:
        choice = of_model(ws, wanted.model or "", at)
    return _lent(head_of(ws), command, choice, at)


def _require_room(ws: WorkingSet, command: LeaseCredential) -> None:
    """A lease comes before a call: raises BudgetExceeded where a hard budget of its app or model has nothing left."""
    if ws.watch is not None:
        _, over = ws.watch.room(
            scope_keys(command.app, None, None, command.wanted.model, {}), 1, command.received_at_us
        )
        if over is not None:
            raise BudgetExceeded.of(over[0], amount_text(over[1]))


def _repeated(ws: WorkingSet, command: LeaseCredential, known: LeaseRow) -> Decision:
    """The same lease, as long as it may still be used: a secret is not handed out again later, or by an old loan."""
    wanted = command.wanted
    if command.app != known.app:
        raise IdConflict("this id was used before for a lease")
    pairs = (
        ("model", wanted.model, known.model),
        ("provider", wanted.provider, known.provider if known.model is None else None),
        ("expires_in_s", wanted.expires_in_s, known.expires_in_s),
    )
    different = [name for name, again, first in pairs if again != first]
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(f"this id was used before for a lease with other {', '.join(different)}", errors=errors)
    return Decision([], report=Lent(known, _still_lent(ws, known, command.received_at_us)), repeated=True)


def _still_lent(ws: WorkingSet, known: LeaseRow, now_us: int) -> Line:
    """The credential of a lease that is open; raises LeaseEnded."""
    if known.outcome is not None:
        raise LeaseEnded(f"the lease was reported as {known.outcome}")
    if now_us >= known.expires_at_us:
        raise LeaseEnded(f"the lease expired at {format_time(known.expires_at_us)}")
    line, provider = ws.credentials.find(known.credential), ws.credentials.provider(known.provider)
    if line is None or provider is None:
        raise LeaseEnded(f"credential {known.credential}, which this lease lent, was deleted")
    row = rotation_of(ws, line)
    if not (line.content.enabled and provider.enabled) or row.failed:
        raise LeaseEnded(f"credential {known.credential}, which this lease lent, is disabled")
    if known.sequence <= row.resealed:
        raise LeaseEnded(f"credential {known.credential}, which this lease lent, has another secret now")
    return line


def _lent(head: LeaseHead, command: LeaseCredential, choice: Choice, at: Moment) -> Decision:
    credential, currents = choice.taken.line.content, choice.pick.currents
    told = Told(choice.taken.rotation, command.actor, at.clock_us)
    told.set(current=currents[credential.id], last_leased_us=at.clock_us)
    day = _taken(told, choice.taken.day, credential.daily_limit)
    month = _taken(told, choice.taken.month, credential.monthly_limit)
    expires_in_s = command.wanted.expires_in_s
    row = LeaseRow(
        command.id, head.sequence + 1, credential.id, credential.provider, command.wanted.model, command.app,
        command.actor, at.period_us, at.clock_us + expires_in_s * SECOND_US, day.period, month.period,
        expires_in_s=expires_in_s,
    )  # fmt: skip
    others = [_turned(each, currents) for each in choice.others]
    state: list[Struct] = [
        replace(head, sequence=row.sequence, last_us=at.period_us),
        row,
        told.rotation,
        *others,
        day,
        month,
    ]
    if choice.model is not None:
        state.append(choice.model)
    return Decision(told.events, report=Lent(row, choice.taken.line), state=state)


def _turned(row: RotationRow, currents: dict[str, int]) -> RotationRow:
    return replace(row, current=currents[row.credential])


def _taken(told: Told, usage: UsageRow, limit: int | None) -> UsageRow:
    """One more used; the journal hears once a period that it is nearly over, and once that it is."""
    usage = replace(usage, used=usage.used + 1)
    if limit is None:
        return usage
    id_, quota = told.rotation.credential, QUOTAS[usage.kind]
    if usage.used >= limit and not usage.exhausted:
        gone = CredentialQuotaExhausted(id=id_, quota=quota, period=usage.period, used=usage.used, limit=limit)
        told.tell("quota_exhausted", gone)
        return replace(usage, near=True, exhausted=True)
    if is_near(usage.used, limit) and not usage.near:
        near = CredentialQuotaNear(id=id_, quota=quota, period=usage.period, used=usage.used, limit=limit)
        told.tell("quota_near", near)
        return replace(usage, near=True)
    return usage


def is_near(used: int, limit: int) -> bool:
    """Whether at least nine tenths of a quota are used."""
    return used * 100 >= limit * NEAR_PERCENT
