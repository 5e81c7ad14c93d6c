"""Reads of webhooks: which are to be told, of what; how far each is, and what it did not take."""

from collections.abc import Mapping, Sequence
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from ledger import catalogue_reads, journal
from ledger.catalogue_reads import After
from ledger.webhook_state import DEAD_LETTERS, DELIVERIES, DeadRow, DeliveryRow
from projections import webhook
from schema.catalogue import HistoryItem
from schema.errors import NotFound
from schema.event import event_types
from schema.paging import Page, decode_cursor, encode_cursor
from schema.times import SECOND_US, format_time
from schema.webhook import WEBHOOK, DeadLetter, Delivery, Webhook, takes

SCAN_EVENTS_MAX = 20_000
PAGE_EVENTS = 50
DUE_AHEAD_US_MAX = 7_200 * SECOND_US
# What credentials and webhooks keep sealed is nobody's business outside, unreadable as it is.
_SEALED = ("credential.", "webhook.")


class Message(Struct, frozen=True):
    """An event as it is sent: its entry, without what is sealed in it, and an id that no other event has."""

    position: int
    id: str
    body: bytes


class Stretch(Struct, frozen=True):
    """Events to tell, in order, and the last position that was looked at; `more`: there are positions after it."""

    messages: list[Message]
    until: int
    more: bool


def due(db: apsw.Connection, now_us: int, seen: Mapping[str, int]) -> tuple[list[str], dict[str, int]]:
    """Webhooks that have something to be told, and how far each of the others was looked through, `seen` before."""
    head, found, looked = journal.head_position(db), list[str](), dict[str, int]()
    rows = {row.webhook: row for row in _rows(db)}
    retrying = {id_ for (id_,) in db.execute(f"SELECT DISTINCT webhook FROM {DEAD_LETTERS.name} WHERE retrying")}
    for each in webhook.enabled(db):
        row = rows.get(each.id)
        if row is None or _is_taken(row, now_us):
            continue
        after = max(row.position, seen.get(each.id, 0)) if seen.get(each.id, 0) <= head else row.position
        position, until = _next(db, each, after, head)
        if each.id in retrying or (position is not None and not _is_put_off(row, now_us)):
            found.append(each.id)
        elif until - row.position > SCAN_EVENTS_MAX and position is None:
            found.append(each.id)  # so that how far it is is kept
        elif position is None:
            looked[each.id] = until
    return found, looked


def _rows(db: apsw.Connection) -> list[DeliveryRow]:
    rows: list[Any] = db.execute(f"SELECT * FROM {DELIVERIES.name}").fetchall()
    return [DeliveryRow(*row) for row in rows]


def _is_taken(row: DeliveryRow, now_us: int) -> bool:
    return now_us < row.claimed_until_us <= now_us + DUE_AHEAD_US_MAX


def _is_put_off(row: DeliveryRow, now_us: int) -> bool:
    return now_us < row.due_at_us <= now_us + DUE_AHEAD_US_MAX


def _next(db: apsw.Connection, content: Webhook, after: int, head: int) -> tuple[int | None, int]:
    """The first event for a webhook after a position, and how far was looked."""
    until = min(head, after + SCAN_EVENTS_MAX)
    query = (
        "SELECT position FROM events WHERE position > ? AND position <= ? "
        "AND type IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT 1"
    )
    return db.execute(query, (after, until, _types(content))).get, until


def _types(content: Webhook) -> str:
    return msgspec.json.encode(takes(content.events, event_types())).decode()


def stretch(db: apsw.Connection, content: Webhook, after: int) -> Stretch:
    """The next events for a webhook after a position; bounded by number and by positions looked at."""
    head = journal.head_position(db)
    until = min(head, after + SCAN_EVENTS_MAX)
    query = (
        "SELECT position, type, entry, leaf_hash FROM events WHERE position > ? AND position <= ? "
        "AND type IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT ?"
    )
    rows: list[Any] = db.execute(query, (after, until, _types(content), PAGE_EVENTS)).fetchall()
    if len(rows) == PAGE_EVENTS:
        until = rows[-1][0]
    return Stretch([_message(*row) for row in rows], until, until < head)


