"""Buckets of time in a zone, as UTC microseconds, and what they are made of.

Hours, days and months of the zone, cut at the range's edges; a clock hour that repeats is two buckets. Each bucket
splits into whole UTC days, whole UTC quarters of an hour and what remains at the edges: which is nothing where the
range has none, because every zone is off UTC by quarters of an hour. (Before 1972 some were off by seconds.)
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Struct

from schema.errors import FieldError, InvalidInput
from schema.model_call_query import Granularity
from schema.times import DAY_US, HOUR_US, QUARTER_US, SECOND_US

BUCKETS_MAX = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Range = tuple[int, int]
Part = tuple[int, int, int]  # a range, after the index of its bucket
SEGMENTS = "(SELECT value ->> 0 AS i, value ->> 1 AS low, value ->> 2 AS high FROM json_each(?)) b"
# Beside its zones a machine may have these: its own clock's, and others that count leap seconds. No other machine need
# understand by them what this one does, so nothing that is stored may be cut by them.
_OF_THE_MACHINE = re.compile(r"(localtime|posixrules)\Z|(right|posix)/")


class Segments(Struct):
    """Half-open ranges, each with the index of its bucket."""

    days: list[Part]
    quarters: list[Part]
    edges: list[Part]


def zone(name: str) -> ZoneInfo:
    """An IANA zone; raises InvalidInput where there is none of that name."""
    try:
        if not _OF_THE_MACHINE.match(name):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise InvalidInput(errors=(FieldError("$.timezone", "Expected an IANA zone such as Europe/Berlin"),))


def buckets(from_us: int, to_us: int, granularity: Granularity, tz: ZoneInfo) -> list[Range]:
    """The buckets that cover [from_us, to_us), in order; raises InvalidInput over 10,000 of them."""
    if granularity == "total":
        return [(from_us, to_us)] if from_us < to_us else []
    found: list[Range] = []
    start = from_us
    while start < to_us:
        end = min(_following(start, granularity, tz), to_us)
        found.append((start, end))
        start = end
        if len(found) > BUCKETS_MAX:
            message = f"Expected at most {BUCKETS_MAX} buckets; narrow the range or coarsen the granularity"
            raise InvalidInput(errors=(FieldError("$.granularity", message),))
    return found


def widened(low_us: int, high_us: int, granularity: Granularity, tz: ZoneInfo) -> Range:
    """The range made up of whole days of the zone, for hours too, or of whole months; a total stays as it is."""
    if granularity == "total":
        return low_us, high_us
    first = _local(low_us, tz).date()
    if granularity == "month":
        return _midnight(first.replace(day=1), tz), _next_month(high_us - 1, tz)
    return _midnight(first, tz), _next_day(high_us - 1, tz)


def local_date(instant_us: int, tz: ZoneInfo) -> date:
    """The day that it is in the zone."""
    return _local(instant_us, tz).date()


def _following(start_us: int, granularity: Granularity, tz: ZoneInfo) -> int:
    try:
        return _FOLLOWING[granularity](start_us, tz)
    except (OverflowError, ValueError):  # the calendar ends there
        raise InvalidInput(errors=(FieldError("$.to", "Expected years 1 to 9999 in the zone"),)) from None


def _local(instant_us: int, tz: ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(microseconds=instant_us)).astimezone(tz)


def _instant(local: datetime) -> int:
    return (local.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def _offset(instant_us: int, tz: ZoneInfo) -> timedelta | None:
    return _local(instant_us, tz).utcoffset()


def _next_hour(start_us: int, tz: ZoneInfo) -> int:
    local = _local(start_us, tz)
    past = (local.minute * 60 + local.second) * SECOND_US + local.microsecond
    end_us = start_us + HOUR_US - past
    if _offset(end_us - 1, tz) == local.utcoffset():
        return end_us
    return _transition(start_us, end_us, tz)


def _transition(low_us: int, high_us: int, tz: ZoneInfo) -> int:
    """The instant in (low, high) at which the clock is set: the hour before it ends there."""
    before = _offset(low_us, tz)
    while high_us - low_us > 1:
        middle = (low_us + high_us) // 2
        if _offset(middle, tz) == before:
            low_us = middle
        else:
            high_us = middle
    return high_us


def _next_day(start_us: int, tz: ZoneInfo) -> int:
    return _midnight(_local(start_us, tz).date() + timedelta(days=1), tz)


def _next_month(start_us: int, tz: ZoneInfo) -> int:
    today = _local(start_us, tz).date()
    return _midnight((today.replace(day=1) + timedelta(days=32)).replace(day=1), tz)


def _midnight(day: date, tz: ZoneInfo) -> int:
    return _instant(datetime(day.year, day.month, day.day, tzinfo=tz))


_FOLLOWING: dict[Granularity, Callable[[int, ZoneInfo], int]] = {
    "hour": _next_hour,
    "day": _next_day,
    "month": _next_month,
}


def segments(ranges: list[Range], *, days: bool) -> Segments:
    """What the buckets are made of; `days=False` where no roll-up by day has the answer."""
    found = Segments([], [], [])
    for index, (start, end) in enumerate(ranges):
        _split(found, index, start, end, days=days)
    return found


def _split(found: Segments, index: int, start: int, end: int, *, days: bool) -> None:
    first_quarter, last_quarter = -(-start // QUARTER_US) * QUARTER_US, end // QUARTER_US * QUARTER_US
    if first_quarter >= last_quarter:
        found.edges.append((index, start, end))
        return
    found.edges.extend((index, low, high) for low, high in ((start, first_quarter), (last_quarter, end)) if low < high)
    first_day, last_day = -(-first_quarter // DAY_US) * DAY_US, last_quarter // DAY_US * DAY_US
    if not days or first_day >= last_day:
        found.quarters.append((index, first_quarter, last_quarter))
        return
    found.days.append((index, first_day, last_day))
    found.quarters.extend(
        (index, low, high) for low, high in ((first_quarter, first_day), (last_day, last_quarter)) if low < high
    )


def segments_json(parts: Sequence[Part]) -> str:
    """What the table SEGMENTS is made of."""
    return msgspec.json.encode(parts).decode()


def exploded(ranges: list[Part], bucket_us: int) -> Iterator[Part]:
    """The same ranges, one a bucket: so that a filter can be sought in each."""
    for index, low, high in ranges:
        for start in range(low, high, bucket_us):
            yield index, start, start + bucket_us
