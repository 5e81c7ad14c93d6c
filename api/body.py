"""From bytes to accepted calls. One bad item never takes its neighbours with it."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from api.auth import own_app
from schema.acceptance import accept
from schema.errors import BodyTooLarge, FieldError, InvalidInput, LedgerError, MalformedJson, OutOfRange
from schema.key import Principal
from schema.model_call import ModelCallRecorded, RecordModelCall

T = TypeVar("T", bound=Struct)

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
    return kind(errors=(FieldError(path or "$", message),))


def command(call: ModelCallRecorded, principal: Principal, now_us: int) -> RecordModelCall:
    """A decoded call as a command of its caller; raises InvalidInput or Forbidden."""
    call.app = own_app(principal, call.app)
    if call.app is None:
        raise InvalidInput(errors=(FieldError("$.app", "Expected an app: an admin names the one that called"),))
    return RecordModelCall(f"key:{principal.key_id}", now_us, accept(call, now_us), call)


def one(body: bytes, principal: Principal, now_us: int) -> RecordModelCall:
    """The command of a single call."""
    return command(decode(body, _call), principal, now_us)


def array(body: bytes, principal: Principal, now_us: int, items_max: int) -> list[Item]:
    """The items of a JSON array. A syntax error anywhere is the whole body's."""
    try:
        calls = _calls.decode(body)
    except msgspec.ValidationError:
        return _one_by_one(_raw(body), principal, now_us, items_max)
    except (ValueError, RecursionError) as error:
        raise translate(error) from None
    _check_count(len(calls), items_max)
    return [_item(call, principal, now_us) for call in calls]


def ndjson(body: bytes, principal: Principal, now_us: int, items_max: int) -> list[Item]:
    """The items of NDJSON; a syntax error is its line's alone. Blank lines are passed over."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    return _one_by_one(lines, principal, now_us, items_max)


def _raw(body: bytes) -> Sequence[msgspec.Raw]:
    try:
        return _raw_items.decode(body)
    except (ValueError, RecursionError) as error:
        raise translate(error) from None


def _check_count(items: int, items_max: int) -> None:
    if items > items_max:
        raise BodyTooLarge(f"the batch has {items} items, the limit is {items_max}")


def _one_by_one(
    parts: Sequence[bytes | msgspec.Raw], principal: Principal, now_us: int, items_max: int
) -> list[Item]:
    _check_count(len(parts), items_max)
    return list(_decoded(parts, principal, now_us))


def _decoded(parts: Sequence[bytes | msgspec.Raw], principal: Principal, now_us: int) -> Iterator[Item]:
    for part in parts:
        try:
            call = _call.decode(part)
        except (ValueError, RecursionError) as error:
            yield Rejected(_id_in(part), translate(error))
        else:
            yield _item(call, principal, now_us)


def _item(call: ModelCallRecorded, principal: Principal, now_us: int) -> Item:
    try:
        return command(call, principal, now_us)
    except LedgerError as error:
        return Rejected(call.id, error)


def _id_in(part: bytes | msgspec.Raw) -> str | None:
    """The id of an item that did not decode, if it has one, so that its sender finds it."""
    try:
        found = _named.decode(part).id
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None
