"""What a change of a call does to the account that was charged for it: the difference, given back or charged.

Money returns to where it came from, in reverse; what was owed and has been paid since returns to the balance.
"""

from collections.abc import Sequence

import apsw
import msgspec
from msgspec import Struct

from ledger import journal, payer
from ledger.account_draw import Drawn, drawn_by, give_back, texts
from ledger.changed_call import KnownCall
from ledger.charging import tokens_of
from ledger.decision import WorkingSet
from ledger.teller import Teller
from projections import account_balance
from projections.account_book import AccountState
from schema.charge import Charge
from schema.correction import CHANGES, ChargeChange, ModelCallCorrected
from schema.entry import Recorded
from schema.model_call import FINISHED, ModelCall, ModelCallStarted, ModelCallTimedOut, Rating
from schema.money import amount_e10, amount_text


def standing(event: Recorded) -> Charge | None:
    """What a call has been charged in all, as of the event that priced it last."""
    data = event.data
    if isinstance(data, FINISHED):
        return data.charge
    if isinstance(data, (ModelCallStarted, ModelCallTimedOut)):  # it has not ended, so nothing priced it yet
        return None
    assert isinstance(data, (ModelCallCorrected, *CHANGES))
    return None if data.charges is None else data.charges.stands


def load_standing(
    db: apsw.Connection, ws: WorkingSet, calls: Sequence[KnownCall], commands: Sequence[Struct]
) -> dict[int, Charge]:
    """What calls have been charged, by their first positions, with the accounts and grants of that in the book."""
    if not account_balance.exist(db):
        return {}
    priced = dict(zip([c.row.position for c in calls], journal.at(db, [c.row.rated for c in calls]), strict=True))
    found = {position: charge for position, event in priced.items() if (charge := standing(event)) is not None}
    grants = dict.fromkeys((charge.account, id_) for charge in found.values() for id_ in charge.free or ())
    account_balance.load(db, ws.book, dict.fromkeys(charge.account for charge in found.values()))
    account_balance.load_grants(db, ws.book, grants)
    payer.load_details(db, ws.book, commands)
    return found


def cost_e10(rating: Rating) -> int:
    """What a rating comes to; without a price that is nothing yet."""
    return 0 if rating.cost is None else amount_e10(rating.cost)


def moved(
    teller: Teller, known: KnownCall, stands: Charge | None, after: Rating, call: ModelCall | None = None
) -> ChargeChange | None:
    """The charges of a change: `call` is the call after a correction. None where no account has to do with it."""
    before = known.call
    assert before is not None
    if call is None:
        account, use, tokens = (None if stands is None else stands.account), before, tokens_of(before.usage)
    else:
        account, use, tokens = _payer_after(teller, before, call, stands), call, tokens_of(call.usage)
    if stands is None and account is None:
        return None
    was = amount_e10(stands.amount) if stands is not None else 0
    if stands is not None and account == stands.account:
        delta = max(cost_e10(after) - cost_e10(known.rating), -was)
        return _difference(teller, stands, delta, tokens - stands.tokens, use)
    moves = [] if stands is None else [_returned(teller, stands, was, -stands.tokens)]
    if account is None:
        return ChargeChange(moves=moves)
    teller.settle_due(account)
    charge = teller.charge(account, teller.cover(account, cost_e10(after), use), tokens)
    return ChargeChange(moves=[*moves, charge], stands=_plain(charge))


def voided(teller: Teller, stands: Charge | None) -> ChargeChange | None:
    """All that a call was charged, given back."""
    if stands is None:
        return None
    return ChargeChange(moves=[_returned(teller, stands, amount_e10(stands.amount), -stands.tokens)])


def _payer_after(teller: Teller, before: ModelCall, call: ModelCall, stands: Charge | None) -> str | None:
    """The account stays unless the correction says whose the call is."""
    if (before.account, before.user_id) == (call.account, call.user_id):
        return None if stands is None else stands.account
    found = payer.payer(teller.book, call, any_account=False)
    return None if found is None else found.id


def _difference(teller: Teller, stands: Charge, delta: int, tokens: int, use: object) -> ChargeChange:
    if not delta and not tokens:
        return ChargeChange(moves=[], stands=_plain(stands))
    state = teller.settle_due(stands.account)
    charged = drawn_by(stands)
    if delta >= 0:
        more = teller.cover(state.id, delta, use)
        move, now = teller.charge(state.id, more, tokens), charged.plus(more)
    else:
        back = give_back(charged, -delta)
        move = _given(teller, state, back, tokens)
        free = {id_: part - back.free.get(id_, 0) for id_, part in charged.free.items()}
        now = Drawn(free, charged.balance_e10 - back.balance_e10, charged.owed_e10 - back.owed_e10)
    return ChargeChange(moves=[move], stands=_whole(state.id, now, stands.tokens + tokens))


def _returned(teller: Teller, stands: Charge, amount: int, tokens: int) -> Charge:
    state = teller.settle_due(stands.account)
    return _given(teller, state, give_back(drawn_by(stands), amount), tokens)


def _given(teller: Teller, state: AccountState, back: Drawn, tokens: int) -> Charge:
    """A charge below zero. A debt that was collected since cannot be forgiven any more: it returns to the balance."""
    owed = min(back.owed_e10, state.owed_e10)
    free = {id_: -part for id_, part in back.free.items()}
    return teller.charge(state.id, Drawn(free, -back.balance_e10 - back.owed_e10 + owed, -owed), tokens)


def _plain(charge: Charge) -> Charge:
    """What a charge comes to, without the transaction that it was."""
    return msgspec.structs.replace(charge, hold=None, sequence=None, after=None, takes_back=None)


def _whole(account: str, drawn: Drawn, tokens: int) -> Charge:
    amount = amount_text(drawn.paid_e10 + drawn.owed_e10)
    return Charge(
        account=account, amount=amount, free=texts(drawn.free), owed=amount_text(drawn.owed_e10), tokens=tokens
    )
