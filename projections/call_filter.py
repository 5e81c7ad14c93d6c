"""A call filter as SQL conditions over `model_calls`."""

from array import array
from collections.abc import Sequence

import apsw

from projections.bulk import Value
from projections.model_call import UNENDED
from projections.name import ABSENT
from schema.model_call_query import CallFilter, Dimension

Condition = tuple[str, tuple[Value, ...]]

FINISHED: Condition = ("status IS NOT (SELECT id FROM names WHERE name = 'processing')", ())
_FIRST_VERSION = ("model_call_versions", "revision = 0")
_SEARCHED = ("id", "request_id", "trace_id", "error_code", "error_message")


def name_ids(db: apsw.Connection, wanted: Sequence[str]) -> dict[str, int]:
    """The interned ids of names; an unknown name is missing, and no row has it."""
    query = "SELECT n.name, n.id FROM carray(?) c CROSS JOIN names n ON n.name = c.value"
    possible = tuple(name for name in wanted if name.isprintable())  # as all names are, and carray takes no NUL
    return dict(db.execute(query, (apsw.carray(possible),))) if possible else {}


def id_names(db: apsw.Connection, ids: Sequence[int]) -> dict[int, str | None]:
    """The names of interned ids; absent is None."""
    query = "SELECT n.id, n.name FROM carray(?) c CROSS JOIN names n ON n.id = c.value"
    found: dict[int, str | None] = dict(db.execute(query, (apsw.carray(array("q", ids)),))) if ids else {}
    found[ABSENT] = None
    return found


def dimension_ids(db: apsw.Connection, call_filter: CallFilter) -> dict[Dimension, int] | None:
    """The filtered dimensions as ids, or None where a name is unknown: then nothing matches."""
    dimensions = call_filter.dimensions()
    ids = name_ids(db, list(dict.fromkeys(dimensions.values())))
    if any(value not in ids for value in dimensions.values()):
        return None
    return {name: ids[value] for name, value in dimensions.items()}


def conditions(call_filter: CallFilter, dimensions: dict[Dimension, int]) -> list[Condition]:
    """Everything but the time range, each condition with what it binds."""
    found: list[Condition] = [(f"{name} = ?", (id_,)) for name, id_ in dimensions.items()]
    if call_filter.request_id is not None:
        found.append(("request_id = ?", (call_filter.request_id,)))
    if call_filter.trace_id is not None:
        found.append(("trace_id = ?", (call_filter.trace_id,)))
    if call_filter.min_duration_ms is not None:
        found.append(("duration_ms >= ?", (call_filter.min_duration_ms,)))
    if call_filter.q is not None:
        text = _lower(call_filter.q)
        places = " OR ".join(f"instr(lower(coalesce({column}, '')), ?)" for column in _SEARCHED)
        found.append((f"({places})", (text,) * len(_SEARCHED)))
    return found


def known_range(
    db: apsw.Connection, call_filter: CallFilter, dimensions: dict[Dimension, int]
) -> tuple[int, int] | None:
    """The starts of the first and the last finished call that were known `as_of`, of the filtered app if there is one.

    What came later must not move it.
    """
    app: list[Condition] = [("app = ?", (dimensions["app"],))] if "app" in dimensions else []
    where, bound = all_of([FINISHED, *app])
    ends: list[int] = []
    for table, which in sources(call_filter):
        for order in ("ASC", "DESC"):
            query = (
                f"SELECT started_at_us FROM {table} WHERE {which} AND {where} ORDER BY started_at_us {order} LIMIT 1"
            )
            ends += [start for (start,) in db.execute(query, bound)]
    return (min(ends), max(ends)) if ends else None


def _lower(text: str) -> str:
    """As SQLite's `lower`, which knows the letters A to Z alone."""
    return "".join(c.lower() if c.isascii() else c for c in text)


def all_of(found: Sequence[Condition]) -> tuple[str, tuple[Value, ...]]:
    """The conjunction of conditions and all that it binds."""
    sql = " AND ".join(condition for condition, _ in found) or "true"
    return sql, tuple(value for _, values in found for value in values)


def sources(call_filter: CallFilter) -> tuple[tuple[str, str], ...]:
    """The tables, and which of their rows, that hold each call once: as it is, or was at a position, or first finished.

    A row is of what was known from `rated` on; a version's, up to before `until`.
    """
    at, billed = call_filter.as_of, call_filter.basis == "billed"
    if at is None:
        return (("model_calls", "revision = 0"), _FIRST_VERSION) if billed else (("model_calls", "voided = 0"),)
    known, then = f"rated <= {at}", f"rated <= {at} AND until > {at}"
    if not billed:
        return ("model_calls", f"voided = 0 AND {known}"), ("model_call_versions", f"voided = 0 AND {then}")
    ended, begun = f"revision = 0 AND {known}", f"revision = {UNENDED} AND {then}"
    return ("model_calls", ended), ("model_call_versions", f"({ended} OR {begun})")
