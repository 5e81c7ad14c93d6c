"""Catalogue entries, as providers and models: created under the client's id, changed on a condition, deleted softly.

Every event of an entry but its deletion holds the whole content, so the latest tells all and two neighbours tell a
change.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct

from schema.acceptance import check_free_data, differing_fields
from schema.entry import Recorded
from schema.errors import FieldError, InvalidInput
from schema.times import format_time

C = TypeVar("C", bound=Struct)
V = TypeVar("V", bound=Struct)

SORT_MAX = 1_000_000

# No `@` before the path: a password in an address would be kept for ever.
URL_PATTERN = r"^https?://[^\s/?#@]{1,255}([/?#][^\s]{0,480})?\Z"
Url = Annotated[
    str,
    Meta(
        pattern=URL_PATTERN,
        description="An http or https address, without a user or password.",
        examples=["https://api.example.com/v1"],
    ),
]
Text = Annotated[str, Meta(max_length=1_000)]
Sort = Annotated[int, Meta(ge=-SORT_MAX, le=SORT_MAX, description="Lower comes first.")]


class Kind(Struct, frozen=True):
    """A noun of the catalogue, its projection's name, and the Structs of its content and events."""

    noun: str
    source: str
    table: str
    content: type[Struct]
    created: type[Struct]
    changed: type[Struct]
    deleted: type[Struct]


class Create(Struct, Generic[C]):
    """Command: an entry comes into being."""

    actor: str
    received_at_us: int
    content: C


class Change(Struct, Generic[C]):
    """Command: change an entry, provided that its latest event is at `position`; None means wherever it is."""

    actor: str
    received_at_us: int
    id: str
    position: int | None
    change: C


class Delete(Struct):
    """Command: an entry is no longer offered; `position` as for a change."""

    actor: str
    received_at_us: int
    id: str
    position: int | None
    reason: str | None = None


class Stand(Struct, frozen=True):
    """An entry as an event left it: `position` is that event's, `changed_at_us` when it was recorded."""

    content: Any
    deleted: bool
    position: int
    created_at_us: int
    changed_at_us: int


class FieldChange(Struct, kw_only=True):
    """One field before and after; null is what it has where nothing was given."""

    field: str
    before: Any
    after: Any


class HistoryItem(Struct, kw_only=True):
    """Who changed what, when: `at` is when the ledger took it."""

    position: int
    at: str
    actor: str
    type: str
    reason: str | None = None
    changes: list[FieldChange]


def view(kind: type[V], stand: Stand, **more: object) -> V:
    """An entry as read. `kind` has the content's fields, `deleted`, `position`, `created_at` and `changed_at`."""
    shown = set(kind.__struct_fields__)
    content = {name: getattr(stand.content, name) for name in stand.content.__struct_fields__ if name in shown}
    make: Any = kind
    return make(
        **content,
        deleted=stand.deleted,
        position=stand.position,
        created_at=format_time(stand.created_at_us),
        changed_at=format_time(stand.changed_at_us),
        **more,
    )


def history(kind: Kind, before: Recorded | None, events: Iterable[Recorded]) -> list[HistoryItem]:
    """What each event changed; `before` is the one before the first of them, if there is one."""
    items: list[HistoryItem] = []
    for event in events:
        item = HistoryItem(
            position=event.position,
            at=format_time(event.recorded_at_us),
            actor=event.actor,
            type=event.type,
            reason=getattr(event.data, "reason", None),
            changes=changes_between(kind, None if before is None else before.data, event.data),
        )
        items.append(item)
        before = event
    return items


def changes_between(kind: Kind, before: Struct | None, after: Struct) -> list[FieldChange]:
    """What an event changed; `before` is None for a creation."""
    if isinstance(after, kind.deleted):
        return [FieldChange(field="deleted", before=False, after=True)]
    if before is None:
        given: dict[str, Any] = msgspec.to_builtins(after)  # what has its default is left out
        return [FieldChange(field=name, before=None, after=value) for name, value in given.items() if name != "id"]
    different = [name for name in differing_fields(before, after) if name in kind.content.__struct_fields__]
    return [FieldChange(field=name, before=getattr(before, name), after=getattr(after, name)) for name in different]


def check_content(content: Struct, free_data: str) -> None:
    """Check what types cannot say of a posted content or change: printable texts, bounded free data.

    `free_data` names the field that holds it. Raises InvalidInput, OutOfRange or EntryTooLarge naming the path.
    """
    errors: list[FieldError] = []
    for name in content.__struct_fields__:
        value: Any = getattr(content, name)
        if isinstance(value, str) and not _printable(name, value):
            errors.append(FieldError(f"$.{name}", "Expected printable characters only"))
    if errors:
        raise InvalidInput(errors=tuple(errors))
    data: Any = getattr(content, free_data)
    if data is not None and data is not UNSET:
        check_free_data(f"$.{free_data}", data)


def _printable(name: str, text: str) -> bool:
    """A description may have lines."""
    return (text.replace("\n", "").replace("\t", "") if name == "description" else text).isprintable()
