"""The latest calls of all models, newest first: a bounded number of them, which tell how models do."""

from collections.abc import Sequence
from typing import Any, cast

import apsw
from msgspec import Struct

from projections.call_filter import FINISHED, id_names, name_ids
from schema.model_status import SCAN_CALLS_MAX


class Latest(Struct, frozen=True):
    """A finished call that counts."""

    provider: str
    model: str
    type: Any
    status: str
    started_at_us: int
    duration_ms: int | None
    ttfb_ms: int | None
    error_code: str | None


_SEEN = "provider, model, type, status, started_at_us, duration_ms, ttfb_ms, error_code"


def latest_calls(db: apsw.Connection, app: str | None) -> tuple[list[Latest], int | None]:
    """Finished calls that are not voided, as corrected, of an app or of all, newest first.

    And the start of the oldest call that was looked at, where older ones were not.
    """
    scan = (
        "SELECT position, voided, app, provider, model, type, status, started_at_us, duration_ms, ttfb_ms, error_code "
        "FROM model_calls ORDER BY started_at_us DESC, position DESC LIMIT ?"
    )
    where, bound = f"voided = 0 AND {FINISHED[0]}", [SCAN_CALLS_MAX]
    if app is not None:
        ids = name_ids(db, [app])
        if not ids:
            return [], None
        where, bound = f"{where} AND app = ?", [*bound, ids[app]]
    query = f"SELECT {_SEEN} FROM ({scan}) WHERE {where} ORDER BY started_at_us DESC, position DESC"
    rows: list[Any] = db.execute(query, bound).fetchall()
    names = id_names(db, list({id_ for row in rows for id_ in row[:4]}))
    found: list[Latest] = []
    for *ids, started_us, duration_ms, ttfb_ms, code in rows:
        provider, model, type_, status = (names[id_] or "" for id_ in ids)
        found.append(Latest(provider, model, type_, status, started_us, duration_ms, ttfb_ms, code))
    edge = db.execute(
        "SELECT started_at_us FROM model_calls ORDER BY started_at_us DESC, position DESC LIMIT 1 OFFSET ?",
        (SCAN_CALLS_MAX,),
    ).get
    oldest = db.execute(f"SELECT min(started_at_us) FROM ({scan})", (SCAN_CALLS_MAX,)).get
    return found, None if edge is None else oldest


def offered(db: apsw.Connection, limit: int) -> Sequence[tuple[str, str]]:
    """Provider and name of registered models, by these."""
    query = "SELECT provider, model FROM models WHERE NOT deleted ORDER BY provider, model LIMIT ?"
    return cast("list[tuple[str, str]]", db.execute(query, (limit,)).fetchall())
