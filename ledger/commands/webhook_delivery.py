"""Telling webhooks: who does it, how far it came, what was given up, told again, replayed."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import Struct
from msgspec.structs import replace

from ledger import data_keys, journal
from ledger.commands.usage_report_sending import BACKOFF_S_MAX, backoff_us
from ledger.decision import Decision, WorkingSet, handles
from ledger.state import Removed
from ledger.webhook_state import DEAD_LETTERS, DELIVERIES, DeadRow, DeliveryRow
from projections import catalogue
from schema.entry import NewEvent
from schema.errors import FieldError, InvalidInput, NotFound
from schema.sealed import WrappedKey
from schema.times import SECOND_US, format_time
from schema.webhook import (
    DEAD_MAX,
    ERROR_CHARS_MAX,
    NOUN,
    SOURCE,
    WEBHOOK,
    AdvanceWebhook,
    ClaimWebhook,
    FinishDead,
    ReplayWebhook,
    RetryDead,
    Webhook,
    WebhookDeadLettered,
    WebhookRecovered,
    WebhookReplayed,
    WebhookRetried,
    subject_of,
)

_DEAD, _VERSION = "dead letters", "version"


class Taken(Struct, frozen=True):
    """A webhook that this process is to tell, and what is to be told again."""

    row: DeliveryRow
    content: Webhook
    version: int  # the position of its latest change
    wrapped: WrappedKey | None
    retrying: tuple[int, ...]


class Held(Struct, frozen=True):
    """Whether the claim still holds."""

    held: bool


def _load_claim(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ClaimWebhook]) -> None:
    [command] = commands
    ws.state.load(db, DELIVERIES, [(command.id,)])
    rows: Any = db.execute(
        f"SELECT position FROM {DEAD_LETTERS.name} WHERE webhook = ? AND retrying ORDER BY position LIMIT 100",
        (command.id,),
    ).fetchall()
    retrying = tuple(position for (position,) in rows)
    ws.known = [catalogue.find(db, WEBHOOK, command.id), data_keys.find(db, subject_of(command.id)), retrying]


@handles(ClaimWebhook, _load_claim, alone=True)
def claim(ws: WorkingSet, command: ClaimWebhook) -> Decision:
    """One process tells a webhook at a time, so that events come in order; when its time is over another may."""
    row, (stand, wrapped, retrying) = ws.state.get(DeliveryRow, command.id), ws.known
    now_us = command.received_at_us
    if row is None or stand is None or stand.deleted or not stand.content.enabled:
        return Decision([])
    if now_us < row.claimed_until_us <= now_us + command.claim_us:  # one further off is of a clock that ran ahead
        return Decision([])
    row = replace(row, claim=row.claim + 1, claimed_until_us=now_us + command.claim_us)
    return Decision([], report=Taken(row, stand.content, stand.position, wrapped, retrying), state=[row])


def _load_row(db: apsw.Connection, ws: WorkingSet, commands: Sequence[Any]) -> None:
    ws.state.load(db, DELIVERIES, [(command.id,) for command in commands])


def _load_version(db: apsw.Connection, ws: WorkingSet, id_: str) -> None:
    stand = catalogue.find(db, WEBHOOK, id_)
    ws.read[_VERSION, id_] = None if stand is None else stand.position


def _load_advance(db: apsw.Connection, ws: WorkingSet, commands: Sequence[AdvanceWebhook]) -> None:
    _load_row(db, ws, commands)
    [command] = commands
    _load_version(db, ws, command.id)
    query = f"SELECT count(*) FROM {DEAD_LETTERS.name} WHERE webhook = ?"
    ws.read[_DEAD, command.id] = 0 if command.failure is None else db.execute(query, (command.id,)).get


@handles(AdvanceWebhook, _load_advance, alone=True)
def advance(ws: WorkingSet, command: AdvanceWebhook) -> Decision:
    """Further by what was taken; what failed is due again later, or given up for good after so many attempts.

    A webhook that was changed since it was claimed is let go: what is left is told as it is now, or not at all.
    """
    row, now_us, failure = ws.state.get(DeliveryRow, command.id), command.received_at_us, command.failure
    if row is None or row.claim != command.claim:
        return Decision([], report=Held(held=False))
    events: list[NewEvent] = []
    state: list[Struct] = []
    row = replace(row, position=max(row.position, command.until), claimed_until_us=now_us + command.claim_us)
    if command.delivered:
        if row.failing:
            row = _tell(row, "recover", WebhookRecovered(id=row.webhook, position=row.position), command, events)
        row = replace(
            row, delivered=row.delivered + command.delivered, delivered_at_us=now_us, attempts=0, due_at_us=0,
            failing=False, error=None,
        )  # fmt: skip
    if failure is not None:
        row = replace(row, attempts=row.attempts + 1, error=failure.error[:ERROR_CHARS_MAX], claimed_until_us=0)
        if row.attempts >= command.attempts_max and ws.read[_DEAD, row.webhook] < DEAD_MAX:
            state.append(DeadRow(row.webhook, failure.position, row.attempts, now_us, row.error or ""))
            row = _given_up(row, failure.position, command, events)
        else:
            wait_us = backoff_us(row.attempts, command.jitter_ppm)
            asked_us = min(failure.retry_after_s or 0, BACKOFF_S_MAX) * SECOND_US
            row = replace(row, due_at_us=now_us + max(wait_us, asked_us))
    elif command.done or ws.read[_VERSION, row.webhook] != command.version:
        row = replace(row, claimed_until_us=0)
    return Decision(events, report=Held(held=row.claimed_until_us > now_us), state=[row, *state])


def _given_up(row: DeliveryRow, position: int, command: AdvanceWebhook, events: list[NewEvent]) -> DeliveryRow:
    """The next event's turn; the journal hears of the first one that is given up, lest a failing webhook fill it."""
    data = WebhookDeadLettered(id=row.webhook, position=position, attempts=row.attempts, error=row.error or "")
    if not row.failing:
        row = _tell(row, "dead_letter", data, command, events)
    return replace(row, position=position, attempts=0, due_at_us=0, failing=True)


