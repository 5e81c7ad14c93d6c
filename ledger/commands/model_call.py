"""Model calls: recorded whole, or started and then ended, failed or timed out."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from ledger import call_hold, journal, payer
from ledger.begun import begun
from ledger.call_rating import rate_call
from ledger.charging import charge_call
from ledger.decision import Decision, WorkingSet, handles
from schema.acceptance import accept_details, accept_time, differing_fields
from schema.entry import NewEvent, Recorded
from schema.errors import AlreadyFinished, FieldError, IdConflict, InvalidInput, NotFound
from schema.model_call import (
    FinishModelCall,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallRecorded,
    ModelCallStarted,
    ModelCallTimedOut,
    RecordModelCall,
    Replaced,
    StartModelCall,
    SweepModelCalls,
    source_of,
    subject_of,
)
from schema.times import format_time, parse_time


def _load_recorded(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RecordModelCall]) -> None:
    ws.rates.refresh(db)
    ws.load(db, [(source_of(c.call.app or ""), c.call.id) for c in commands])
    payer.load(db, ws, [c.call for c in commands], commands)


@handles(RecordModelCall, _load_recorded)
def record(ws: WorkingSet, command: RecordModelCall) -> Decision:
    """A finished call becomes one event."""
    call = command.call
    app = call.app or ""
    source = source_of(app)
    first = ws.find(source, call.id)
    if first is not None:
        if isinstance(first.data, ModelCallRecorded):
            call.rating, call.charge = first.data.rating, first.data.charge  # the ledger's, not the caller's
        return _same_or_conflict(first, call)
    call.rating = rate_call(ws.rates, call, command.started_at_us, command.policy)
    new = NewEvent(
        source, call.id, subject_of(app, call.id), call.started_at, command.started_at_us, command.actor, call
    )
    if not ws.book.accounts:
        return Decision([new])
    before = charge_call(ws, call, command.received_at_us, command.actor, any_account=command.any_account)
    return Decision([*before, new] if before else [new])


def _same_or_conflict(first: Recorded, content: msgspec.Struct) -> Decision:
    if type(first.data) is not type(content):
        raise IdConflict(f"this id was used before, at position {first.position}, by {first.type}")
    different = [f for f in differing_fields(first.data, content) if f != "times_out_at"]
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(
            f"this id was used before, at position {first.position}, with other {', '.join(different)}", errors=errors
        )
    return Decision([], first)


def _load_started(db: apsw.Connection, ws: WorkingSet, commands: Sequence[StartModelCall]) -> None:
    ws.load(db, [(source_of(c.call.app or ""), c.call.id or "") for c in commands])
    call_hold.load(db, ws, [command for command in commands if command.call.hold is not None])


@handles(StartModelCall, _load_started)
def start(ws: WorkingSet, command: StartModelCall) -> Decision:
    """A call begins; the event says until when its end is waited for."""
    app = command.call.app or ""
    id_ = command.call.id or ""
    times_out_at = format_time(command.received_at_us + command.timeout_us)
    started = ModelCallStarted(times_out_at=times_out_at, **msgspec.structs.asdict(command.call))
    first = ws.find(source_of(app), id_)
    if first is not None:
        return _same_or_conflict(first, started)
    event = _event(id_, app, command.started_at_us, command.actor, started)
    return Decision([event]) if command.call.hold is None else call_hold.begin(ws, command, event)


def _ends(id_: str) -> tuple[str, ...]:
    return id_, f"{id_}/complete", f"{id_}/fail", f"{id_}/time_out"


def _load_finished(db: apsw.Connection, ws: WorkingSet, commands: Sequence[FinishModelCall]) -> None:
    ws.rates.refresh(db)
    ws.load(db, [(source_of(c.app), id_) for c in commands for id_ in _ends(c.id)])
    ends = [payer.CallKeys(c.app, c.id, c.end.user_id, c.end.account) for c in commands]
    starts = [start for c in commands for start in begun(ws, c)]
    payer.load(db, ws, [*ends, *starts], commands)


@handles(FinishModelCall, _load_finished)
def finish(ws: WorkingSet, command: FinishModelCall) -> Decision:
    """A started call ends. What is due is settled first: an end after the time-out takes that back."""
    source = source_of(command.app)
    began = ws.find(source, command.id)
    if began is None:
        raise NotFound(f"no call {command.id} was started")
    if not isinstance(began.data, ModelCallStarted):
        raise AlreadyFinished(f"the call was posted finished, at position {began.position}")
    call = _merged(began, began.data, command)
    for verb in ("complete", "fail"):
        ended = ws.find(source, f"{command.id}/{verb}")
        if ended is not None:
            return _same_end(ended, call)
    return _end(ws, command, began, call)


def _end(
    ws: WorkingSet, command: FinishModelCall, began: Recorded, call: ModelCallCompleted | ModelCallFailed
) -> Decision:
    events: list[NewEvent] = []
    data = began.data
    assert isinstance(data, ModelCallStarted)
    timed_out = ws.find(began.source, f"{command.id}/time_out")
    if timed_out is not None:
        assert isinstance(timed_out.data, ModelCallTimedOut)
        call.replaces = Replaced(id=timed_out.id, call=timed_out.data)
    elif parse_time(data.times_out_at) <= command.received_at_us:
        due = _time_out(began, data, "ledger")
        events.append(due)
        assert isinstance(due.data, ModelCallTimedOut)
        call.replaces = Replaced(id=due.id, call=due.data)
    call.rating = rate_call(ws.rates, call, parse_time(call.started_at), command.policy)
    events += charge_call(ws, call, command.received_at_us, command.actor, any_account=command.any_account)
    verb = "complete" if command.status == "success" else "fail"
    id_ = f"{command.id}/{verb}"
    events.append(_event(id_, command.app, command.received_at_us, command.actor, call))
    return Decision(events)


def _same_end(ended: Recorded, call: ModelCallCompleted | ModelCallFailed) -> Decision:
    different = [f for f in differing_fields(ended.data, call) if f not in {"replaces", "rating", "charge"}]
    if different or type(ended.data) is not type(call):
        errors = tuple(FieldError(f"$.{name}", "differs from the first end") for name in different)
        raise AlreadyFinished(f"the call ended before, at position {ended.position}", errors=errors)
    return Decision([], ended)


def _merged(
    began: Recorded, started: ModelCallStarted, command: FinishModelCall
) -> ModelCallCompleted | ModelCallFailed:
    """The whole call: the start's fields, replaced by what the end says."""
    end = command.end
    began_at_us = parse_time(started.started_at)
    if end.started_at is not None and accept_time(end.started_at, command.received_at_us) != began_at_us:
        raise InvalidInput(errors=(FieldError("$.started_at", "A call's start cannot change; leave it out"),))
    fields: dict[str, Any] = msgspec.structs.asdict(started)
    del fields["times_out_at"], fields["hold"]
    given: dict[str, Any] = {
        name: value
        for name, value in msgspec.structs.asdict(end).items()
        if value is not None and name not in {"id", "app", "status", "started_at"}
    }
    kind = ModelCallCompleted if command.status == "success" else ModelCallFailed
    whole: dict[str, Any] = {**fields, **given, "status": command.status, "started": began.position}
    call = kind(**whole)
    accept_details(call)
    return call


