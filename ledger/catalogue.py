"""Deciding on catalogue entries: what providers, models and credentials have in common.

An entry's creation has its id, the n-th change `<id>/change/<n>`, the deletion `<id>/delete`.
"""

from typing import Any

import apsw
import msgspec
from msgspec import UNSET, Struct

from ledger import journal
from ledger.decision import Decision, WorkingSet
from projections.catalogue import find, find_holder
from schema.acceptance import differing_fields
from schema.catalogue import Change, Create, Delete, Kind
from schema.entry import NewEvent, Recorded
from schema.errors import FieldError, IdConflict, NotFound, PreconditionFailed
from schema.times import format_time


def load(db: apsw.Connection, ws: WorkingSet, kind: Kind, id_: str) -> Any:  # noqa: ANN401 - the kind's content
    """Bring in an entry's creation and latest event; its latest content, None where there is no such entry."""
    ws.load(db, [(kind.source, id_)])
    stand = find(db, kind, id_)
    if stand is None:
        return None
    [ws.latest[kind.source, id_]] = journal.at(db, [stand.position])
    return stand.content


def load_holder(db: apsw.Connection, ws: WorkingSet, kind: Kind, but: str = "", **columns: str) -> None:
    """Bring in who, other than `but`, has these values."""
    holder = find_holder(db, kind, but, **columns)
    if holder is not None:
        ws.holders[kind.noun, *columns.values()] = holder


def repeated(ws: WorkingSet, kind: Kind, command: Create[Any]) -> Decision | None:
    """The decision on an id that was used before; None where it is free. Raises IdConflict."""
    content = command.content
    first = ws.find(kind.source, content.id)
    if first is None:
        return None
    latest = ws.latest[kind.source, content.id]
    if isinstance(latest.data, kind.deleted):
        raise IdConflict(f"the {kind.noun} with this id was deleted, at position {latest.position}")
    different = differing_fields(first.data, content)
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        names = ", ".join(different)
        raise IdConflict(f"this id was used before, at position {first.position}, with other {names}", errors=errors)
    return Decision([], first)


def created(kind: Kind, command: Create[Any]) -> Decision:
    """An entry comes into being."""
    content = command.content
    return Decision([event_of(kind, command, content.id, content.id, content)])


def changed(ws: WorkingSet, kind: Kind, command: Change[Any]) -> Any:  # noqa: ANN401 - the kind's changed event
    """The whole content after a change; raises NotFound, PreconditionFailed."""
    latest = live(ws, kind, command.id)
    require_position(latest, command.position)
    return kind.changed(**{**fields(kind, latest.data), **given(command.change), "replaces": latest.position})


def replaced(ws: WorkingSet, kind: Kind, command: Change[Any], content: Struct) -> Decision:
    """The change as an event; none where it changes nothing."""
    latest = ws.latest[kind.source, command.id]
    before = kind.content(**fields(kind, latest.data))
    if not differing_fields(before, kind.content(**fields(kind, content))):
        return Decision([], latest)
    _, _, count = latest.id.partition("/change/")
    id_ = f"{command.id}/change/{int(count or 0) + 1}"
    return Decision([event_of(kind, command, id_, command.id, content)])


def deleted(ws: WorkingSet, kind: Kind, command: Delete) -> Decision:
    """An entry is no longer offered; the same deletion again changes nothing."""
    latest = ws.latest.get((kind.source, command.id))
    if latest is not None and isinstance(latest.data, kind.deleted):
        if command.position not in {None, latest.position, _replaces(latest)}:
            raise PreconditionFailed(f"it was deleted at position {latest.position}")
        return Decision([], latest)
    latest = live(ws, kind, command.id)
    require_position(latest, command.position)
    data = kind.deleted(id=command.id, replaces=latest.position, reason=command.reason)
    return Decision([event_of(kind, command, f"{command.id}/delete", command.id, data)])


def given(change: Struct) -> dict[str, Any]:
    """What a change sets."""
    return {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}


def fields(kind: Kind, data: Struct) -> dict[str, Any]:
    """The whole content that an event holds."""
    return {name: getattr(data, name) for name in kind.content.__struct_fields__}


def live(ws: WorkingSet, kind: Kind, id_: str) -> Recorded:
    """The latest event of an entry; raises NotFound where there is none or it was deleted."""
    latest = ws.latest.get((kind.source, id_))
    if latest is None:
        raise NotFound(f"there is no {kind.noun} {id_}")
    if isinstance(latest.data, kind.deleted):
        raise NotFound(f"{kind.noun} {id_} was deleted, at position {latest.position}")
    return latest


def _replaces(event: Recorded) -> int:
    data: Any = event.data
    return data.replaces


def require_position(latest: Recorded, expected: int | None) -> None:
    """Raise PreconditionFailed unless a change was made for this event; None means for any."""
    if expected not in {None, latest.position}:
        raise PreconditionFailed(f"its latest change is at position {latest.position}, not {expected}")


def event_of(kind: Kind, command: Any, id_: str, entry_id: str, data: Struct) -> NewEvent:  # noqa: ANN401 - any command
    """An event of an entry, made by who sent the command when it came."""
    time_us = command.received_at_us
    return NewEvent(kind.source, id_, f"{kind.noun}/{entry_id}", format_time(time_us), time_us, command.actor, data)