def _tell(row: DeliveryRow, verb: str, data: Struct, command: Any, events: list[NewEvent]) -> DeliveryRow:  # noqa: ANN401 - any command
    row = replace(row, events=row.events + 1)
    now_us: int = command.received_at_us
    id_ = f"{row.webhook}/{verb}/{row.events}"
    subject = f"{NOUN}/{row.webhook}"
    events.append(NewEvent(SOURCE, id_, subject, format_time(now_us), now_us, command.actor, data))
    return row


def _load_dead(db: apsw.Connection, ws: WorkingSet, commands: Sequence[FinishDead | RetryDead]) -> None:
    _load_row(db, ws, commands)
    ws.state.load(db, DEAD_LETTERS, [(command.id, command.position) for command in commands])
    for command in commands:
        _load_version(db, ws, command.id)


@handles(FinishDead, _load_dead, alone=True)
def finish_dead(ws: WorkingSet, command: FinishDead) -> Decision:
    """Taken at last, it is one no more; else it waits for someone again."""
    row, dead = ws.state.get(DeliveryRow, command.id), ws.state.get(DeadRow, command.id, command.position)
    if row is None or dead is None or row.claim != command.claim:
        return Decision([], report=Held(held=False))
    now_us = command.received_at_us
    held = Held(held=ws.read[_VERSION, row.webhook] == command.version)
    if not held.held:
        row = replace(row, claimed_until_us=0)
    if command.error is None:
        done = replace(row, delivered=row.delivered + 1, delivered_at_us=now_us)
        return Decision([], report=held, state=[done, Removed(DEAD_LETTERS, (command.id, command.position))])
    again = replace(
        dead, attempts=dead.attempts + 1, failed_at_us=now_us, error=command.error[:ERROR_CHARS_MAX], retrying=False
    )  # fmt: skip
    return Decision([], report=held, state=[row, again])


@handles(RetryDead, _load_dead, alone=True)
def retry_dead(ws: WorkingSet, command: RetryDead) -> Decision:
    """A dead letter is told again, soon; that changes nothing for what comes after it."""
    row, dead = ws.state.get(DeliveryRow, command.id), ws.state.get(DeadRow, command.id, command.position)
    if row is None or dead is None:
        raise NotFound(f"webhook {command.id} has no dead letter at position {command.position}")
    if dead.retrying:
        return Decision([], repeated=True)
    events: list[NewEvent] = []
    data = WebhookRetried(id=command.id, position=command.position, reason=command.reason)
    row = _tell(row, "retry", data, command, events)
    return Decision(events, state=[row, replace(dead, retrying=True)])


def _load_replay(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ReplayWebhook]) -> None:
    _load_row(db, ws, commands)
    ws.known = [journal.head_position(db)]


@handles(ReplayWebhook, _load_replay, alone=True)
def replay(ws: WorkingSet, command: ReplayWebhook) -> Decision:
    """Whoever tells it now loses the claim: the next one begins there."""
    row, [head] = ws.state.get(DeliveryRow, command.id), ws.known
    if row is None:
        raise NotFound(f"there is no webhook {command.id}")
    if command.after > head:
        raise InvalidInput(errors=(FieldError("$.after", f"Expected at most {head}, the last position"),))
    events: list[NewEvent] = []
    row = _tell(
        row, "replay", WebhookReplayed(id=command.id, after=command.after, reason=command.reason), command, events
    )
    row = replace(row, position=command.after, claim=row.claim + 1, claimed_until_us=0, attempts=0, due_at_us=0)
    return Decision(events, state=[row])