def _load_due(db: apsw.Connection, ws: WorkingSet, commands: Sequence[SweepModelCalls]) -> None:
    latest = max(command.received_at_us for command in commands)
    limit = max(command.limit for command in commands)
    query = (
        "SELECT position FROM model_calls WHERE times_out_at_us IS NOT NULL AND times_out_at_us <= ? "
        "ORDER BY times_out_at_us, position LIMIT ?"
    )
    positions = [position for (position,) in db.execute(query, (latest, limit))]
    ws.due = journal.at(db, positions)
    ws.load(db, [(event.source, id_) for event in ws.due for id_ in _ends(event.id)])


@handles(SweepModelCalls, _load_due, alone=True)
def sweep(ws: WorkingSet, command: SweepModelCalls) -> Decision:
    """Started calls whose time is over become timed out."""
    events: list[NewEvent] = []
    for began in ws.due:
        data = began.data
        assert isinstance(data, ModelCallStarted)
        open_ = all(ws.find(began.source, id_) is None for id_ in _ends(began.id)[1:])
        if open_ and parse_time(data.times_out_at) <= command.received_at_us:
            events.append(_time_out(began, data, command.actor))
    return Decision(events)


def _time_out(began: Recorded, data: ModelCallStarted, actor: str) -> NewEvent:
    fields = msgspec.structs.asdict(data)
    due_us = parse_time(fields.pop("times_out_at"))
    del fields["hold"]
    timed_out = ModelCallTimedOut(**fields, started=began.position)
    return _event(f"{began.id}/time_out", data.app or "", due_us, actor, timed_out)


def _event(id_: str, app: str, time_us: int, actor: str, data: msgspec.Struct) -> NewEvent:
    subject = subject_of(app, id_.partition("/")[0])
    return NewEvent(source_of(app), id_, subject, format_time(time_us), time_us, actor, data)
