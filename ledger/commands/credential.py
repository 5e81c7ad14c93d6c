"""Credentials: created under a provider that there is, changed, deleted, erased; secrets are sealed on the way in."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import UNSET

from ledger import catalogue, credential_cure, data_keys, lease_choice, lease_load, sealing
from ledger.decision import Decision, WorkingSet, handles
from ledger.lease_state import ROTATIONS, RotationRow
from ledger.sealing import Kept, Sealing
from ledger.state import Write
from projections import credential as rows
from schema.acceptance import differing_fields
from schema.credential import (
    CREDENTIAL,
    CREDENTIALS_PER_PROVIDER_MAX,
    ChangeCredential,
    CreateCredential,
    Credential,
    CredentialChanged,
    CredentialCreated,
    CredentialErased,
    CredentialRestored,
    DeleteCredential,
    EraseCredential,
    check_fields,
    subject_of,
)
from schema.entry import Recorded
from schema.errors import FieldError, IdConflict, LastActiveCredential, LimitReached, NotFound
from schema.provider import PROVIDER, ProviderDeleted

_TABLE = CREDENTIAL.table
_OTHER_ACTIVE = "other active"
_LIVE = "live"


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateCredential]) -> None:
    for command in commands:
        catalogue.load(db, ws, CREDENTIAL, command.content.id)
        catalogue.load(db, ws, PROVIDER, command.provider)
        sealing.load(db, ws, [subject_of(command.content.id)])
        ws.read[_LIVE, command.provider] = rows.count_live(db, command.provider)


@handles(CreateCredential, _load_created, alone=True)
def create(ws: WorkingSet, command: CreateCredential) -> Decision:
    """A credential comes into being; its id, provider and type are settled with it."""
    first = _repeated(ws, command)
    if first is not None:
        return Decision([], first)
    provider = ws.latest.get((PROVIDER.source, command.provider))
    if provider is None or isinstance(provider.data, ProviderDeleted):
        raise NotFound(f"there is no provider {command.provider}")
    if ws.read[_LIVE, command.provider] >= CREDENTIALS_PER_PROVIDER_MAX:
        raise LimitReached(f"provider {command.provider} has {CREDENTIALS_PER_PROVIDER_MAX} credentials")
    posted = command.content
    kept = sealing.sealed(ws, Sealing(subject_of(posted.id), posted.secret, command.drawn, command.received_at_us))
    data = CredentialCreated(**_posted(command), secret=kept.sealed)
    return Decision([catalogue.event_of(CREDENTIAL, command, posted.id, posted.id, data)], writes=kept.writes)


def _posted(command: CreateCredential) -> dict[str, Any]:
    """All of a posted credential but its secret, defaults applied."""
    posted = command.content
    values = {name: getattr(posted, name) for name in posted.__struct_fields__ if name != "secret"}
    reason = None if posted.enabled else "manual"
    zone = posted.timezone or command.timezone
    return {**values, "provider": command.provider, "timezone": zone, "disabled_reason": reason}


def _repeated(ws: WorkingSet, command: CreateCredential) -> Recorded | None:
    """The first event of an id that was used before with the same content; raises IdConflict with any other."""
    id_ = command.content.id
    first = ws.find(CREDENTIAL.source, id_)
    if first is None:
        return None
    latest = ws.latest[CREDENTIAL.source, id_]
    if isinstance(latest.data, CREDENTIAL.deleted):
        raise IdConflict(f"the credential with this id was deleted, at position {latest.position}")
    different = _different(ws, command, first.data)
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        names = ", ".join(different)
        raise IdConflict(f"this id was used before, at position {first.position}, with other {names}", errors=errors)
    return first


def _different(ws: WorkingSet, command: CreateCredential, first: Any) -> list[str]:  # noqa: ANN401 - a Credential
    posted = _posted(command)
    if command.content.timezone is None:
        posted["timezone"] = first.timezone  # the default of then
    different = list(differing_fields(Credential(**posted, secret=first.secret), rows.content_of(first)))
    if not sealing.is_same(ws, subject_of(first.id), command.content.secret, first.secret):
        different.append("secret")
    return different


def _load(
    db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangeCredential | DeleteCredential | EraseCredential]
) -> None:
    lease_load.load_base(db, ws)
    for command in commands:
        content: Credential | None = catalogue.load(db, ws, CREDENTIAL, command.id)
        ws.state.load(db, ROTATIONS, [(command.id,)])
        sealing.load(db, ws, [subject_of(command.id)])
        if content is not None:
            ws.read[_TABLE, command.id] = content
            ws.read[_OTHER_ACTIVE, content.provider] = rows.has_other_active(db, content.provider, command.id)


@handles(ChangeCredential, _load, alone=True)
def change(ws: WorkingSet, command: ChangeCredential) -> Decision:
    """A credential is changed, if anything differs."""
    latest = catalogue.live(ws, CREDENTIAL, command.id)
    catalogue.require_position(latest, command.position)
    before: Credential = ws.read[_TABLE, command.id]
    kept = _secret(ws, command, before)
    fields: dict[str, Any] = {**catalogue.fields(CREDENTIAL, before), **_given(command), "secret": kept.sealed}
    after = Credential(**fields)
    if not differing_fields(before, after):
        return Decision([], latest)
    if not after.active:
        _spare_the_last(ws, before, force=command.force)
    restored = after.enabled and before.disabled_reason not in {None, "manual"}
    verb = "restore" if restored else "change"
    data = (
        CredentialRestored(**fields, replaces=latest.position, by="hand")
        if restored
        else CredentialChanged(**fields, replaces=latest.position)
    )
    event = catalogue.event_of(CREDENTIAL, command, f"{command.id}/{verb}/{latest.position}", command.id, data)
    return Decision([event], writes=kept.writes, state=_mended(ws, before, after))


def _mended(ws: WorkingSet, before: Credential, after: Credential) -> list[RotationRow]:
    """Enabled by hand, or with another secret, it has not failed yet; out of use by hand, it is not looked at again."""
    row = ws.state.get(RotationRow, before.id)
    is_resealed = after.secret != before.secret
    is_switched = (after.enabled, after.disabled_reason) != (before.enabled, before.disabled_reason)
    if row is None or not (is_switched or is_resealed):
        return []
    head = lease_choice.head_of(ws)
    if is_resealed:
        row = credential_cure.resealed(row, head)
    by_error = after.disabled_reason not in {None, "manual"}
    return [credential_cure.forgiven(row, head) if by_error else credential_cure.cured(row, head)]


def _given(command: ChangeCredential) -> dict[str, Any]:
    given = catalogue.given(command.change)
    given.pop("secret", None)
    if "enabled" in given:
        given["disabled_reason"] = None if given["enabled"] else "manual"
    return given


def _secret(ws: WorkingSet, command: ChangeCredential, before: Credential) -> Kept:
    secret = command.change.secret
    assert before.secret is not None  # only erasing takes it away, and that deletes
    if secret is UNSET:
        return Kept(before.secret, [])
    check_fields(before.type, secret)
    wanted = Sealing(subject_of(command.id), secret, command.drawn, command.received_at_us)
    return sealing.resealed(ws, wanted, before.secret)


def _spare_the_last(ws: WorkingSet, before: Credential, *, force: bool) -> None:
    """A provider's last credential that takes traffic does not go out of use by mistake."""
    if before.active and not force and not ws.read[_OTHER_ACTIVE, before.provider]:
        raise LastActiveCredential(f"{before.id} is the last credential of provider {before.provider} that is in use")


