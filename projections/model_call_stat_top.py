"""The sums of a query's cells: of every group, or of the greatest and the rest as one.

The greatest are found in SQL over the whole range, so that what is held here is the answer and no more. The rest is the
whole without them: it is added up, never left out.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from projections.model_call_stat import MEASURES
from projections.model_call_stat_rows import SPLIT, StatSource
from schema.errors import FieldError, InvalidInput
from schema.model_call_query import Ranking, StatQuery
from schema.money import CREDIT_E10

CELLS_MAX = 100_000
GROUPS_MAX = 1_000_000

Group = tuple[int, ...]
Cell = tuple[int, Group]
Sums = list[int]  # the measures
OTHERS: Group = (-1,)  # the group of the remainder: no name has this id
NOTHING = (0,) * len(MEASURES)


class Found(Struct):
    """Sums by bucket index and group, over all of them, and how many groups there are in all.

    `kept`: the groups that are told apart, where not all of them are.
    """

    cells: dict[Cell, Sums]
    totals: Sums
    groups: int
    kept: list[Group] | None = None


def found_of(source: StatSource, query: StatQuery) -> Found:
    """The sums of a query; raises InvalidInput where they are too many."""
    if query.top is None or not query.group_by:
        cells = _cells(source, query)
        return Found(cells, _added(cells), len({group for _, group in cells}))
    kept, groups = _greatest(source, query, query.top)
    whole = _cells(source, msgspec.structs.replace(query, group_by=()))
    cells = _cells(source, query, kept)
    if groups > len(kept):
        cells.update(_remainder(whole, cells))
    return Found(cells, _added(whole), groups, kept)


def _cells(source: StatSource, query: StatQuery, kept: Sequence[Group] | None = None) -> dict[Cell, Sums]:
    """Of all groups, or of those that are kept."""
    if kept is not None and "user_id" in query.group_by:
        place = query.group_by.index("user_id")
        source = msgspec.structs.replace(source, users=tuple({group[place]: None for group in kept}))
    rows = source.rows(query.group_by, MEASURES)
    keys = ", ".join(["i", *query.group_by])
    rest = f"GROUP BY {keys} HAVING sum(calls) <> 0 LIMIT {CELLS_MAX + 1}"
    bound: tuple[str, ...] = ()
    if kept is not None:
        rest, bound = f"WHERE {among(query)} {rest}", (msgspec.json.encode(kept).decode(),)
    found = rows.sums(source.db, keys, MEASURES, rest, bound)
    if len(found) > CELLS_MAX:
        message = f"Expected at most {CELLS_MAX} buckets times groups; narrow the query or give `top`"
        raise InvalidInput(errors=(FieldError("$.group_by", message),))
    width = 1 + len(query.group_by)
    return {(row[0], row[1:width]): list(row[width:]) for row in found}


def among(query: StatQuery) -> str:
    """Whether a row's group is one of those that are bound, as SQL."""
    places = ", ".join(f"value ->> {n}" for n in range(len(query.group_by)))
    return f"({', '.join(query.group_by)}) IN (SELECT {places} FROM json_each(?))"


def _added(cells: dict[Cell, Sums]) -> Sums:
    return [sum(column) for column in zip(*cells.values(), strict=True)] or list(NOTHING)


def _remainder(whole: dict[Cell, Sums], kept: dict[Cell, Sums]) -> dict[Cell, Sums]:
    """What is left of each bucket without the groups that are kept."""
    left = {index: list(sums) for (index, _), sums in whole.items()}
    for (index, _), sums in kept.items():
        left[index] = [a - b for a, b in zip(left[index], sums, strict=True)]
    return {(index, OTHERS): sums for index, sums in left.items() if sums[0]}


def _greatest(source: StatSource, query: StatQuery, top: int) -> tuple[list[Group], int]:
    """The `top` groups that are greatest over the whole range, and how many there are; of equals the lower ids."""
    if not source.ranges:
        return [], 0
    whole = msgspec.structs.replace(source, ranges=[(source.ranges[0][0], source.ranges[-1][1])])
    groups = ", ".join(query.group_by)
    high, middle, low = _digits(query.top_by)
    measures = ("calls", "succeeded") if query.top_by == "failed" else ("calls", *_measures(query.top_by))
    found = whole.rows(query.group_by, tuple(dict.fromkeys(measures))).select(
        source.db,
        f"{groups}, count(*) OVER ()",
        f"GROUP BY {groups} HAVING sum(calls) <> 0 ORDER BY {high} DESC, {middle} DESC, {low} DESC, {groups} "
        f"LIMIT {top}",
    )
    if found and found[0][-1] > GROUPS_MAX:
        raise InvalidInput(errors=(FieldError("$.group_by", f"Expected at most {GROUPS_MAX} groups"),))
    return [row[:-1] for row in found], found[0][-1] if found else 0


def _measures(by: Ranking) -> tuple[str, ...]:
    return (f"{by}_credits", f"{by}_rest_e10") if by in {"cost", "vendor_cost"} else (by,)


def _digits(by: Ranking) -> tuple[str, str, str]:
    """The sum by which groups are ranked, of any size, as three numbers of which the first counts most.

    The sum is (a * SPLIT + b) * credit + c; b and c are brought to where they are at least 0 and less than their base.
    """
    if by == "failed":
        a, b, c = "0", "sum(calls) - sum(succeeded)", "0"
    elif by in {"cost", "vendor_cost"}:
        credits_, rest = _measures(by)
        a, b, c = f"sum({credits_} / {SPLIT})", f"sum({credits_} % {SPLIT})", f"sum({rest})"
    else:
        a, b, c = f"sum({by} / {SPLIT})", f"sum({by} % {SPLIT})", "0"
    b = f"({b} + {_floor(c, CREDIT_E10)})"
    return f"({a} + {_floor(b, SPLIT)})", _rest(b, SPLIT), _rest(c, CREDIT_E10)


def _rest(value: str, base: int) -> str:
    return f"(({value}) - {_floor(value, base)} * {base})"


def _floor(value: str, base: int) -> str:
    """The quotient rounded down: SQLite cuts towards zero."""
    return f"(({value}) / {base} - (({value}) % {base} < 0))"
