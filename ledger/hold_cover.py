"""Placing a hold: one for a call at a time, and never more than hard budgets have room for."""

from collections.abc import Mapping

from ledger.decision import WorkingSet
from ledger.teller import UNCOVERED, Cover, Teller
from ledger.watch_load import owner_user
from projections.budget_book import scope_keys
from schema.errors import FieldError, IdConflict
from schema.hold import PostedHold
from schema.money import amount_e10


def place_hold(
    ws: WorkingSet, teller: Teller, account: str, hold: PostedHold, tags: Mapping[str, str] | None = None
) -> bool:
    """Place a hold, the only one for its call; False where it was declined. Raises IdConflict, LimitReached."""
    teller.settle_due(account)
    if hold.call_id is not None:
        other = teller.book.hold_for(hold.app or "", hold.call_id, teller.now_us)
        if other is not None:
            message = f"Expected a call that no other hold is for; it has {other.id}"
            raise IdConflict(errors=(FieldError("$.call_id", message),))
    return teller.place(account, hold, _cover(ws, teller, account, hold, tags or hold.tags or {}))


def _cover(ws: WorkingSet, teller: Teller, account: str, hold: PostedHold, tags: Mapping[str, str]) -> Cover:
    """The budgets that a hold counts against; on a user's account it is for that user, unless it names another."""
    if ws.watch is None:
        return UNCOVERED
    user = hold.user_id or owner_user(teller.book.accounts[account].owner)
    keys = scope_keys(hold.app, account, user, hold.model, tags)
    budgets, lacking = ws.watch.room(keys, amount_e10(hold.amount), teller.now_us)
    return Cover(budgets or None, lacking)
