"""The days and months that quotas are counted by: of the calendar of a zone, whatever its clock does."""

from functools import lru_cache
from typing import Literal

from msgspec import Struct

from projections.bucket import local_date, widened, zone

PeriodKind = Literal["day", "month"]
KINDS: tuple[PeriodKind, ...] = ("day", "month")
_TEXT_LENGTH = {"day": 10, "month": 7}
PERIODS_CACHED = 4_096


class Period(Struct, frozen=True):
    """A day or month: `2026-11-22` or `2026-11` of its zone, from its first instant up to the next one's."""

    kind: PeriodKind
    text: str
    start_us: int
    end_us: int


class Calendar:
    """The periods of one zone; asking again within the same period costs a comparison."""

    def __init__(self, timezone: str) -> None:
        self._zone = zone(timezone)
        self._last: dict[PeriodKind, Period] = {}

    def period(self, kind: PeriodKind, at_us: int) -> Period:
        """The period that an instant belongs to."""
        last = self._last.get(kind)
        if last is None or not last.start_us <= at_us < last.end_us:
            start_us, end_us = widened(at_us, at_us + 1, kind, self._zone)
            text = local_date(at_us, self._zone).isoformat()[: _TEXT_LENGTH[kind]]
            last = self._last[kind] = Period(kind, text, start_us, end_us)
        return last


@lru_cache(maxsize=PERIODS_CACHED)
def calendar(timezone: str) -> Calendar:
    """The calendar of an IANA zone; raises InvalidInput where there is none of that name."""
    return Calendar(timezone)
