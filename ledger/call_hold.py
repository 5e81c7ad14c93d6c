"""A call that begins with a hold: both in one decision, or neither, and then it says what is missing."""

from collections.abc import Sequence

import apsw
import msgspec

from ledger import payer
from ledger.call_rating import rate_call
from ledger.decision import Decision, WorkingSet
from ledger.hold_cover import place_hold
from ledger.teller import Teller
from projections import account_balance
from projections.budget_book import tags_of
from schema.acceptance import differing_fields
from schema.charge import HOLD_SECONDS_MAX
from schema.entry import NewEvent, Recorded
from schema.errors import FieldError, Forbidden, IdConflict, InvalidInput, NoPrice, NotFound
from schema.hold import HoldDeclined, PostedHold
from schema.hold import source_of as hold_source
from schema.model_call import CallHold, ModelCall, ModelCallStart, ModelCallStartDeclined, RatingPolicy, StartModelCall
from schema.model_call import source_of as call_source
from schema.times import SECOND_US, format_time

_DECLINE = "decline"
_OWN = {"payer", "missing", "budget"}


def load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[StartModelCall]) -> None:
    """Bring in who may pay for the calls, and whether their holds were asked for before."""
    if not commands:
        return
    calls = [command.call for command in commands]
    ws.rates.refresh(db)
    ws.load(db, [(call_source(call.app or ""), f"{call.id}/{_DECLINE}") for call in calls])
    ws.load(db, [(hold_source(call.app), call.id or "") for call in calls])
    named = [call.hold.account for call in calls if call.hold is not None and call.hold.account is not None]
    account_balance.load(db, ws.book, dict.fromkeys(named))
    payer.load(db, ws, calls, commands)


def begin(ws: WorkingSet, command: StartModelCall, started: NewEvent) -> Decision:
    """The hold and the start; or the decline, which is final for the id of the start, not for that of the call."""
    call = command.call
    wanted, app, id_ = call.hold, call.app or "", call.id or ""
    assert wanted is not None
    declined = ws.find(call_source(app), f"{id_}/{_DECLINE}")
    if declined is not None:
        return _same_or_conflict(declined, started)
    if ws.find(hold_source(call.app), id_) is not None:
        message = "Expected an id that no hold has: the hold of a call has the call's"
        raise IdConflict(errors=(FieldError("$.id", message),))
    account = _account(ws, command, wanted)
    hold = PostedHold(
        id=id_, amount=_amount(ws, command, wanted), call_id=id_, app=call.app, provider=call.provider,
        model=call.model, type=call.type, user_id=call.user_id,
        expires_in_s=wanted.expires_in_s or max(1, min(command.timeout_us // SECOND_US, HOLD_SECONDS_MAX)),
    )  # fmt: skip
    teller = Teller(ws.book, command.received_at_us, command.actor, account)
    tags = {} if ws.watch is None else tags_of(call.metadata, ws.watch.budgets.tag_keys)
    if place_hold(ws, teller, account, hold, tags):
        teller.add(started)
    else:
        lacking = teller.events[-1].data
        assert isinstance(lacking, HoldDeclined)
        teller.add(_declined(command, started, lacking))
    return teller.decision()


def _declined(command: StartModelCall, started: NewEvent, lacking: HoldDeclined) -> NewEvent:
    call, now_us = command.call, command.received_at_us
    data = ModelCallStartDeclined(
        **msgspec.structs.asdict(call), payer=lacking.account, missing=lacking.missing, budget=lacking.budget
    )
    id_ = f"{call.id}/{_DECLINE}"
    return NewEvent(started.source, id_, started.subject, format_time(now_us), now_us, command.actor, data)


def _same_or_conflict(declined: Recorded, started: NewEvent) -> Decision:
    different = [name for name in differing_fields(declined.data, started.data) if name not in _OWN]
    if different:
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(f"this start was declined before, at position {declined.position}, otherwise", errors=errors)
    return Decision([], declined)


def _account(ws: WorkingSet, command: StartModelCall, wanted: CallHold) -> str:
    call: ModelCallStart = command.call
    if wanted.account is not None:
        named = ws.book.accounts.get(wanted.account)
        if named is None:
            raise NotFound(f"there is no account {wanted.account}")
        if not command.any_account and not payer.may_use(named, call.app):
            raise Forbidden(f"account {wanted.account} is not this app's, nor granted to it")
        return named.id
    found = payer.payer(ws.book, call, any_account=command.any_account)
    if found is None:
        message = "Expected an account: neither the call's user nor its app has one"
        raise InvalidInput(errors=(FieldError("$.hold.account", message),))
    return found.id


def _amount(ws: WorkingSet, command: StartModelCall, wanted: CallHold) -> str:
    if wanted.amount is not None:
        return wanted.amount
    call = command.call
    estimated = ModelCall(
        id=call.id or "", app=call.app, provider=call.provider, model=call.model, type=call.type, status="success",
        started_at=call.started_at, usage=wanted.estimate,
    )  # fmt: skip
    rating = rate_call(ws.rates, estimated, command.started_at_us, RatingPolicy())
    if rating.cost is None:
        message = f"This cannot be priced ({rating.reason}): name an amount instead"
        raise NoPrice(errors=(FieldError("$.hold.estimate", message),))
    return rating.cost
