"""Sending batches: taken on by one process at a time, finished, tried again later, given up, retried, paused."""

from collections.abc import Sequence
from typing import Any

import apsw
from msgspec import Struct
from msgspec.structs import replace

from ledger.commands.usage_report import head_of, load_head
from ledger.decision import Decision, WorkingSet, handles
from ledger.report_state import BATCHES, PAIRS, BatchRow, PairRow
from schema.entry import NewEvent
from schema.errors import NotFound
from schema.money import amount_e10, amount_text
from schema.times import SECOND_US, format_time
from schema.usage_report import (
    ERROR_CHARS_MAX,
    NOUN,
    REPORTING_ID,
    REPORTING_NOUN,
    REPORTING_SOURCE,
    SOURCE,
    ClaimBatches,
    FinishBatch,
    PauseReporting,
    ReportingPaused,
    ReportingResumed,
    ReportSettled,
    RetryBatch,
    UsageReportDead,
    UsageReported,
    UsageReportRetried,
)

BACKOFF_S, BACKOFF_S_MAX = 5, 3_600
MILLION = 1_000_000
FORGOTTEN = "it may have arrived, and the payment system may not know its id any more: look there, then retry"
# What is due later than anything is put off was so by a clock that ran ahead.
DUE = "due_at_us IS NOT NULL AND (due_at_us <= ? OR due_at_us > ?)"


class Claimed(Struct, frozen=True):
    """Batches that this process is to send."""

    batches: list[BatchRow]


class Batch(Struct, frozen=True):
    """A batch as a command left it."""

    row: BatchRow


def due(now_us: int) -> tuple[int, int]:
    """The bindings of `DUE`."""
    return now_us, now_us + 2 * BACKOFF_S_MAX * SECOND_US


def backoff_us(tries: int, jitter_ppm: int) -> int:
    """5 s, doubled with each try up to an hour, of which the later half is drawn."""
    whole_us = min(BACKOFF_S << min(max(tries - 1, 0), 20), BACKOFF_S_MAX) * SECOND_US
    return whole_us // 2 + whole_us // 2 * jitter_ppm // MILLION


def _load_claim(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ClaimBatches]) -> None:
    [command] = commands
    load_head(db, ws)
    query = f"SELECT * FROM {BATCHES.name} WHERE {DUE} ORDER BY due_at_us LIMIT ?"
    rows: list[Any] = db.execute(query, (*due(command.received_at_us), command.limit)).fetchall()
    ws.known = [BatchRow(*row) for row in rows]
    ws.state.take(BATCHES, ws.known)


@handles(ClaimBatches, _load_claim, alone=True)
def claim(ws: WorkingSet, command: ClaimBatches) -> Decision:
    """What is due is this process's for a while; what was claimed by one that did not finish, too, with the same id."""
    head, now_us = head_of(ws), command.received_at_us
    if head is None or head.paused:
        return Decision([], report=Claimed([]))
    claims, claimed, events, state = head.claims, list[BatchRow](), list[NewEvent](), list[Struct]()
    for row in ws.known:
        if command.resend_us is not None and row.first_sent_us is not None:
            is_known = now_us < row.first_sent_us + command.resend_us
            if not is_known:
                dead, event = _dead(row, FORGOTTEN, command.actor, now_us)
                state.append(dead)
                events.append(event)
                continue
        claims += 1
        claimed.append(
            replace(
                row, status="claimed", claim=claims, tries=row.tries + 1, attempts=row.attempts + 1,
                due_at_us=now_us + command.claim_us, first_sent_us=row.first_sent_us or now_us,
            )
        )  # fmt: skip
    state += claimed
    if claimed:
        state.append(replace(head, claims=claims))
    return Decision(events, report=Claimed(claimed), state=state)


def _load_batch(db: apsw.Connection, ws: WorkingSet, commands: Sequence[FinishBatch | RetryBatch]) -> None:
    ids = [command.id for command in commands]
    ws.state.load(db, BATCHES, [(id_,) for id_ in ids])
    rows = [row for id_ in ids if (row := ws.state.get(BatchRow, id_)) is not None]
    ws.state.load(db, PAIRS, [(row.app, row.user_id) for row in rows])


