"""Histograms of whole numbers in bins that are fixed for ever, so that adding them commutes and corrections subtract.

A value below 128 has a bin of its own; above, every power of two is cut into 64 bins of equal width. A percentile is
given as the middle of its bin, so it is off by at most 1/128 of itself.

In memory a histogram is one integer with a lane of 64 bits for each bin: to add two histograms is to add two integers,
and what was taken away may be subtracted at the end. One of few values is cheaper as its counts by bin. On disk it is
the counts at the width of the greatest: of every bin from the first to the last, or, where most of these are empty, of
the others with their numbers beside them.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, repeat

RELATIVE_ERROR = "0.0078125"
_EXACT_BITS = 7  # values of so many bits are their own bin
_SUB = 64  # bins of a power of two
_TOP_BITS = 40  # 10^12, the greatest quantity, has 40
_LANE_BITS = 64
_SPARSE = 0x80  # the bit of a width whose counts have their bins' numbers before them
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}  # by width in bytes
_ONE_BIN = struct.Struct("<BHB")  # the dense form of one small count: width, bin, count

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
    """The histogram of bins and how many values each has, which is at least 0."""
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
    width = _width(max(lanes, default=0))
    if _fills(len(lanes) - lanes.count(0), len(lanes), width):
        return _dense(width, low, lanes)
    return _sparse(width, [low + n for n, count in enumerate(lanes) if count], [count for count in lanes if count])


def pack_counts(counts: Mapping[int, int]) -> bytes:
    """The same of bins and how many values each has, which is at least 1."""
    bins = sorted(counts)
    if len(bins) == 1 and counts[bins[0]] < 1 << 8:
        return _ONE_BIN.pack(1, bins[0], counts[bins[0]])  # as nearly all are where calls are scattered
    if not bins:
        return pack(0)
    low, lanes, width = bins[0], bins[-1] - bins[0] + 1, _width(max(counts.values()))
    if _fills(len(bins), lanes, width):
        return _dense(width, low, list(map(counts.get, range(low, low + lanes), repeat(0))))
    return _sparse(width, bins, map(counts.__getitem__, bins))


def pack_sum(stored: bytes, counts: Mapping[int, int]) -> bytes:
    """What was packed with as many more of each bin."""
    if not stored[0] & _SPARSE:
        return pack(unpack(stored) + of_counts(counts))
    total = _held(stored)
    for bin_, count in counts.items():
        total[bin_] = total.get(bin_, 0) + count
    return pack_counts(total)


def _width(greatest: int) -> int:
    return 1 if greatest < 1 << 8 else 2 if greatest < 1 << 16 else 4 if greatest < 1 << 32 else 8


def _fills(held: int, lanes: int, width: int) -> bool:
    """Whether the counts of all bins take no more room than those of the held ones with their numbers."""
    return held * (2 + width) >= lanes * width + 2


def _dense(width: int, low: int, lanes: Sequence[int | None]) -> bytes:
    return struct.pack(f"<BH{len(lanes)}{_CODES[width]}", width, low, *lanes)


def _sparse(width: int, bins: Sequence[int], counts: Iterable[int]) -> bytes:
    return struct.pack(f"<B{len(bins)}H{len(bins)}{_CODES[width]}", width | _SPARSE, *bins, *counts)


def _held(stored: bytes) -> dict[int, int]:
    width = stored[0] & ~_SPARSE
    held = (len(stored) - 1) // (2 + width)
    found = struct.unpack(f"<{held}H{held}{_CODES[width]}", memoryview(stored)[1:])
    return dict(zip(found[:held], found[held:], strict=True))


def unpack(stored: bytes) -> Histogram:
    """The histogram that was packed."""
    if stored[0] & _SPARSE:
        return of_counts(_held(stored))
    width, low = struct.unpack_from("<BH", stored)
    lanes = stored[3:]
    if width != _LANE_BITS // 8:
        count = len(lanes) // width
        lanes = struct.pack(f"<{count}Q", *struct.unpack(f"<{count}{_CODES[width]}", lanes))
    return int.from_bytes(lanes, "little") << (_LANE_BITS * low)


def _lanes(histogram: Histogram) -> tuple[int, tuple[int, ...]]:
    """The first bin that holds something, and the counts from there to the last that does."""
    low = max((histogram & -histogram).bit_length() - 1, 0) // _LANE_BITS
    histogram >>= _LANE_BITS * low
    count = -(-histogram.bit_length() // _LANE_BITS)
    return low, struct.unpack(f"<{count}Q", histogram.to_bytes(count * 8, "little"))