@handles(DeleteCredential, _load, alone=True)
def delete(ws: WorkingSet, command: DeleteCredential) -> Decision:
    """A credential is no longer used; its secret stays, sealed, until it is erased."""
    decision = catalogue.deleted(ws, CREDENTIAL, command)
    if decision.events:
        _spare_the_last(ws, ws.read[_TABLE, command.id], force=command.force)
    return decision


@handles(EraseCredential, _load, alone=True)
def erase(ws: WorkingSet, command: EraseCredential) -> Decision:
    """Its data key is destroyed, once; what still lives of it is deleted."""
    latest = ws.latest.get((CREDENTIAL.source, command.id))
    if latest is None:
        raise NotFound(f"there is no credential {command.id}")
    if isinstance(latest.data, CredentialErased):
        return catalogue.deleted(ws, CREDENTIAL, command)
    catalogue.require_position(latest, command.position)
    before: Credential = ws.read[_TABLE, command.id]
    if not isinstance(latest.data, CREDENTIAL.deleted):
        _spare_the_last(ws, before, force=command.force)
    wrapped = ws.data_keys.get(subject_of(command.id))
    writes: list[Write] = [] if wrapped is None else [data_keys.erase(wrapped)]
    assert before.secret is not None  # only erasing takes it away
    data = CredentialErased(id=command.id, replaces=latest.position, reason=command.reason, key=before.secret.key)
    event = catalogue.event_of(CREDENTIAL, command, f"{command.id}/erase", command.id, data)
    return Decision([event], writes=writes)
