"""Instants: RFC 3339 with a zone in, canonical UTC out, finer digits cut and never rounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.times import CANONICAL_LENGTH, DAY_US, format_time, parse_time
from tests.strategies import examples


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000000Z"),
        ("2026-11-22t10:00:00z", "2026-11-22T10:00:00.000000Z"),
        ("2026-11-22 10:00:00.5Z", "2026-11-22T10:00:00.500000Z"),
        ("2026-11-22T10:00:00+00:00", "2026-11-22T10:00:00.000000Z"),
        ("2026-11-22T10:00:00-00:00", "2026-11-22T10:00:00.000000Z"),
        ("2026-11-22T15:45:00.000001+05:45", "2026-11-22T10:00:00.000001Z"),
        ("2026-11-22T00:30:00+23:59", "2026-11-21T00:31:00.000000Z"),
        ("2026-12-31T23:59:59.9999999Z", "2026-12-31T23:59:59.999999Z"),
        ("2026-12-31T23:59:59.99999999999999999999Z", "2026-12-31T23:59:59.999999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_an_instant_has_one_canonical_text(text: str, canonical: str) -> None:
    """Zones are normalised, letters may be small, digits beyond the microsecond are cut."""
    assert format_time(parse_time(text)) == canonical
    assert len(canonical) == CANONICAL_LENGTH


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00", "2026-11-22", "10:00:00Z", "", "now", "1795348800", "2026-11-22T10:00Z",
        "2026-11-22T10:00:00,5Z", "2026-11-22T10:00:00.Z", "20261122T100000Z", "2026-W47-7T10:00:00Z",
        "2026-11-22T24:00:00Z", "2026-11-22T10:60:00Z", "2026-11-22T23:59:60Z", "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z", "2026-11-22T10:00:00+24:00", "2026-11-22T10:00:00+05:60", "2026-11-22T10:00:00+0530",
        "2026-11-22T10:00:00+05:30:30", "2026-11-22T10:00:00Z ", " 2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z\n",
        "2026-11-22T10:00:00 Z", "+2026-11-22T10:00:00Z", "٢٠٢٦-11-22T10:00:00Z", "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_instant_is_refused(text: str) -> None:
    """No zone, another notation, or no such moment: a ValueError, and never a guess."""
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@examples(200)
@given(st.integers(-(10**6) * DAY_US // 2, 2_000_000 * DAY_US), st.integers(-1439, 1439))
def test_text_and_microseconds_are_the_same_instant(time_us: int, offset_minutes: int) -> None:
    """Every instant survives being written and read, in whatever zone it is told."""
    assert parse_time(format_time(time_us)) == time_us
    sign = "-" if offset_minutes < 0 else "+"
    hours, minutes = divmod(abs(offset_minutes), 60)
    local = format_time(time_us + offset_minutes * 60_000_000)[:-1]
    assert parse_time(f"{local}{sign}{hours:02}:{minutes:02}") == time_us


def test_known_microseconds() -> None:
    """The scale and the epoch are what they are said to be."""
    assert parse_time("2001-09-09T01:46:40.000001Z") == 1_000_000_000_000_001
    assert parse_time("1969-12-31T23:59:59.999999Z") == -1
