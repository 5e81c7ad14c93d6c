"""Providers: created, changed, deleted unless a model or a credential refers to one."""

from collections.abc import Sequence
from typing import Any

import apsw

from ledger import catalogue
from ledger.decision import Decision, WorkingSet, handles
from ledger.lease_state import PROVIDER_ROTATIONS, ProviderRotationRow
from schema.credential import CREDENTIAL
from schema.errors import FieldError, InUse, NameTaken
from schema.model import MODEL
from schema.provider import PROVIDER, ChangeProvider, CreateProvider, DeleteProvider, Provider, check_region

REFERRING = (MODEL, CREDENTIAL)


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateProvider]) -> None:
    for command in commands:
        catalogue.load(db, ws, PROVIDER, command.content.id)
        catalogue.load_holder(db, ws, PROVIDER, name=command.content.name)


@handles(CreateProvider, _load_created, alone=True)
def create(ws: WorkingSet, command: CreateProvider) -> Decision:
    """A provider comes into being."""
    first = catalogue.repeated(ws, PROVIDER, command)
    if first is not None:
        return first
    _require_free_name(ws, command.content)
    return catalogue.created(PROVIDER, command)


def _load_changed(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangeProvider]) -> None:
    for command in commands:
        catalogue.load(db, ws, PROVIDER, command.id)
        ws.state.load(db, PROVIDER_ROTATIONS, [(command.id,)])
        if isinstance(command.change.name, str):
            catalogue.load_holder(db, ws, PROVIDER, command.id, name=command.change.name)


@handles(ChangeProvider, _load_changed, alone=True)
def change(ws: WorkingSet, command: ChangeProvider) -> Decision:
    """A provider is changed, if anything differs. Enabling it forgets what it failed by."""
    before: Any = ws.latest.get((PROVIDER.source, command.id))
    provider = catalogue.changed(ws, PROVIDER, command)
    check_region(provider)
    _require_free_name(ws, provider)
    decision = catalogue.replaced(ws, PROVIDER, command, provider)
    if provider.enabled and not before.data.enabled and ws.state.get(ProviderRotationRow, command.id) is not None:
        decision.state = [ProviderRotationRow(command.id)]
    return decision


def _load_deleted(db: apsw.Connection, ws: WorkingSet, commands: Sequence[DeleteProvider]) -> None:
    for command in commands:
        catalogue.load(db, ws, PROVIDER, command.id)
        for kind in REFERRING:
            catalogue.load_holder(db, ws, kind, provider=command.id)


@handles(DeleteProvider, _load_deleted, alone=True)
def delete(ws: WorkingSet, command: DeleteProvider) -> Decision:
    """A provider is no longer offered."""
    decision = catalogue.deleted(ws, PROVIDER, command)
    for kind in REFERRING if decision.events else ():
        holder = ws.holders.get((kind.noun, command.id))
        if holder is not None:
            raise InUse(f"{kind.noun} {holder} refers to provider {command.id}")
    return decision


def _require_free_name(ws: WorkingSet, provider: Provider) -> None:
    holder = ws.holders.get((PROVIDER.noun, provider.name))
    if holder is not None:
        error = FieldError("$.name", f"Expected a name that no other has; it is provider {holder}'s")
        raise NameTaken(errors=(error,))
