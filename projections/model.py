"""Models by id, as the latest change left them."""

import apsw

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from schema.model import MODEL, GroupCount, Model, ModelFilter, ModelGroups

GROUPS_MAX = 1_000

_COLUMNS = """
    provider       TEXT NOT NULL,
    model          TEXT NOT NULL,
    display_name   TEXT,
    group_name     TEXT,
    category       TEXT,
    active         INTEGER NOT NULL
"""


def _values(model: Model) -> tuple[Value, ...]:
    return model.provider, model.model, model.display_name, model.group, model.category, int(model.active)


def conditions(wanted: ModelFilter) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found = catalogue.having(wanted.q, ("id", "model", "coalesce(display_name, '')"))
    equal = {"provider": wanted.provider, "group_name": wanted.group, "category": wanted.category}
    found += [(f"{column} = ?", (value,)) for column, value in equal.items() if value is not None]
    if wanted.active is not None:
        found.append(("active = ?", (int(wanted.active),)))
    if wanted.capability is not None:
        capable = "EXISTS (SELECT 1 FROM json_each(data, '$.capabilities') c WHERE c.value = ?)"
        found.append((capable, (wanted.capability,)))
    if not wanted.deleted:
        found.append(("NOT deleted", ()))
    return found


def groups(db: apsw.Connection) -> ModelGroups:
    """Models that are not deleted, counted by group and by category, at most 1,000 of each."""
    return ModelGroups(groups=_counts(db, "group_name"), categories=_counts(db, "category"))


def _counts(db: apsw.Connection, column: str) -> list[GroupCount]:
    query = f"SELECT {column}, count(*) FROM models WHERE NOT deleted GROUP BY {column} ORDER BY {column} LIMIT ?"
    return [GroupCount(name=name, models=count) for name, count in db.execute(query, (GROUPS_MAX,))]


PROJECTION = catalogue.projection(MODEL, 1, _COLUMNS, _values, unique="provider, model")
