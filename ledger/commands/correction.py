"""Corrections and voids of finished calls: a new event that names what it replaces."""

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec
from msgspec import UNSET

from ledger import payer
from ledger.call_rating import rate_call
from ledger.changed_call import KnownCall, known_calls
from ledger.decision import Decision, WorkingSet, handles
from ledger.recharging import load_standing, moved, voided
from ledger.teller import Teller
from schema.acceptance import accept, differing_values
from schema.correction import CorrectModelCall, ModelCallCorrected, ModelCallVoided, PostedCorrection
from schema.entry import NewEvent, Recorded
from schema.errors import CallVoided, FieldError, IdConflict, InvalidInput, NotFinished, NotFound
from schema.model_call import ModelCall, source_of, subject_of
from schema.times import format_time


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CorrectModelCall]) -> None:
    (command,) = commands
    source = source_of(command.app)
    ws.load(db, [(source, command.id), (source, _event_id(command))])
    first = ws.find(source, command.id)
    calls = known_calls(db, [] if first is None else [first.position])
    ws.known = list(calls)
    ws.rates.refresh(db)
    _load_accounts(db, ws, calls, command)


def _load_accounts(db: apsw.Connection, ws: WorkingSet, calls: Sequence[KnownCall], command: CorrectModelCall) -> None:
    """What the call has been charged, and whom it may be charged to now."""
    ws.charges = load_standing(db, ws, calls, [command])
    given = command.correction.set
    call = calls[0].call if calls else None
    if given is not None and call is not None:
        user, account = (getattr(call if v is UNSET else given, n) for n in _PAYERS for v in [getattr(given, n)])
        payer.load(db, ws, [payer.CallKeys(command.app, command.id, user, account)], [command])


_PAYERS = ("user_id", "account")


@handles(CorrectModelCall, _load, alone=True)
def correct(ws: WorkingSet, command: CorrectModelCall) -> Decision:
    """A finished call gets other fields, and is rated anew by them; or it should never have been counted."""
    if not ws.known:
        raise NotFound(f"there is no call {command.id}")
    first = ws.find(source_of(command.app), _event_id(command))
    if first is not None:
        return _same_or_conflict(first, command.correction)
    (known,) = ws.known
    call = known.call
    if call is None:
        raise NotFinished(f"call {command.id} has not ended")
    if known.row.voided:
        raise CallVoided(f"call {command.id} was voided, at position {known.row.rated}")
    teller = Teller(ws.book, command.received_at_us, command.actor)
    stands = ws.charges.get(known.row.position)
    if command.correction.void:
        data = _voided(ws, known, command)
        data.charges = voided(teller, stands)
    else:
        data = _corrected(ws, known, call, command)
        assert data.rating is not None
        data.charges = moved(teller, known, stands, data.rating, data)
    teller.conclude(_event(command, data), data.charges)
    return teller.decision()


def _event_id(command: CorrectModelCall) -> str:
    return f"{command.id}/correct/{command.correction.id}"


def _same_or_conflict(first: Recorded, posted: PostedCorrection) -> Decision:
    data = first.data
    assert isinstance(data, (ModelCallCorrected, ModelCallVoided))
    told: dict[str, Any] = {"reason": data.reason, "void": isinstance(data, ModelCallVoided)}
    asked: dict[str, Any] = {"reason": posted.reason, "void": posted.void}
    if isinstance(data, ModelCallCorrected):
        told["set"] = data.set
        asked["set"] = as_given(posted)
    different = differing_values(told, asked)
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(
            f"this correction was made before, at position {first.position}, with other content", errors=errors
        )
    return Decision([], first)


def as_given(posted: PostedCorrection) -> dict[str, Any]:
    """What a correction sets, as plain JSON."""
    found: dict[str, Any] = msgspec.to_builtins(posted.set) if posted.set is not None else {}
    return found


def _corrected(ws: WorkingSet, known: KnownCall, call: ModelCall, command: CorrectModelCall) -> ModelCallCorrected:
    fields: dict[str, Any] = {name: getattr(call, name) for name in ModelCall.__struct_fields__}
    posted = command.correction
    given = posted.set
    assert given is not None
    fields |= {n: v for n in given.__struct_fields__ if (v := getattr(given, n)) is not UNSET}
    data = ModelCallCorrected(
        **fields, recorded=known.row.position, correction=posted.id, reason=posted.reason, set=as_given(posted),
        replaces=ws.counted(known),
    )  # fmt: skip
    try:
        started_at_us = accept(data, command.received_at_us)
        data.rating = rate_call(ws.rates, data, started_at_us, command.policy)
    except InvalidInput as error:  # its paths are those of a call
        if not error.errors:
            raise
        errors = tuple(FieldError(f"$.set{each.path[1:]}", each.message) for each in error.errors)
        raise type(error)(errors=errors) from None
    return data


def _voided(ws: WorkingSet, known: KnownCall, command: CorrectModelCall) -> ModelCallVoided:
    return ModelCallVoided(
        id=command.id, app=command.app, recorded=known.row.position, correction=command.correction.id,
        reason=command.correction.reason, replaces=ws.counted(known),
    )  # fmt: skip


def _event(command: CorrectModelCall, data: ModelCallCorrected | ModelCallVoided) -> NewEvent:
    now_us = command.received_at_us
    subject = subject_of(command.app, command.id)
    return NewEvent(
        source_of(command.app), _event_id(command), subject, format_time(now_us), now_us, command.actor, data
    )  # fmt: skip
