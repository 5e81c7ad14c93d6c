"""API keys: made once, revoked once."""

from collections.abc import Sequence

import apsw
from msgspec import Struct

from ledger.decision import Decision, WorkingSet, handles
from schema.acceptance import differing_fields
from schema.entry import NewEvent
from schema.errors import FieldError, IdConflict, NotFound
from schema.ids import ledger_source
from schema.key import NOUN, CreateKey, KeyRevoked, RevokeKey
from schema.times import format_time

SOURCE = ledger_source(NOUN)


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateKey]) -> None:
    ws.load(db, [(SOURCE, command.key.id) for command in commands])


@handles(CreateKey, _load_created)
def create(ws: WorkingSet, command: CreateKey) -> Decision:
    """A key comes into being."""
    first = ws.find(SOURCE, command.key.id)
    if first is not None and (different := differing_fields(first.data, command.key)):
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(f"this id was used before with other {', '.join(different)}", errors=errors)
    if first is not None:
        return Decision([], first)
    return Decision([_event(command.key.id, command.key.id, command, command.key)])


def _load_revoked(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RevokeKey]) -> None:
    ws.load(db, [(SOURCE, id_) for command in commands for id_ in (command.id, f"{command.id}/revoke")])


@handles(RevokeKey, _load_revoked)
def revoke(ws: WorkingSet, command: RevokeKey) -> Decision:
    """A key ends; revoking it again changes nothing."""
    if ws.find(SOURCE, command.id) is None:
        raise NotFound(f"there is no key {command.id}")
    first = ws.find(SOURCE, f"{command.id}/revoke")
    if first is not None:
        return Decision([], first)
    revoked = KeyRevoked(id=command.id, reason=command.reason)
    return Decision([_event(f"{command.id}/revoke", command.id, command, revoked)])


def _event(id_: str, key_id: str, command: CreateKey | RevokeKey, data: Struct) -> NewEvent:
    time_us = command.received_at_us
    return NewEvent(SOURCE, id_, f"{NOUN}/{key_id}", format_time(time_us), time_us, command.actor, data)
