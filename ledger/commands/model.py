"""Models: created under a provider that there is, changed, deleted."""

from collections.abc import Sequence

import apsw

from ledger import catalogue
from ledger.decision import Decision, WorkingSet, handles
from schema.errors import FieldError, InvalidInput, NameTaken
from schema.model import MODEL, ChangeModel, CreateModel, DeleteModel
from schema.provider import PROVIDER, ProviderDeleted


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateModel]) -> None:
    for command in commands:
        content = command.content
        catalogue.load(db, ws, MODEL, content.id)
        catalogue.load(db, ws, PROVIDER, content.provider)
        catalogue.load_holder(db, ws, MODEL, provider=content.provider, model=content.model)


@handles(CreateModel, _load_created, alone=True)
def create(ws: WorkingSet, command: CreateModel) -> Decision:
    """A model comes into being; its provider and name are settled with it."""
    first = catalogue.repeated(ws, MODEL, command)
    if first is not None:
        return first
    content = command.content
    provider = ws.latest.get((PROVIDER.source, content.provider))
    if provider is None or isinstance(provider.data, ProviderDeleted):
        raise InvalidInput(errors=(FieldError("$.provider", "Expected the id of a provider that is not deleted"),))
    holder = ws.holders.get((MODEL.noun, content.provider, content.model))
    if holder is not None:
        error = FieldError("$.model", f"Expected a name that no other model of the provider has; it is {holder}'s")
        raise NameTaken(errors=(error,))
    return catalogue.created(MODEL, command)


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangeModel | DeleteModel]) -> None:
    for command in commands:
        catalogue.load(db, ws, MODEL, command.id)


@handles(ChangeModel, _load, alone=True)
def change(ws: WorkingSet, command: ChangeModel) -> Decision:
    """A model is changed, if anything differs."""
    return catalogue.replaced(ws, MODEL, command, catalogue.changed(ws, MODEL, command))


@handles(DeleteModel, _load, alone=True)
def delete(ws: WorkingSet, command: DeleteModel) -> Decision:
    """A model is no longer offered."""
    return catalogue.deleted(ws, MODEL, command)
