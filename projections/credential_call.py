"""How many finished calls name each credential, and when the latest of them began.

A credential is what calls say, registered or not. Corrections and voids are taken off the count; the latest start stays
what it was, because what came before it is not kept.
"""

from collections.abc import Iterator, Sequence

import apsw
import msgspec

from projections.projection import Projection, Table, Target
from schema.correction import ModelCallCorrected, ModelCallVoided
from schema.entry import Recorded
from schema.model_call import (
    FINISHED,
    ModelCallCompleted,
    ModelCallFailed,
    ModelCallRecorded,
    ModelCallTimedOut,
)
from schema.times import parse_time

TABLE = "credential_calls"
_COLUMNS = """
    credential       TEXT PRIMARY KEY,
    calls            INTEGER NOT NULL,
    last_used_at_us  INTEGER
"""
_PUT = (
    "VALUES (?, ?, ?) ON CONFLICT (credential) DO UPDATE SET calls = calls + excluded.calls, "
    "last_used_at_us = max(coalesce(last_used_at_us, excluded.last_used_at_us), "
    "coalesce(excluded.last_used_at_us, last_used_at_us))"
)
_ENDS = (ModelCallCompleted, ModelCallFailed)
_OF = (*FINISHED, ModelCallTimedOut, ModelCallCorrected, ModelCallVoided)

Step = tuple[str | None, int, int | None]


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    found: dict[str, tuple[int, int | None]] = {}
    for event in events:
        data = event.data
        if type(data) is ModelCallRecorded:  # nearly all there is, and most name none
            if data.credential_id is not None:
                _add(found, (data.credential_id, 1, event.time_us))
        elif isinstance(data, _OF):
            for step in _steps(data):
                _add(found, step)
    if found:
        rows = [(id_, calls, last_us) for id_, (calls, last_us) in found.items()]
        target.db.executemany(f"INSERT INTO {target.table(TABLE)} {_PUT}", rows)


def _steps(
    data: ModelCallRecorded
    | ModelCallCompleted
    | ModelCallFailed
    | ModelCallTimedOut
    | ModelCallCorrected
    | ModelCallVoided,
) -> Iterator[Step]:
    if not isinstance(data, ModelCallVoided):
        yield data.credential_id, 1, parse_time(data.started_at)
    if isinstance(data, ModelCallCorrected | ModelCallVoided):
        yield data.replaces.credential_id, -1, None
    elif isinstance(data, _ENDS) and data.replaces is not None:
        yield data.replaces.call.credential_id, -1, None


def _add(found: dict[str, tuple[int, int | None]], step: Step) -> None:
    id_, sign, started_us = step
    if id_ is None:
        return
    calls, last_us = found.get(id_, (0, None))
    times = [each for each in (last_us, started_us) if each is not None]
    found[id_] = calls + sign, max(times, default=None)


def used(db: apsw.Connection, credentials: Sequence[str]) -> dict[str, tuple[int, int | None]]:
    """Calls and latest start of those that were named at all."""
    query = (
        f"SELECT c.credential, c.calls, c.last_used_at_us FROM json_each(?) k "
        f"CROSS JOIN {TABLE} c ON c.credential = k.value"
    )
    rows = db.execute(query, (msgspec.json.encode(credentials).decode(),))
    return {id_: (calls, last_us) for id_, calls, last_us in rows}


PROJECTION = Projection(
    name=TABLE,
    version=1,
    tables=(Table(TABLE, _COLUMNS, key="credential"),),
    apply=_apply,
    of=_OF,
)