@handles(FinishBatch, _load_batch)
def finish(ws: WorkingSet, command: FinishBatch) -> Decision:
    """That the payment system has it is so, whoever says it. A failure is heard only from who holds the claim."""
    row = ws.state.get(BatchRow, command.id)
    if row is None or row.status == "reported":
        return Decision([])
    if command.outcome in {"accepted", "duplicate"}:
        return _reported(ws, row, command)
    if row.status != "claimed" or row.claim != command.claim:
        return Decision([])
    error, now_us = (command.error or command.outcome)[:ERROR_CHARS_MAX], command.received_at_us
    if command.outcome == "refused" or row.tries >= command.tries_max:
        dead, event = _dead(row, error, command.actor, now_us)
        return Decision([event], state=[dead])
    wait_us = max(backoff_us(row.tries, command.jitter_ppm), (command.retry_after_s or 0) * SECOND_US)
    wait_us = min(wait_us, BACKOFF_S_MAX * SECOND_US)
    return Decision([], state=[replace(row, status="failed", due_at_us=now_us + wait_us, error=error)])


def _reported(ws: WorkingSet, row: BatchRow, command: FinishBatch) -> Decision:
    now_us, duplicate = command.received_at_us, command.outcome == "duplicate"
    pair = ws.state.get(PairRow, row.app, row.user_id)
    assert pair is not None
    reported = amount_text(amount_e10(pair.reported) + amount_e10(row.amount))
    done = replace(
        row, status="reported", due_at_us=None, reported_at_us=now_us, duplicate=duplicate, error=None
    )  # fmt: skip
    data = UsageReported(**_told(row), duplicate=duplicate)
    event = _event(row, "reported", data, command.actor, now_us)
    return Decision([event], state=[done, replace(pair, reported=reported)])


def _dead(row: BatchRow, error: str, actor: str, now_us: int) -> tuple[BatchRow, NewEvent]:
    data = UsageReportDead(**_told(row), error=error)
    event = _event(row, f"dead/{row.attempts}", data, actor, now_us)
    return replace(row, status="dead", due_at_us=None, error=error), event


def _told(row: BatchRow) -> dict[str, Any]:
    return {
        "id": row.id, "app": row.app, "user_id": row.user_id or None, "after": row.after, "until": row.until,
        "calls": row.calls, "amount": row.amount, "value": row.value, "decimals": row.decimals,
        "attempts": row.attempts,
    }  # fmt: skip


def _event(row: BatchRow, verb: str, data: Struct, actor: str, now_us: int) -> NewEvent:
    return NewEvent(SOURCE, f"{row.id}/{verb}", f"{NOUN}/{row.id}", format_time(now_us), now_us, actor, data)


@handles(RetryBatch, _load_batch, alone=True)
def retry(ws: WorkingSet, command: RetryBatch) -> Decision:
    """A batch that failed or was given up is due now; one that is due or under way stays so."""
    row = ws.state.get(BatchRow, command.id)
    if row is None:
        raise NotFound(f"there is no usage report {command.id}")
    if row.status == "reported":
        raise ReportSettled(f"{row.id} was reported")
    if row.status in {"pending", "claimed"}:
        return Decision([], report=Batch(row), repeated=True)
    now_us = command.received_at_us
    data = UsageReportRetried(id=row.id, reason=command.reason)
    event = _event(row, f"retry/{row.attempts}", data, command.actor, now_us)
    again = replace(row, status="pending", due_at_us=now_us, tries=0, first_sent_us=None)
    return Decision([event], report=Batch(again), state=[again])


def _load_pause(db: apsw.Connection, ws: WorkingSet, _: Sequence[PauseReporting]) -> None:
    load_head(db, ws)


@handles(PauseReporting, _load_pause, alone=True)
def pause(ws: WorkingSet, command: PauseReporting) -> Decision:
    """What is under way ends; nothing more is taken on. Doing it again changes nothing."""
    head = head_of(ws)
    if head is None:
        raise NotFound("usage reporting has not begun")
    if head.paused == command.paused:
        return Decision([], repeated=True)
    now_us = command.received_at_us
    kind, verb = (ReportingPaused, "pause") if command.paused else (ReportingResumed, "resume")
    id_ = f"{REPORTING_ID}/{verb}/{head.events + 1}"
    subject = f"{REPORTING_NOUN}/{REPORTING_ID}"
    data = kind(reason=command.reason)
    event = NewEvent(REPORTING_SOURCE, id_, subject, format_time(now_us), now_us, command.actor, data)
    return Decision([event], state=[replace(head, paused=command.paused, events=head.events + 1)])
