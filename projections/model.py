"""Models by id, as the latest change left them."""

from typing import Any

import apsw
from msgspec import Struct

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from schema.model import MODEL, GroupCount, KeptModel, ModelFilter, ModelGroups

GROUPS_MAX = 1_000

_COLUMNS = """
    provider       TEXT NOT NULL,
    model          TEXT NOT NULL,
    display_name   TEXT,
    group_name     TEXT,
    category       TEXT,
    active         INTEGER NOT NULL
"""


def _values(model: KeptModel) -> tuple[Value, ...]:
    return model.provider, model.model, model.display_name, model.group, model.category, int(model.active)


def conditions(wanted: ModelFilter) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found = catalogue.having(wanted.q, ("id", "model", "coalesce(display_name, '')"))
    equal = {"provider": wanted.provider, "group_name": wanted.group, "category": wanted.category}
    found += [(f"{column} = ?", (value,)) for column, value in equal.items() if value is not None]
    if wanted.active is not None:
        found.append(("active = ?", (int(wanted.active),)))
    if wanted.source is not None:
        found.append(("coalesce(data ->> '$.source', 'hand') = ?", (wanted.source,)))
    if wanted.missing is not None:
        found.append((f"data ->> '$.missing_since' IS {'NOT ' if wanted.missing else ''}NULL", ()))
    if wanted.capability is not None:
        capable = "EXISTS (SELECT 1 FROM json_each(data, '$.capabilities') c WHERE c.value = ?)"
        found.append((capable, (wanted.capability,)))
    if not wanted.deleted:
        found.append(("NOT deleted", ()))
    return found


class Known(Struct, frozen=True):
    """A model of a provider: its id, its latest event, whether its vendor's list has it."""

    id: str
    model: str
    deleted: bool
    position: int
    missing: bool


def known(db: apsw.Connection, provider: str, limit: int) -> list[Known]:
    """A provider's models, deleted ones too."""
    query = (
        "SELECT id, model, deleted, position, data ->> '$.missing_since' IS NOT NULL FROM models "
        "WHERE provider = ? ORDER BY model, deleted, id LIMIT ?"
    )
    rows: list[Any] = db.execute(query, (provider, limit)).fetchall()
    return [Known(id_, name, bool(deleted), position, bool(missing)) for id_, name, deleted, position, missing in rows]


def groups(db: apsw.Connection) -> ModelGroups:
    """Models that are not deleted, counted by group and by category, at most 1,000 of each."""
    return ModelGroups(groups=_counts(db, "group_name"), categories=_counts(db, "category"))


def _counts(db: apsw.Connection, column: str) -> list[GroupCount]:
    query = f"SELECT {column}, count(*) FROM models WHERE NOT deleted GROUP BY {column} ORDER BY {column} LIMIT ?"
    return [GroupCount(name=name, models=count) for name, count in db.execute(query, (GROUPS_MAX,))]


PROJECTION = catalogue.projection(MODEL, 1, _COLUMNS, _values, unique="provider, model")
