"""From bytes to accepted calls. One bad item never takes its neighbours with it."""

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import islice
from typing import Any, TypeVar

import msgspec
from litestar import Request
from msgspec import Struct

from api.auth import header, own_app
from schema.acceptance import accept
from schema.errors import (
    BodyTooLarge,
    FieldError,
    InvalidInput,
    LedgerError,
    MalformedJson,
    OutOfRange,
    UnsupportedMediaType,
)
from schema.key import Principal
from schema.model_call import ModelCallRecorded, RatingPolicy, RecordModelCall

T = TypeVar("T", bound=Struct)

JSON, NDJSON = "application/json", "application/x-ndjson"
_PLAIN = JSON.encode()
# A longer message could only repeat what the client sent.
MESSAGE_CHARS_MAX = 500
# An array with fewer commas is decoded without counting its items first.
COMMAS_UNCOUNTED_MAX = 500_000

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{},]', re.DOTALL)
_PLACE = re.compile(r"^(.*?)(?: - at `(.*)`)?\Z", re.DOTALL)
_BOUND = re.compile(r"(<=|>=|of length|out of range)")

_calls = msgspec.json.Decoder(list[ModelCallRecorded])
_call = msgspec.json.Decoder(ModelCallRecorded)
_raw_items = msgspec.json.Decoder(list[msgspec.Raw])


class _Named(Struct):
    id: Any = None


_named = msgspec.json.Decoder(_Named)


class Rejected(Struct):
    """An item that is not well-formed, and why."""

    id: str | None
    error: LedgerError


Item = RecordModelCall | Rejected


class Arrival(Struct, frozen=True):
    """Who posts, when the ledger heard of it, and what becomes of calls without a price."""

    principal: Principal
    actor: str
    now_us: int
    policy: RatingPolicy


def content_type(request: Request[Any, Any, Any], *allowed: str) -> str:
    """The body's media type, one of those allowed; raises UnsupportedMediaType."""
    if header(request.scope, b"content-type") == _PLAIN and header(request.scope, b"content-encoding") is None:
        return JSON  # as nearly all, and every route takes it
    encoding = _word(request, b"content-encoding")
    if encoding not in {"", "identity"}:
        raise UnsupportedMediaType(f"content encoding {encoding} is not supported here")
    found = _word(request, b"content-type").partition(";")[0].strip()
    if found not in (allowed or (JSON, NDJSON)):
        raise UnsupportedMediaType(f"{found or 'no content type'} is not supported here")
    return found


def _word(request: Request[Any, Any, Any], name: bytes) -> str:
    return (header(request.scope, name) or b"").decode("latin-1").strip().lower()


async def read(request: Request[Any, Any, Any], bytes_max: int) -> bytes:
    """The request's body, whole; raises BodyTooLarge as soon as that is certain.

    Straight from the server: the framework's own reading builds all headers first.
    """
    length = header(request.scope, b"content-length") or b"0"
    if not length.isdigit() or int(length) > bytes_max:
        raise BodyTooLarge(f"the body has {length.decode('latin-1')} bytes, the limit is {bytes_max}")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise MalformedJson("the client went away before the body was whole")
        parts.append(message["body"])
        size += len(message["body"])
        if size > bytes_max:
            raise BodyTooLarge(f"the body has more than {bytes_max} bytes, the limit")
        if not message["more_body"]:
            return b"".join(parts)


def decode(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """A decoded body; raises MalformedJson, InvalidInput or OutOfRange, naming the path."""
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise translate(error) from None


def translate(error: ValueError | RecursionError) -> InvalidInput:
    """A decoding error in the ledger's words."""
    if isinstance(error, RecursionError):
        return MalformedJson("the JSON is nested too deeply")
    if not isinstance(error, msgspec.ValidationError):
        return MalformedJson(f"the body is not well-formed JSON: {error}")
    match = _PLACE.match(str(error))
    message, path = match.groups() if match else (str(error), None)
    kind = OutOfRange if _BOUND.search(message) else InvalidInput
    return kind(errors=(FieldError((path or "$")[:MESSAGE_CHARS_MAX], message[:MESSAGE_CHARS_MAX]),))


def command(call: ModelCallRecorded, arrival: Arrival) -> RecordModelCall:
    """A decoded call as a command of its caller; raises InvalidInput or Forbidden."""
    if call.rating is not None or call.charge is not None:
        name = "charge" if call.rating is None else "rating"
        raise InvalidInput(errors=(FieldError(f"$.{name}", f"Object contains unknown field `{name}`"),))
    principal, now_us = arrival.principal, arrival.now_us
    call.app = own_app(principal, call.app)
    if call.app is None:
        raise InvalidInput(errors=(FieldError("$.app", "Expected an app: an admin names the one that called"),))
    return RecordModelCall(arrival.actor, now_us, accept(call, now_us), call, arrival.policy, principal.role == "admin")


def one(body: bytes, arrival: Arrival) -> RecordModelCall:
    """The command of a single call."""
    return command(decode(body, _call), arrival)


def array(body: bytes, arrival: Arrival, items_max: int) -> list[Item]:
    """The items of a JSON array. A syntax error anywhere is the whole body's."""
    try:
        calls = _calls.decode(body)
    except msgspec.ValidationError:
        return _one_by_one(_raw(body, items_max), arrival, items_max)
    except (ValueError, RecursionError) as error:
        raise translate(error) from None
    _check_count(len(calls), items_max)
    return [_item(call, arrival) for call in calls]


def ndjson(body: bytes, arrival: Arrival, items_max: int) -> list[Item]:
    """The items of NDJSON; a syntax error is its line's alone. Blank lines are passed over."""
    filled = (line for line in BytesIO(body) if not line.isspace())
    return _one_by_one(list(islice(filled, items_max + 1)), arrival, items_max)


def _raw(body: bytes, items_max: int) -> Sequence[msgspec.Raw]:
    if body.count(b",") > COMMAS_UNCOUNTED_MAX:
        _check_count(_items_up_to(body, items_max + 1), items_max)
    try:
        return _raw_items.decode(body)
    except (ValueError, RecursionError) as error:
        raise translate(error) from None


def _items_up_to(body: bytes, enough: int) -> int:
    """How many items an array has, counted no further than `enough`: millions of tiny ones must not be made."""
    items, depth = 1, 0
    for match in _TOKEN.finditer(body):
        token = match[0]
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
        elif token == b"," and depth == 1:
            items += 1
            if items >= enough:
                break
    return items


def _check_count(items: int, items_max: int) -> None:
    if items > items_max:
        raise BodyTooLarge(f"the batch has more than {items_max} items, the limit")


def _one_by_one(parts: Sequence[bytes | msgspec.Raw], arrival: Arrival, items_max: int) -> list[Item]:
    _check_count(len(parts), items_max)
    return list(_decoded(parts, arrival))


def _decoded(parts: Sequence[bytes | msgspec.Raw], arrival: Arrival) -> Iterator[Item]:
    for part in parts:
        try:
            call = _call.decode(part)
        except (ValueError, RecursionError) as error:
            yield Rejected(_id_in(part), translate(error))
        else:
            yield _item(call, arrival)


def _item(call: ModelCallRecorded, arrival: Arrival) -> Item:
    try:
        return command(call, arrival)
    except LedgerError as error:
        return Rejected(call.id, error)


def _id_in(part: bytes | msgspec.Raw) -> str | None:
    """The id of an item that did not decode, if it has one, so that its sender finds it."""
    try:
        found = _named.decode(part).id
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None
