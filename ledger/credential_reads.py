"""Reads of credentials: one as a change left it, its history. Secrets leave here masked or not at all."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import Struct

from ledger import data_keys, journal
from ledger.catalogue_reads import After
from ledger.credential_book import Line
from projections.catalogue import find
from projections.credential import WHOLE, content_of, first_key
from schema.catalogue import FieldChange, HistoryItem, Stand, changes_between
from schema.credential import (
    CREDENTIAL,
    Credential,
    CredentialCreated,
    CredentialDeleted,
    CredentialErased,
    subject_of,
)
from schema.entry import Recorded
from schema.errors import FieldError, InvalidInput, NoCredential, NotFound
from schema.paging import Page, decode_cursor, encode_cursor
from schema.sealed import Sealed
from schema.times import format_time


def to_ask_with(db: apsw.Connection, provider: str, id_: str | None) -> Line:
    """A credential of a provider to ask it something with: the one that is named, else its first API key in use.

    Raises InvalidInput, NoCredential.
    """
    wanted = id_ or first_key(db, provider)
    if wanted is None:
        raise NoCredential(f"{provider} has no API key that is in use")
    stand = find(db, CREDENTIAL, wanted)
    if stand is None or stand.deleted or stand.content.provider != provider:
        raise InvalidInput(errors=(FieldError("$.credential_id", f"Expected the id of a credential of {provider}"),))
    return Line(stand.content, stand.position, 0, data_keys.find(db, subject_of(wanted)))


def left_by(db: apsw.Connection, event: Recorded) -> Stand:
    """A credential as one of its events left it, whatever came after."""
    data: Any = event.data
    [created] = journal.lookup(db, [(CREDENTIAL.source, data.id)])
    deleted = erased = False
    whole: Any = data
    while isinstance(whole, CredentialDeleted):  # an erasure may replace a deletion, which replaces a whole record
        deleted, erased = True, erased or isinstance(whole, CredentialErased)
        [before] = journal.at(db, [whole.replaces])
        whole = before.data
    content = content_of(whole)
    if erased:
        content.secret = None
    return Stand(content, deleted, event.position, created.recorded_at_us, event.recorded_at_us)


def changes(db: apsw.Connection, id_: str, cursor: str | None, limit: int) -> Page[HistoryItem]:
    """A credential's events in order, each with what it changed; raises NotFound, InvalidInput for a bad cursor."""
    (after,) = decode_cursor(cursor, After) if cursor else (0,)
    events = journal.events_of(db, CREDENTIAL.source, id_, after + 1, limit + 1)
    if not events and not after:
        raise NotFound(f"there is no credential {id_}")
    shown, more = events[:limit], len(events) > limit
    before = _replaced(db, shown)
    items = [_item(event, before.get(getattr(event.data, "replaces", 0))) for event in shown]
    return Page(items=items, next_cursor=encode_cursor(items[-1].position) if more else None)


def _replaced(db: apsw.Connection, events: Sequence[Recorded]) -> dict[int, Struct]:
    positions = sorted({getattr(event.data, "replaces", 0) for event in events} - {0})
    return {event.position: event.data for event in journal.at(db, positions)}


def _item(event: Recorded, before: Struct | None) -> HistoryItem:
    return HistoryItem(
        position=event.position,
        at=format_time(event.recorded_at_us),
        actor=event.actor,
        type=event.type,
        reason=getattr(event.data, "reason", None),
        changes=[_masked(change) for change in _changes(event.data, before)],
    )


def _changes(data: Struct, before: Struct | None) -> list[FieldChange]:
    if isinstance(data, CredentialErased):
        gone = [] if isinstance(before, CredentialDeleted) else [_became("deleted")]
        return [*gone, _became("erased")]
    if isinstance(data, CredentialDeleted | CredentialCreated):
        return changes_between(CREDENTIAL, None, data)
    if isinstance(data, WHOLE):
        return changes_between(CREDENTIAL, before, data)
    # What happened to it: told whole.
    names = [name for name in data.__struct_fields__ if name != "id"]
    return [FieldChange(field=name, before=None, after=getattr(data, name)) for name in names]


def _became(field: str) -> FieldChange:
    return FieldChange(field=field, before=False, after=True)


def _masked(change: FieldChange) -> FieldChange:
    if change.field != "secret":
        return change
    return FieldChange(field="secret", before=_mask(change.before), after=_mask(change.after))


def _mask(value: Sealed | dict[str, Any] | None) -> dict[str, str] | None:
    """What is shown of a sealed secret, as it is or as it is written down."""
    if value is None:
        return None
    return value.mask if isinstance(value, Sealed) else value["mask"]


def secret_of(credential: Credential) -> dict[str, str] | None:
    """What is shown of a credential's secret."""
    return _mask(credential.secret)
