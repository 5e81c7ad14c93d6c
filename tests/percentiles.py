"""Percentiles by sorting, and the middle of a bin by halving: nothing in common with the histograms of the product."""

from collections.abc import Iterable, Sequence
from typing import Any

RELATIVE_ERROR = 128  # off by at most one part in so many
ASKED = {"duration_ms": (50, 95, 99), "ttfb_ms": (50, 95)}


def exact(values: Sequence[int], per_cent: int) -> int | None:
    """The smallest value that at least so many per cent are not above."""
    for n, value in enumerate(sorted(values), start=1):
        if n * 100 >= len(values) * per_cent:
            return value
    return None


def middle(value: int) -> int:
    """What stands for a value: itself below 128, else the middle of the 64th of its power of two."""
    width = 1
    while value // width >= 128:
        width *= 2
    return value // width * width + width // 2


def shown_percentiles(calls: Iterable[dict[str, Any]]) -> dict[str, int | None]:
    """The fields of a statistic over these calls."""
    known = list(calls)
    found: dict[str, int | None] = {}
    for measure, asked in ASKED.items():
        values = [call[measure] for call in known if call.get(measure) is not None]
        for per_cent in asked:
            value = exact(values, per_cent)
            found[f"{measure}_p{per_cent}"] = None if value is None else middle(value)
    return found
