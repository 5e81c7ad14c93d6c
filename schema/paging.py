"""Lists page by an opaque cursor: the key of the last row, so inserts never shift a page."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from schema.errors import FieldError, InvalidInput

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000

T = TypeVar("T")


class Page(Struct, Generic[T], kw_only=True):
    """One page. `next_cursor` is null at the end; under a filter a page may be short and still have one."""

    items: list[T]
    next_cursor: str | None = None


def encode_cursor(*key: int | str) -> str:
    """A cursor for the row with this key."""
    return urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode_cursor(cursor: str, kind: type[T]) -> T:
    """The key of a cursor; raises InvalidInput where it is not one of ours."""
    try:
        return msgspec.json.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=kind)
    except ValueError:
        raise InvalidInput(errors=(FieldError("$.cursor", "Expected a cursor from a previous page"),)) from None


def bounded_limit(limit: int | None) -> int:
    """A limit over 1,000 means 1,000."""
    return LIMIT_DEFAULT if limit is None else min(limit, LIMIT_MAX)
