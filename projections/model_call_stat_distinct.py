"""How many users, models … a statistic's cells have: exact, because a name counts where its calls do not cancel out."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from projections.model_call_stat_rows import StatSource
from projections.model_call_stat_top import OTHERS, Cell, Group, among
from projections.name import ABSENT
from schema.errors import FieldError, InvalidInput
from schema.model_call_query import Dimension, StatQuery

PAIRS_MAX = 1_000_000

Counts = dict[Dimension, int]


class Distinct(Struct):
    """The counts of cells, and over all of them."""

    cells: dict[Cell, Counts]
    totals: Counts


def distinct_of(source: StatSource, query: StatQuery, kept: Sequence[Group] | None) -> Distinct:
    """The distinct names of each dimension asked for; groups that are not kept are one. An absent name is none.

    Raises InvalidInput where cells and their names are too many pairs to count.
    """
    found = Distinct({}, dict.fromkeys(query.distinct, 0))
    if not source.ranges:
        return found
    whole = msgspec.structs.replace(source, ranges=[(source.ranges[0][0], source.ranges[-1][1])])
    total = msgspec.structs.replace(query, group_by=())
    for dimension in query.distinct:
        over_all = _counted(whole, total, dimension, None)
        found.totals[dimension] = over_all.get((0, ()), 0)
        by_cell = over_all if whole == source and query == total else _counted(source, query, dimension, kept)
        for cell, count in by_cell.items():
            found.cells.setdefault(cell, dict.fromkeys(query.distinct, 0))[dimension] = count
    return found


def _counted(
    source: StatSource, query: StatQuery, dimension: Dimension, kept: Sequence[Group] | None
) -> dict[Cell, int]:
    rows = source.rows(tuple(dict.fromkeys((*query.group_by, dimension))), ("calls",))
    is_kept, bound = ("true", ()) if kept is None else (among(query), (msgspec.json.encode(kept).decode(),))
    shown = ", ".join(["i", *(f"iif(kept, {name}, {OTHERS[0]}) AS g{n}" for n, name in enumerate(query.group_by))])
    cell = ", ".join(["i", *(f"g{n}" for n in range(len(query.group_by)))])
    pairs = (
        f"SELECT {shown}, {dimension} AS named FROM (SELECT *, {is_kept} AS kept FROM ({rows.arms})) "
        f"WHERE named <> {ABSENT} GROUP BY {cell}, named HAVING sum(calls) <> 0 LIMIT {PAIRS_MAX + 1}"
    )
    found = rows.run(source.db, f"SELECT {cell}, count(*) FROM ({pairs}) GROUP BY {cell}", (*bound, *rows.bound))
    if sum(row[-1] for row in found) > PAIRS_MAX:
        message = f"Expected at most {PAIRS_MAX} of cell and {dimension}; narrow the query"
        raise InvalidInput(errors=(FieldError("$.distinct", message),))
    return {(index, OTHERS if OTHERS[0] in group else tuple(group)): count for index, *group, count in found}
