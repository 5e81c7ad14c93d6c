"""Budgets by id, as the latest change left their rules; what is spent of them is in `budget_sums`."""

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from schema.budget import BUDGET, Budget, BudgetFilter

_COLUMNS = """
    name           TEXT,
    scope          TEXT NOT NULL,
    kind           TEXT NOT NULL,
    scope_id       TEXT NOT NULL,
    app            TEXT,
    enforcement    TEXT NOT NULL
"""


def _values(budget: Budget) -> tuple[Value, ...]:
    scope = budget.scope
    return budget.name, scope.text, scope.kind, scope.id, scope.app, budget.enforcement


def conditions(wanted: BudgetFilter) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found = catalogue.having(wanted.q, ("id", "coalesce(name, '')", "scope_id"))
    pairs = {
        "kind = ?": wanted.kind, "scope_id = ?": wanted.scope_id, "app = ?": wanted.app,
        "enforcement = ?": wanted.enforcement,
    }  # fmt: skip
    found += [(condition, (value,)) for condition, value in pairs.items() if value is not None]
    return found if wanted.retired else [*found, ("NOT deleted", ())]


PROJECTION = catalogue.projection(BUDGET, 1, _COLUMNS, _values, unique="scope")
