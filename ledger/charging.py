"""Charging a finished call, within its own event: it is kept whatever its account can pay."""

from collections.abc import Sequence

from ledger.account_draw import draw, usable
from ledger.decision import WorkingSet
from ledger.payer import payer
from ledger.teller import Teller, charge_of
from projections.account_book import HoldState
from schema.charge import Charge
from schema.entry import NewEvent
from schema.hold import HoldSettled, source_of
from schema.model_call import ModelCallCompleted, ModelCallFailed, ModelCallRecorded, Usage
from schema.money import COST_DECIMALS, amount_e10, format_scaled

Chargeable = ModelCallRecorded | ModelCallCompleted | ModelCallFailed


def charge_call(ws: WorkingSet, call: Chargeable, now_us: int, actor: str, *, any_account: bool) -> Sequence[NewEvent]:
    """Set a rated call's charge; what must happen before it, as the end of a hold, is returned as events."""
    book = ws.book
    if not book.accounts:
        return ()
    hold = book.hold_for(call.app or "", call.id, now_us) if book.linked else None
    if hold is not None:
        return _settle(ws, hold, call, now_us, actor)
    account = payer(book, call, any_account=any_account)
    if account is None:
        return ()
    rating = call.rating
    cost = None if rating is None else rating.cost
    amount = 0 if cost is None else amount_e10(cost)
    events: Sequence[NewEvent] = ()
    if account.due_us <= now_us:
        teller = Teller(book, now_us, actor, account.id)
        account = teller.settle_due(account.id)
        book, events = teller.book, teller.events
    tokens = tokens_of(call.usage)
    balance = account.balance_e10
    if 0 < amount <= balance - account.balance_held_e10 and cost is not None and not account.grants:  # as nearly always
        total = balance + account.free_e10 - amount
        after = format_scaled(total, COST_DECIMALS)
        charge = Charge(account=account.id, amount=cost, tokens=tokens, sequence=account.sequence + 1, after=after)
        call.charge = charge
        if not events:
            ws.book.plain = charge, account, amount, total
        return events
    grants = usable(book, account, now_us, call)
    drawn = draw(account, grants, amount, overdraft=account.overdraft == "unheld")
    call.charge = charge_of(account, drawn, tokens)
    return events


def _settle(ws: WorkingSet, hold: HoldState, call: Chargeable, now_us: int, actor: str) -> Sequence[NewEvent]:
    """The hold for this call is settled by what the call cost; one that was settled before stays as it is."""
    rating = call.rating
    amount = amount_e10(rating.cost) if rating is not None and rating.cost is not None else 0
    teller = Teller(ws.book, now_us, actor, hold.account)
    takes_back = None
    if hold.status == "open":
        moved = teller.settle(hold, amount, call)
    else:
        event = ws.find(source_of(hold.app or None), f"{hold.id}/settle")
        assert event is not None
        assert isinstance(event.data, HoldSettled)
        moved, takes_back = event.data.charge, event.data.budget_spend
    call.charge = Charge(
        account=moved.account, amount=moved.amount, free=moved.free, owed=moved.owed, tokens=tokens_of(call.usage),
        hold=hold.id, takes_back=takes_back,
    )  # fmt: skip
    return teller.events


def tokens_of(usage: Usage | None) -> int:
    """Input and output together."""
    return 0 if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0)
