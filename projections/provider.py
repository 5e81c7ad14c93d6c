"""Providers by id, as the latest change left them."""

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


PROJECTION = catalogue.projection(PROVIDER, 1, _COLUMNS, _values, unique="name")
