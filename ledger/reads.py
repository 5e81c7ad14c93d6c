"""Reads that need both a projection and the entries behind it."""

from typing import Annotated

import apsw
from msgspec import Meta

from ledger import journal
from ledger.rate_book import RateBook
from ledger.rerate import advanced, judge, next_batch
from projections import rerate as rerates
from projections.engine import checkpoints, require
from projections.model_call import first_position
from projections.model_call_error import ErrorQuery, read_errors
from projections.model_call_list import NEWEST, TIME_MAX_US, find_call, list_calls
from projections.model_call_stat_read import read_stats
from projections.name import CALL_EVENTS
from projections.rerate import RerateRow
from schema.entry import Recorded
from schema.errors import FieldError, InvalidInput, NotFound
from schema.model_call import NOUN, ModelCallStartDeclined, RatingPolicy, source_of
from schema.model_call_query import CallErrors, CallFilter, StatQuery, Stats
from schema.model_call_view import CallRow, ModelCallView, view
from schema.paging import Page, decode_cursor, encode_cursor
from schema.rerate import Amounts, Progress, RerateStarted, RerateView
from schema.times import format_time
from schema.usage_log import UsageLog, usage_log

PREVIEW_CALLS = 2_000
APPS_MAX = 10_000
KeyPart = Annotated[int, Meta(ge=0, le=TIME_MAX_US)]


def model_calls(db: apsw.Connection, call_filter: CallFilter, cursor: str | None, limit: int) -> Page[ModelCallView]:
    """A page of calls, newest first. Raises Rebuilding, InvalidInput for a bad cursor."""
    found, next_cursor = calls_page(db, call_filter, cursor, limit)
    return Page(items=[view(recorded, row) for recorded, row in found], next_cursor=next_cursor)


def usage_logs(db: apsw.Connection, call_filter: CallFilter, cursor: str | None, limit: int) -> Page[UsageLog]:
    """A page of finished calls with their costs, newest first. Raises as `model_calls`."""
    found, next_cursor = calls_page(db, call_filter, cursor, limit, finished=True)
    return Page(items=[usage_log(recorded, row) for recorded, row in found], next_cursor=next_cursor)


def calls_page(
    db: apsw.Connection,
    call_filter: CallFilter,
    cursor: str | None,
    limit: int,
    *,
    finished: bool = False,
) -> tuple[list[tuple[Recorded, CallRow]], str | None]:
    """Calls with the events that tell them, and the cursor to go on by."""
    require(db, journal.head_position(db), "model_calls", "names")
    below = decode_cursor(cursor, tuple[KeyPart, KeyPart]) if cursor else NEWEST
    found = list_calls(db, call_filter, below, limit, finished=finished)
    events = journal.at(db, [row.event_position for row in found.rows])
    next_cursor = None if found.next_key is None else encode_cursor(*found.next_key)
    return list(zip(events, found.rows, strict=True)), next_cursor


def model_call_stats(db: apsw.Connection, query: StatQuery) -> Stats:
    """Statistics, fresh to the last call. Raises Rebuilding, InvalidInput."""
    head = journal.head_position(db)
    require(db, head, "model_calls", "model_call_stats", "names")
    return read_stats(db, query, histograms=checkpoints(db)["model_call_latencies"].current(head))


def model_call_errors(db: apsw.Connection, query: ErrorQuery) -> CallErrors:
    """Failed calls by reason, fresh to the last call. Raises Rebuilding, InvalidInput."""
    head = journal.head_position(db)
    require(db, head, "model_calls", "names")
    return read_errors(db, query, folded=checkpoints(db)["model_call_failures"].current(head))


