"""The greatest groups of a statistic; the rest is added up, never left out."""

from collections import Counter

from projections.model_call_stat import MEASURES
from schema.model_call_query import Ranking
from schema.money import COST_DECIMALS

Cell = tuple[int, tuple[int, ...]]
Sums = list[int]  # the measures, and the calls that succeeded
OTHERS: tuple[int, ...] = (-1,)  # the group of the remainder: no name has this id

_CREDIT_E10 = 10**COST_DECIMALS


def merged(cells: dict[Cell, Sums], top: int, by: Ranking) -> dict[Cell, Sums]:
    """The cells of the `top` groups that are greatest over all buckets, and one remainder a bucket."""
    weights: Counter[tuple[int, ...]] = Counter()
    for (_, group), sums in cells.items():
        weights[group] += _weight(sums, by)
    kept = set(sorted(weights, key=lambda group: (-weights[group], group))[:top])
    found: dict[Cell, Sums] = {}
    for (index, group), sums in cells.items():
        if group in kept:
            found[index, group] = sums
        else:
            rest = found.setdefault((index, OTHERS), [0] * len(sums))
            for n, value in enumerate(sums):
                rest[n] += value
    return found


def _weight(sums: Sums, by: Ranking) -> int:
    if by == "failed":
        return sums[MEASURES.index("calls")] - sums[-1]
    if by in {"cost", "vendor_cost"}:
        credits_, rest = MEASURES.index(f"{by}_credits"), MEASURES.index(f"{by}_rest_e10")
        return sums[credits_] * _CREDIT_E10 + sums[rest]
    return sums[MEASURES.index(by)]
