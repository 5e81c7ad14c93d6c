"""Reads of catalogue entries: lists, one as it is or as a change left it, its history."""

from collections.abc import Sequence
from typing import Annotated, Any

import apsw
from msgspec import Meta

from ledger import journal
from projections import catalogue, model
from projections.catalogue import Condition
from projections.engine import require
from schema.catalogue import SORT_MAX, HistoryItem, Kind, Stand, history
from schema.entry import Recorded
from schema.errors import NotFound
from schema.model import MODEL, ModelGroups
from schema.paging import Page, decode_cursor, encode_cursor

Order = tuple[Annotated[int, Meta(ge=-SORT_MAX, le=SORT_MAX)], str]
After = tuple[Annotated[int, Meta(ge=0, le=2**62)]]


def one(db: apsw.Connection, kind: Kind, id_: str) -> Stand:
    """An entry as it is, deleted ones too; raises NotFound, Rebuilding."""
    require(db, journal.head_position(db), kind.table)
    found = catalogue.find(db, kind, id_)
    if found is None:
        raise NotFound(f"there is no {kind.noun} {id_}")
    return found


def page(
    db: apsw.Connection, kind: Kind, conditions: Sequence[Condition], cursor: str | None, limit: int
) -> Page[Stand]:
    """Entries by sort and id; raises Rebuilding, InvalidInput for a bad cursor."""
    require(db, journal.head_position(db), kind.table)
    after = decode_cursor(cursor, Order) if cursor else catalogue.FIRST
    found = catalogue.list_entries(db, kind, conditions, after, limit)
    return Page(items=found.stands, next_cursor=None if found.next_key is None else encode_cursor(*found.next_key))


def left_by(db: apsw.Connection, kind: Kind, id_: str, event: Recorded) -> Stand:
    """An entry as one of its events left it, whatever came after."""
    [created] = journal.lookup(db, [(kind.source, id_)])
    content: Any = event.data
    deleted = type(event.data) is kind.deleted
    if deleted:
        [before] = journal.at(db, [content.replaces])
        content = before.data
    return Stand(content, deleted, event.position, created.recorded_at_us, event.recorded_at_us)


def changes(db: apsw.Connection, kind: Kind, id_: str, cursor: str | None, limit: int) -> Page[HistoryItem]:
    """An entry's events in order, each with what it changed; raises NotFound, InvalidInput for a bad cursor."""
    (after,) = decode_cursor(cursor, After) if cursor else (0,)
    # One before and one behind the page: what the first changed, and whether there is more.
    events = journal.events_of(db, kind.source, id_, after, limit + 2)
    if not events:
        raise NotFound(f"there is no {kind.noun} {id_}")
    before = events.pop(0) if after else None
    items = history(kind, before, events[:limit])
    more = len(events) > limit
    return Page(items=items, next_cursor=encode_cursor(items[-1].position) if more else None)


def model_groups(db: apsw.Connection) -> ModelGroups:
    """Models by group and by category; raises Rebuilding."""
    require(db, journal.head_position(db), MODEL.table)
    return model.groups(db)
