"""Payment clients by id, as the latest change left them; their secrets are sealed here too."""

from projections import catalogue
from projections.bulk import Value
from schema.payment_client import PAYMENT_CLIENT, PaymentClient

_COLUMNS = """
    enabled        INTEGER NOT NULL,
    data_key       TEXT NOT NULL
"""


def _values(client: PaymentClient) -> tuple[Value, ...]:
    return int(client.enabled), client.secret.key


PROJECTION = catalogue.projection(PAYMENT_CLIENT, 1, _COLUMNS, _values, unique="id")
