"""Providers by id, as the latest change left them."""

from typing import cast

import apsw
import msgspec

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from schema.provider import PROVIDER, Provider, ProviderFilter

_COLUMNS = """
    name           TEXT NOT NULL,
    display_name   TEXT,
    type           TEXT NOT NULL,
    enabled        INTEGER NOT NULL
"""


def _values(provider: Provider) -> tuple[Value, ...]:
    return provider.name, provider.display_name, provider.type, int(provider.enabled)


def conditions(wanted: ProviderFilter) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found = catalogue.having(wanted.q, ("id", "name", "coalesce(display_name, '')"))
    if wanted.type is not None:
        found.append(("type = ?", (wanted.type,)))
    if wanted.enabled is not None:
        found.append(("enabled = ?", (int(wanted.enabled),)))
    if not wanted.deleted:
        found.append(("NOT deleted", ()))
    return found


def fallbacks(db: apsw.Connection) -> dict[str, list[str]]:
    """Each live provider that falls back to others' prices, with those in the order they are tried."""
    query = (
        f"SELECT id, data ->> '$.fallback_providers' FROM {PROVIDER.table} "
        "WHERE NOT deleted AND data ->> '$.fallback_providers' IS NOT NULL"
    )
    rows = cast("list[tuple[str, str]]", db.execute(query).fetchall())
    return {id_: msgspec.json.decode(names, type=list[str]) for id_, names in rows}


def registered(db: apsw.Connection) -> dict[str, Provider | None]:
    """Every provider that ever was; None where it was deleted."""
    rows = cast("list[tuple[str, int, str]]", db.execute(f"SELECT id, deleted, data FROM {PROVIDER.table}").fetchall())
    return {id_: None if deleted else msgspec.json.decode(data, type=Provider) for id_, deleted, data in rows}


PROJECTION = catalogue.projection(PROVIDER, 1, _COLUMNS, _values, unique="name")
