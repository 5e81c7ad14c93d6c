"""Histograms of whole numbers in bins that are fixed for ever, so that adding them commutes and corrections subtract.

A value below 128 has a bin of its own; above, every power of two is cut into 64 bins of equal width. A percentile is
given as the middle of its bin, so it is off by at most 1/128 of itself.

In memory a histogram is one integer with a lane of 64 bits for each bin: to add two histograms is to add two integers,
and what was taken away may be subtracted at the end. On disk it is the counts at the width of the greatest: of every
bin from the first to the last, or, where most of these are empty, of the others with their numbers beside them.
"""

import struct
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate, repeat

RELATIVE_ERROR = "0.0078125"
_EXACT_BITS = 7  # values of so many bits are their own bin
_SUB = 64  # bins of a power of two
_TOP_BITS = 40  # 10^12, the greatest quantity, has 40
_LANE_BITS = 64
_SPARSE = 0x80
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}

Histogram = int


def bin_sql(value: str) -> str:
    """The bin of a column's value, null for null, as SQL over integers."""
    steps = (
        f"WHEN {value} < {1 << (_EXACT_BITS + power)} THEN {_SUB * power} + ({value} >> {power})"
        for power in range(1, _TOP_BITS - _EXACT_BITS + 1)
    )
    return f"CASE WHEN {value} < {1 << _EXACT_BITS} THEN {value} {' '.join(steps)} END"


def middle(bin_: int) -> int:
    """The value that stands for a bin."""
    power = max(bin_ // _SUB - 1, 0)
    low = (bin_ - _SUB * power) << power
    return low + (1 << power >> 1)


def of_counts(counts: Mapping[int, int]) -> Histogram:
    """The histogram of bins and how many values each has, which is nowhere less than 0."""
    if not counts:
        return 0
    low, high = min(counts), max(counts)
    lanes = map(counts.get, range(low, high + 1), repeat(0))
    return int.from_bytes(struct.pack(f"<{high - low + 1}Q", *lanes), "little") << (_LANE_BITS * low)


def percentiles(histogram: Histogram, hundredths: tuple[int, ...]) -> tuple[int | None, ...]:
    """By the nearest rank: the smallest value that at least so many per cent are not above. None of an empty one."""
    low, lanes = _lanes(histogram)
    up_to = list(accumulate(lanes))
    if not up_to:
        return (None,) * len(hundredths)
    ranks = (max(1, -(-up_to[-1] * each // 100)) for each in hundredths)
    return tuple(middle(low + bisect_left(up_to, rank)) for rank in ranks)


def pack(histogram: Histogram) -> bytes:
    """The one form in which a histogram is stored."""
    low, lanes = _lanes(histogram)
    width = next(width for width in _CODES if max(lanes, default=0) < 1 << 8 * width)
    code, held = _CODES[width], len(lanes) - lanes.count(0)
    if held * (2 + width) >= len(lanes) * width + 2:
        return struct.pack(f"<BH{len(lanes)}{code}", width, low, *lanes)
    bins = [low + n for n, count in enumerate(lanes) if count]
    counts = [count for count in lanes if count]
    return struct.pack(f"<B{held}H{held}{code}", width | _SPARSE, *bins, *counts)


def unpack(stored: bytes) -> Histogram:
    """The histogram that was packed."""
    width = stored[0] & ~_SPARSE
    code = _CODES[width]
    if stored[0] & _SPARSE:
        held = (len(stored) - 1) // (2 + width)
        found = struct.unpack(f"<{held}H{held}{code}", memoryview(stored)[1:])
        return of_counts(dict(zip(found[:held], found[held:], strict=True)))
    (low,) = struct.unpack_from("<H", stored, 1)
    lanes = memoryview(stored)[3:]
    count = len(lanes) // width
    if width == _LANE_BITS // 8:
        return int.from_bytes(lanes, "little") << (_LANE_BITS * low)
    wide = struct.pack(f"<{count}Q", *struct.unpack(f"<{count}{code}", lanes))
    return int.from_bytes(wide, "little") << (_LANE_BITS * low)


def _lanes(histogram: Histogram) -> tuple[int, tuple[int, ...]]:
    """The first bin that holds something, and the counts from there to the last that does."""
    low = max((histogram & -histogram).bit_length() - 1, 0) // _LANE_BITS
    histogram >>= _LANE_BITS * low
    count = -(-histogram.bit_length() // _LANE_BITS)
    return low, struct.unpack(f"<{count}Q", histogram.to_bytes(count * 8, "little"))
