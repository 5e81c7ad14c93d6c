"""Packages by id, as the latest change left them."""

from projections import catalogue
from projections.bulk import Value
from projections.catalogue import Condition
from schema.package import PACKAGE, Package, PackageFilter

_COLUMNS = """
    name           TEXT NOT NULL,
    currency       TEXT NOT NULL,
    active         INTEGER NOT NULL
"""


def _values(package: Package) -> tuple[Value, ...]:
    return package.name, package.currency, int(package.active)


def conditions(wanted: PackageFilter) -> list[Condition]:
    """A filter as SQL conditions, each with what it binds."""
    found = catalogue.having(wanted.q, ("id", "name"))
    if wanted.currency is not None:
        found.append(("currency = ?", (wanted.currency,)))
    if wanted.active is not None:
        found.append(("active = ?", (int(wanted.active),)))
    if not wanted.deleted:
        found.append(("NOT deleted", ()))
    return found


PROJECTION = catalogue.projection(PACKAGE, 1, _COLUMNS, _values, unique="id")
