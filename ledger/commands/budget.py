"""Budgets: created, changed, retired."""

from collections.abc import Sequence

import apsw
import msgspec

from ledger import budget_opening, catalogue
from ledger.budget_opening import Opening
from ledger.decision import Decision, WorkingSet, handles
from schema.acceptance import differing_fields
from schema.budget import (
    BUDGET,
    BUDGETS_MAX,
    SCOPE_BUDGETS_MAX,
    Budget,
    BudgetCreated,
    ChangeBudget,
    CreateBudget,
    RetireBudget,
)
from schema.errors import FieldError, IdConflict, LedgerError, LimitReached
from schema.money import amount_text
from schema.times import format_time

_COUNTS = "SELECT count(*), count(*) FILTER (WHERE scope = ?) FROM budget_rules"


def _load_created(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CreateBudget]) -> None:
    (command,) = commands
    content = command.content
    catalogue.load(db, ws, BUDGET, content.id)
    if ws.find(BUDGET.source, content.id) is None:
        ((total, same),) = db.execute(_COUNTS, (content.scope.text,))
        ws.known = [total, same, _opening(db, command)]


def _opening(db: apsw.Connection, command: CreateBudget) -> Opening | LedgerError:
    """What refuses it is for the decision to say: a load that raises is a fault of the storage."""
    try:
        return budget_opening.read(db, command.content, command.received_at_us)
    except LedgerError as error:
        return error


@handles(CreateBudget, _load_created, alone=True)
def create(ws: WorkingSet, command: CreateBudget) -> Decision:
    """A budget comes into force, with what its calls came to before in the period that is now."""
    content = command.content
    first = ws.find(BUDGET.source, content.id)
    if first is not None:
        assert isinstance(first.data, BudgetCreated)
        different = differing_fields(content, Budget(**catalogue.fields(BUDGET, first.data)))
        if different:
            errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
            raise IdConflict(f"this id was used before, at position {first.position}, otherwise", errors=errors)
        return Decision([], first)
    total, same, opening = ws.known
    if total >= BUDGETS_MAX:
        raise LimitReached(f"{BUDGETS_MAX:,} budgets are in force")
    if same >= SCOPE_BUDGETS_MAX:
        raise LimitReached(f"{SCOPE_BUDGETS_MAX} budgets of this scope are in force")
    if isinstance(opening, LedgerError):
        raise opening
    spent = {format_time(at): amount_text(amount) for at, amount in sorted(opening.spent_e10.items())}
    data = BudgetCreated(
        **msgspec.structs.asdict(content), counts_from=format_time(opening.counts_from_us), opening=spent or None
    )
    return Decision([catalogue.event_of(BUDGET, command, content.id, content.id, data)])


def _load_changed(db: apsw.Connection, ws: WorkingSet, commands: Sequence[ChangeBudget | RetireBudget]) -> None:
    for command in commands:
        catalogue.load(db, ws, BUDGET, command.id)


@handles(ChangeBudget, _load_changed, alone=True)
def change(ws: WorkingSet, command: ChangeBudget) -> Decision:
    """A budget gets another amount or other rules, if anything differs; what it counted stays."""
    return catalogue.replaced(ws, BUDGET, command, catalogue.changed(ws, BUDGET, command))


@handles(RetireBudget, _load_changed, alone=True)
def retire(ws: WorkingSet, command: RetireBudget) -> Decision:
    """A budget is no longer in force."""
    return catalogue.deleted(ws, BUDGET, command)
