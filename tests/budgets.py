"""Builders of budget commands, and what is spent of a budget told plainly."""

from pathlib import Path
from typing import Any

import msgspec

from ledger import budget_reads
from schema.budget import Budget, BudgetChange, BudgetView, ChangeBudget, CreateBudget, RetireBudget, check_budget
from tests.histories import ACTOR, APP, NOON_US, reading


def create_budget(
    amount: str = "10",
    id_: str = "b-1",
    kind: str = "app",
    scope_id: str = APP,
    *,
    at_us: int = NOON_US,
    scope: dict[str, Any] | None = None,
    **fields: Any,  # noqa: ANN401
) -> CreateBudget:
    posted = {
        "id": id_, "scope": {"kind": kind, "id": scope_id, **(scope or {})}, "amount": amount, "period": "day",
        **fields,
    }  # fmt: skip
    content = msgspec.convert(posted, Budget)
    check_budget(content)
    return CreateBudget(ACTOR, at_us, content)


def change_budget(id_: str = "b-1", *, at_us: int = NOON_US, **fields: Any) -> ChangeBudget:  # noqa: ANN401
    change = msgspec.convert(fields, BudgetChange)
    check_budget(change)
    return ChangeBudget(ACTOR, at_us, id_, None, change)


def retire_budget(id_: str = "b-1", *, at_us: int = NOON_US) -> RetireBudget:
    return RetireBudget(ACTOR, at_us, id_, None)


def read_budget(path: Path, id_: str = "b-1", at_us: int = NOON_US) -> BudgetView:
    with reading(path) as db:
        return budget_reads.one(db, id_, at_us)[0]