def changed_calls(db: apsw.Connection, after: int, limit: int, app: str | None) -> tuple[list[ModelCallView], int]:
    """The calls that the next events after a position are about, each as it is now, and the position to go on after."""
    require(db, journal.head_position(db), "model_calls")
    events = journal.read(db, after, limit)
    told = ((event, event.data) for event in events if isinstance(event.data, CALL_EVENTS))
    positions = dict.fromkeys(first_position(event, data) for event, data in told if app in {None, data.app})
    rows = [row for position in positions if (row := find_call(db, position)) is not None]
    latest = journal.at(db, [row.event_position for row in rows])
    calls = [view(event, row) for event, row in zip(latest, rows, strict=True)]
    return calls, events[-1].position if events else after


def model_call(db: apsw.Connection, app: str | None, id_: str, as_of: int | None = None) -> ModelCallView:
    """One call, as it is or was known at a position.

    Without an app every app is looked at; raises NotFound, InvalidInput where two apps share the id.
    """
    require(db, journal.head_position(db), "model_calls")
    row = find_call(db, model_call_events(db, app, id_)[0].position, as_of)
    if row is None:
        raise NotFound(f"there was no call {id_} at position {as_of}")
    return view(journal.at(db, [row.event_position])[0], row)


def model_call_events(db: apsw.Connection, app: str | None, id_: str) -> list[Recorded]:
    """The events of one call, in order; a start that was declined is none of it."""
    sources = [source_of(app)] if app is not None else _sources(db, id_)
    found = [events for source in sources if (events := _begun(journal.events_of(db, source, id_)))]
    if not found:
        raise NotFound(f"there is no call {id_}")
    if len(found) > 1:
        message = f"Expected an app: {len(found)} have a call {id_}"
        raise InvalidInput(errors=(FieldError("$.app", message),))
    return found[0]


def _begun(events: list[Recorded]) -> list[Recorded]:
    return [event for event in events if not isinstance(event.data, ModelCallStartDeclined)]


def _sources(db: apsw.Connection, id_: str) -> list[str]:
    """Those of calls of this id, which is the same in few apps."""
    return [source for source in journal.sources_of(db, id_, APPS_MAX) if source.endswith(f"/{NOUN}")]


def model_call_entries(db: apsw.Connection, app: str | None, id_: str) -> list[str]:
    """The stored entries of one call, byte for byte, in order."""
    positions = [event.position for event in model_call_events(db, app, id_)]
    return journal.entries_at(db, positions)


def rerate(db: apsw.Connection, id_: str) -> RerateView:
    """A re-rate as it stands; raises NotFound."""
    row = rerates.find(db, id_)
    if row is None:
        raise NotFound(f"there is no re-rate {id_}")
    return _rerate_view(row)


def rerates_page(db: apsw.Connection, cursor: str | None, limit: int) -> Page[RerateView]:
    """Re-rates, latest first."""
    below = decode_cursor(cursor, tuple[KeyPart])[0] if cursor else TIME_MAX_US
    rows = rerates.list_rerates(db, below, limit)
    following = encode_cursor(rows[-1].position) if len(rows) == limit else None
    return Page(items=[_rerate_view(row) for row in rows], next_cursor=following)


def _rerate_view(row: RerateRow) -> RerateView:
    started = row.started
    progress = row.progress or Progress(before=Amounts(), after=Amounts())
    return RerateView(
        id=row.id, status=row.status, from_=started.from_, to=started.to, filter=started.filter, reason=started.reason,
        seen=progress.seen, changed=progress.changed, skipped=progress.skipped, before=progress.before,
        after=progress.after, position=row.position, started_at=format_time(row.recorded_at_us), actor=row.actor,
    )  # fmt: skip


def rerate_preview(
    db: apsw.Connection, book: RateBook, run: RerateStarted, done: Progress | None, policy: RatingPolicy
) -> Progress:
    """What re-rating would come to, with one page of calls more."""
    require(db, journal.head_position(db), "model_calls", "names", "model_rates")
    book.refresh(db)
    batch = next_batch(db, run, done.next if done else None, PREVIEW_CALLS)
    return advanced(done, judge(book, batch.calls, policy), batch.next)
