"""Conversions by currency, as the latest change left them."""

from projections import catalogue
from projections.bulk import Value
from schema.conversion import CONVERSION, Conversion

_COLUMNS = """
    active         INTEGER NOT NULL
"""


def _values(conversion: Conversion) -> tuple[Value, ...]:
    return (int(conversion.active),)


PROJECTION = catalogue.projection(CONVERSION, 1, _COLUMNS, _values, unique="id")
