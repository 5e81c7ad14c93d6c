"""Reports on leases: what an outcome does to the credential's health, its provider and its quotas."""

from collections.abc import Sequence

import apsw
from msgspec import Struct
from msgspec.structs import replace

from ledger.credential_book import Line
from ledger.credential_event import Told
from ledger.credential_health import EFFECTS, ERRORS_MAX, Effect, cool_down_us, first_look, penalty_us, recheck_delay_us
from ledger.decision import Decision, WorkingSet, handles
from ledger.lease_choice import is_cooling, is_penalised
from ledger.lease_load import load_base, load_ended
from ledger.lease_state import LeaseRow, ProviderRotationRow, RotationRow, UsageRow
from schema.credential import Credential, CredentialDisabled, CredentialPenalised, DisabledReason
from schema.errors import AlreadyReported, NotFound
from schema.lease import Outcome, ReportLease, can_be_probed
from schema.times import format_time

REASONS: dict[Outcome, DisabledReason] = {
    "auth": "auth", "payment": "payment", "server": "server", "timeout": "timeout",
}  # fmt: skip


class Reported(Struct, frozen=True):
    """A lease as its report left it."""

    lease: LeaseRow


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ReportLease]) -> None:
    load_base(db, ws)
    load_ended(db, ws, [command.id for command in commands])


@handles(ReportLease, _load)
def report(ws: WorkingSet, command: ReportLease) -> Decision:
    """A lease ends. The same report again changes nothing; another is refused."""
    lease, said = ws.state.get(LeaseRow, command.id), command.report
    if lease is None or command.app not in {None, lease.app}:
        raise NotFound(f"there is no lease {command.id}")
    if lease.outcome is not None:
        if (lease.outcome, lease.retry_after_s) != (said.outcome, said.retry_after_s):
            raise AlreadyReported(f"the lease was reported as {lease.outcome}")
        return Decision([], report=Reported(lease), repeated=True)
    now_us, effect = command.received_at_us, EFFECTS[said.outcome]
    ended = replace(lease, outcome=said.outcome, retry_after_s=said.retry_after_s, reported_at_us=now_us)
    told = _judged(ws, ended, effect, command.actor, now_us)
    state: list[Struct] = [ended, told.rotation, *counted(ws, lease, said.outcome)]
    if effect.cools or effect.clears:
        state.append(_cooled(ws, lease.provider, effect, now_us))
    return Decision(told.events, report=Reported(ended), state=state)


def _judged(ws: WorkingSet, lease: LeaseRow, effect: Effect, actor: str, now_us: int) -> Told:
    """What the outcome says about the credential; nothing, where that has since been mended or taken out of use."""
    row = ws.state.get(RotationRow, lease.credential) or RotationRow(lease.credential, lease.provider)
    told, line = Told(row, actor, now_us), ws.credentials.find(lease.credential)
    if line is None or lease.sequence <= row.cleared:
        return told
    if effect.penalises:
        _penalise(told, lease.retry_after_s)
    if not line.content.enabled or row.failed:
        return told
    if effect.clears:
        told.set(errors=0, recheck_failures=0)
    if effect.counts or effect.disables:
        told.set(errors=row.errors + 1)
    if effect.disables or (effect.counts and told.rotation.errors >= ERRORS_MAX):
        assert lease.outcome is not None
        provider = ws.credentials.provider(lease.provider)
        is_probed = provider is not None and can_be_probed(line.content.type, provider.base_url)
        _disable(told, line, lease.outcome, is_probed=is_probed)
    return told


def _penalise(told: Told, retry_after_s: int | None) -> None:
    """Less traffic for a while; the journal hears of its beginning."""
    until_us, before_us = told.now_us + penalty_us(retry_after_s), told.rotation.penalised_until_us
    if until_us == told.now_us:
        return
    was_penalised = is_penalised(told.rotation, told.now_us)
    told.set(penalised_until_us=max(until_us, before_us) if was_penalised else until_us)
    if not was_penalised:
        data = CredentialPenalised(
            id=told.rotation.credential, until=format_time(until_us), retry_after_s=retry_after_s
        )
        told.tell("penalise", data)


def _disable(told: Told, line: Line, outcome: Outcome, *, is_probed: bool) -> None:
    """Out of use until it is looked at again and works, or someone enables it."""
    fields = {name: getattr(line.content, name) for name in Credential.__struct_fields__}
    fields |= {"enabled": False, "disabled_reason": REASONS[outcome]}
    data = CredentialDisabled(**fields, replaces=line.position, errors=told.rotation.errors)
    told.tell("disable", data, line.position)
    told.set(failed=True)
    if is_probed:
        looks = first_look(outcome, told.rotation.recheck_failures)
        told.set(recheck_at_us=told.now_us + recheck_delay_us(looks), recheck_failures=looks)


def counted(ws: WorkingSet, lease: LeaseRow, outcome: Outcome) -> list[UsageRow]:
    """The outcome in the periods that the lease took from; what was never sent is given back to them."""
    found: list[UsageRow] = []
    for kind, text in (("day", lease.day), ("month", lease.month)):
        usage = ws.state.get(UsageRow, lease.credential, kind, text)
        assert usage is not None  # kept for longer than leases are
        returned = 1 if EFFECTS[outcome].returns and lease.sequence > usage.reset else 0
        count: int = getattr(usage, outcome)
        found.append(replace(usage, used=usage.used - returned, **{outcome: count + 1}))
    return found


def _cooled(ws: WorkingSet, provider: str, effect: Effect, now_us: int) -> ProviderRotationRow:
    if effect.clears:
        return ProviderRotationRow(provider)
    row = ws.state.get(ProviderRotationRow, provider) or ProviderRotationRow(provider)
    failures = row.failures + 1
    until_us = now_us + cool_down_us(failures)
    until_us = max(row.cool_until_us, until_us) if is_cooling(row, now_us) else until_us
    return ProviderRotationRow(provider, failures, until_us)
