"""Webhooks by id, as the latest change left them; their secrets are sealed here too."""

import apsw
import msgspec

from projections import catalogue
from projections.bulk import Value
from schema.webhook import WEBHOOK, Webhook

_COLUMNS = """
    url       TEXT NOT NULL,
    enabled   INTEGER NOT NULL,
    data_key  TEXT NOT NULL
"""


def _values(webhook: Webhook) -> tuple[Value, ...]:
    return webhook.url, int(webhook.enabled), webhook.secret.key


def count_live(db: apsw.Connection) -> int:
    """How many are not deleted."""
    return db.execute(f"SELECT count(*) FROM {WEBHOOK.table} WHERE NOT deleted").get


def enabled(db: apsw.Connection) -> list[Webhook]:
    """Those that are to be told, by id."""
    rows = db.execute(f"SELECT data FROM {WEBHOOK.table} WHERE NOT deleted AND enabled ORDER BY id").fetchall()
    return [msgspec.json.decode(str(data), type=Webhook) for (data,) in rows]


PROJECTION = catalogue.projection(WEBHOOK, 1, _COLUMNS, _values, unique="url")