def messages_at(db: apsw.Connection, positions: Sequence[int]) -> list[Message]:
    """Events as they are sent."""
    query = "SELECT position, type, entry, leaf_hash FROM events WHERE position = ?"
    rows: list[Any] = [row for position in positions for row in db.execute(query, (position,))]
    return [_message(*row) for row in rows]


def _message(position: int, type_: str, entry: str, leaf: bytes) -> Message:
    body = entry.encode()
    if type_.startswith(_SEALED):
        content = msgspec.json.decode(body)
        content["data"].pop("secret", None)
        body = msgspec.json.encode(content)
    return Message(position, f"evt-{position}-{leaf[:8].hex()}", body)


def deliveries(db: apsw.Connection, ids: Sequence[str] | None) -> dict[str, Delivery]:
    """How far webhooks are, all of them where none are named; deleted ones are left out."""
    head = journal.head_position(db)
    query = f"SELECT webhook, count(*) FROM {DEAD_LETTERS.name} GROUP BY webhook"
    counted: list[Any] = db.execute(query).fetchall()
    dead: dict[str, int] = dict(counted)
    wanted = (row for row in _rows(db) if ids is None or row.webhook in ids)
    return {row.webhook: _delivery(row, head, dead.get(row.webhook, 0)) for row in wanted}


def _delivery(row: DeliveryRow, head: int, dead: int) -> Delivery:
    return Delivery(
        position=row.position, behind=head - row.position, delivered=row.delivered, attempts=row.attempts,
        due_at=format_time(row.due_at_us) if row.due_at_us else None, failing=bool(row.failing), dead_letters=dead,
        last_delivered_at=None if row.delivered_at_us is None else format_time(row.delivered_at_us),
        last_error=row.error,
    )  # fmt: skip


def dead_letters(db: apsw.Connection, id_: str, cursor: str | None, limit: int) -> Page[DeadLetter]:
    """By position; raises NotFound."""
    catalogue_reads.one(db, WEBHOOK, id_)
    (after,) = decode_cursor(cursor, After) if cursor else (0,)
    query = f"SELECT * FROM {DEAD_LETTERS.name} WHERE webhook = ? AND position > ? ORDER BY position LIMIT ?"
    rows: list[Any] = db.execute(query, (id_, after, limit)).fetchall()
    items = [dead_letter(DeadRow(*row)) for row in rows]
    return Page(items=items, next_cursor=encode_cursor(items[-1].position) if len(items) == limit else None)


def one_dead_letter(db: apsw.Connection, id_: str, position: int) -> DeadLetter:
    """One of them; raises NotFound."""
    query = f"SELECT * FROM {DEAD_LETTERS.name} WHERE webhook = ? AND position = ?"
    rows: list[Any] = db.execute(query, (id_, position)).fetchall()
    if not rows:
        raise NotFound(f"webhook {id_} has no dead letter at position {position}")
    return dead_letter(DeadRow(*rows[0]))


def dead_letter(row: DeadRow) -> DeadLetter:
    """A dead letter as read."""
    return DeadLetter(
        position=row.position, attempts=row.attempts, failed_at=format_time(row.failed_at_us), error=row.error,
        retrying=bool(row.retrying),
    )  # fmt: skip


def changes(db: apsw.Connection, id_: str, cursor: str | None, limit: int) -> Page[HistoryItem]:
    """A webhook's changes in order, nothing of its secrets but that they changed; raises NotFound."""
    page = catalogue_reads.changes(db, WEBHOOK, id_, cursor, limit)
    for change in (change for item in page.items for change in item.changes if change.field == "secret"):
        change.before = change.after = None
    return page
