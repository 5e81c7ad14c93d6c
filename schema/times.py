"""Instants: UTC microseconds since 1970 inside, RFC 3339 text outside."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

from msgspec import Meta

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
QUARTER_US = 15 * MINUTE_US  # the offset of every zone is a whole number of these since 1972
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

_HOUR_MINUTE = r"([01]\d|2[0-3]):[0-5]\d"
RFC3339 = re.compile(rf"\d{{4}}-\d\d-\d\d[Tt ]{_HOUR_MINUTE}:\d\d(\.\d+)?([Zz]|[+-]{_HOUR_MINUTE})", re.ASCII)
CANONICAL_LENGTH = 27
_MINUTE_LENGTH = len("2026-11-22T10:00:")
MINUTES_MAX = 10_000
_minutes: dict[str, int] = {}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_DAY_S = 86_400
_FIRST_DAY = (datetime.min.replace(tzinfo=UTC) - _EPOCH).days
_LAST_DAY = (datetime.max.replace(tzinfo=UTC) - _EPOCH).days

TimeText = Annotated[
    str,
    Meta(
        max_length=64,
        description="An instant, RFC 3339 with a zone. Digits finer than a microsecond are cut.",
        examples=["2026-11-22T10:00:00.123456Z"],
        extra_json_schema={"format": "date-time"},
    ),
]


def parse_time(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 instant; finer digits are cut, never rounded.

    Raises ValueError where the text has no zone, is not RFC 3339 or names no real instant.
    """
    # Most are in the normal form, and of a minute that was met before: what is left is digits of less than a minute.
    minute_us = _minutes.get(text[:_MINUTE_LENGTH])
    if minute_us is not None and len(text) == CANONICAL_LENGTH and text[19] == "." and text[26] == "Z":
        digits = text[17:19] + text[20:26]
        if digits.isascii() and digits.isdigit() and digits < "60":
            return minute_us + int(digits)
    time_us = _parsed(text)
    if len(text) == CANONICAL_LENGTH and text[26] == "Z":
        if len(_minutes) >= MINUTES_MAX:
            _minutes.clear()
        _minutes[text[:_MINUTE_LENGTH]] = time_us - time_us % MINUTE_US
    return time_us


def _parsed(text: str) -> int:
    if RFC3339.fullmatch(text) is None:
        message = "Expected an RFC 3339 time with a zone, such as 2026-11-22T10:00:00Z"
        raise ValueError(message)
    try:
        since = datetime.fromisoformat(text.upper()) - _EPOCH
    except OverflowError as error:
        raise ValueError(str(error)) from error
    if not _FIRST_DAY <= since.days <= _LAST_DAY:  # its zone takes it past what UTC can write
        message = "Expected a time from year 1 to year 9999 in UTC"
        raise ValueError(message)
    return (since.days * _PER_DAY_S + since.seconds) * SECOND_US + since.microseconds


@lru_cache(maxsize=1024)
def format_time(time_us: int) -> str:
    """`2026-11-22T10:00:00.123456Z`, always with six digits."""
    minute, rest_us = divmod(time_us, MINUTE_US)
    digits = f"{rest_us:08}"
    return f"{_minute_text(minute)}{digits[:2]}.{digits[2:]}Z"


@lru_cache(maxsize=1024)
def _minute_text(minute: int) -> str:
    """`2026-11-22T10:00:`."""
    return (_EPOCH + timedelta(minutes=minute)).isoformat()[:_MINUTE_LENGTH]
