"""Days and months of a zone, also where its clock is set forward or back."""

import pytest

from projections.quota_period import PeriodKind, calendar
from schema.errors import InvalidInput
from schema.times import HOUR_US, format_time, parse_time


@pytest.mark.parametrize(
    ("timezone", "kind", "at", "text", "start", "end"),
    [
        ("UTC", "day", "2026-11-22T23:59:59.999999Z", "2026-11-22", "2026-11-22T00:00", "2026-11-23T00:00"),
        ("UTC", "day", "2026-11-23T00:00:00Z", "2026-11-23", "2026-11-23T00:00", "2026-11-24T00:00"),
        ("UTC", "month", "2026-12-31T23:59:59.999999Z", "2026-12", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("UTC", "month", "2028-02-29T12:00:00Z", "2028-02", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("Asia/Shanghai", "day", "2026-11-22T15:59:59Z", "2026-11-22", "2026-11-21T16:00", "2026-11-22T16:00"),
        ("Asia/Shanghai", "day", "2026-11-22T16:00:00Z", "2026-11-23", "2026-11-22T16:00", "2026-11-23T16:00"),
        ("Asia/Shanghai", "month", "2026-11-30T16:00:00Z", "2026-12", "2026-11-30T16:00", "2026-12-31T16:00"),
        ("America/New_York", "day", "2026-11-22T04:59:59Z", "2026-11-21", "2026-11-21T05:00", "2026-11-22T05:00"),
        ("America/New_York", "day", "2026-03-08T12:00:00Z", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00"),
        ("America/New_York", "day", "2026-11-01T05:30:00Z", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("America/New_York", "month", "2026-11-15T00:00:00Z", "2026-11", "2026-11-01T04:00", "2026-12-01T05:00"),
        # Midnight itself is left out there, and the day begins at one.
        ("America/Havana", "day", "2026-03-08T20:00:00Z", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00"),
    ],
)
def test_periods(timezone: str, kind: PeriodKind, at: str, text: str, start: str, end: str) -> None:
    found = calendar(timezone).period(kind, parse_time(at))
    assert (found.text, format_time(found.start_us)[:16], format_time(found.end_us)[:16]) == (text, start, end)


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Shanghai", "America/New_York", "America/Havana", "Asia/Kolkata"])
@pytest.mark.parametrize("kind", ["day", "month"])
def test_periods_follow_each_other_without_gap(timezone: str, kind: PeriodKind) -> None:
    """Over two years, hour by hour: each instant is in one period, whose name grows with time."""
    first = parse_time("2026-01-01T00:00:00Z")
    last = calendar(timezone).period(kind, first)
    for at_us in range(first, first + 2 * 365 * 24 * HOUR_US, HOUR_US):
        found = calendar(timezone).period(kind, at_us)
        assert found.start_us <= at_us < found.end_us
        if found != last:
            assert (found.start_us, found.text > last.text) == (last.end_us, True)
        last = found


def test_a_day_has_as_many_hours_as_the_clock_gives_it() -> None:
    at = ["2026-03-08T12:00:00Z", "2026-11-01T12:00:00Z", "2026-11-22T12:00:00Z"]
    days = [calendar("America/New_York").period("day", parse_time(text)) for text in at]
    assert [(day.end_us - day.start_us) // HOUR_US for day in days] == [23, 25, 24]


def test_time_may_run_back() -> None:
    """Of writers on one file each asks by its own clock."""
    later, earlier = parse_time("2026-11-23T01:00:00Z"), parse_time("2026-11-22T23:00:00Z")
    found = [calendar("UTC").period("day", at_us).text for at_us in (later, earlier, later)]
    assert found == ["2026-11-23", "2026-11-22", "2026-11-23"]


@pytest.mark.parametrize(
    "timezone", ["Mars/Olympus", "../etc/passwd", "localtime", "posixrules", "right/Europe/Berlin", "posix/UTC"]
)
def test_a_zone_that_is_none_is_refused(timezone: str) -> None:
    """Also what a machine has beside its zones, and another machine has otherwise."""
    with pytest.raises(InvalidInput):
        calendar(timezone)
