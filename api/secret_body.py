"""Reading a body that holds secrets: what is wrong with it is told without a word of what was in it."""

import re
from typing import Any, TypeVar

import msgspec
from litestar import Request
from msgspec import Struct

from api import catalogue
from schema.errors import FieldError, InvalidInput

T = TypeVar("T", bound=Struct)

# What the decoder repeats of the input: a value that is none of those allowed, the name of an unknown field.
_REPEATED = re.compile(r"(Invalid enum value|contains unknown field)\b.*", re.DOTALL)
# A name like those that fields have is a mistyped one, and no secret.
_FIELD_NAME = re.compile(r"Object contains unknown field `[a-z_]{1,32}`\Z")


async def read(request: Request[Any, Any, Any], decoder: "msgspec.json.Decoder[T]") -> T:
    """The decoded body; raises as `catalogue.read_body` does."""
    try:
        return await catalogue.read_body(request, decoder)
    except InvalidInput as error:
        errors = tuple(FieldError(each.path, _told(each.message)) for each in error.errors)
        raise type(error)("" if errors else error.detail, errors=errors) from None


def _told(message: str) -> str:
    return message if _FIELD_NAME.match(message) else _REPEATED.sub(r"\1", message)
