"""What was known then: a position of the journal, given as such or as an instant."""

from typing import Annotated, Any

from litestar import Request
from msgspec import Meta

from api.services import services_of
from ledger.account_reads import position_at
from schema.errors import FieldError, InvalidInput
from schema.times import parse_time

_DIGITS_MAX = 18
AsOf = Annotated[
    str,
    Meta(max_length=64, description="As it was known then: a position of the journal, or an instant.", examples=["42"]),
]


async def position_of(request: Request[Any, Any, Any], as_of: str | None) -> int | None:
    """The position that is meant; None where none is. Raises InvalidInput."""
    if as_of is None:
        return None
    if as_of.isascii() and as_of.isdigit() and len(as_of) <= _DIGITS_MAX:
        return int(as_of)
    try:
        time_us = parse_time(as_of)
    except ValueError:
        raise InvalidInput(errors=(FieldError("$.as_of", "Expected a position or an RFC 3339 time"),)) from None
    return await services_of(request.app).ledger.readers.run(position_at, time_us)
