"""What the routes of catalogue entries share: conditions and tags, commands and their answers."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from litestar import Request
from msgspec import Struct

from api import body as bodies
from api.auth import header, principal_of
from api.respond import JSON, Answer, json
from api.services import services_of
from ledger import catalogue_reads
from ledger.decision import Command
from ledger.writer import Appended
from projections.catalogue import Condition
from schema.catalogue import Kind, Stand, view
from schema.entry import Recorded
from schema.errors import PreconditionFailed, PreconditionRequired
from schema.paging import Page, bounded_limit

T = TypeVar("T", bound=Struct)
V = TypeVar("V", bound=Struct)
AnyRequest = Request[Any, Any, Any]

ETAG, IF_MATCH = "ETag", "If-Match"
TAGGED = {ETAG: "The position of its latest event, in quotes: what `If-Match` takes."}
CONDITION = {IF_MATCH: "The ETag that was read; the change is refused where it is no longer the current one."}
POSITION_DIGITS_MAX = 18


def expected_position(request: AnyRequest) -> int | None:
    """The position that a change was made for; None for `*`. Raises PreconditionRequired, PreconditionFailed."""
    if not (header(request.scope, b"if-match") or b"").strip():
        raise PreconditionRequired
    return wanted_position(request)


def wanted_position(request: AnyRequest) -> int | None:
    """The same where the condition may be left out, which means `*`."""
    text = (header(request.scope, b"if-match") or b"").decode("latin-1").strip()
    if text in {"", "*"}:
        return None
    digits = text.removeprefix('"').removesuffix('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) <= POSITION_DIGITS_MAX):
        raise PreconditionFailed(f"{text[:100]} is no ETag of this resource")
    return int(digits)


async def read_body(request: AnyRequest, decoder: "msgspec.json.Decoder[T]") -> T:
    """The decoded body; raises UnsupportedMediaType, BodyTooLarge, InvalidInput."""
    bodies.content_type(request, JSON)
    data = await bodies.read(request, services_of(request.app).settings.body_bytes_max)
    return bodies.decode(data, decoder)


def actor_of(request: AnyRequest) -> str:
    """Who did it, in events."""
    return principal_of(request).actor


async def create(request: AnyRequest, command: Command, receipt: type[Struct]) -> Answer:
    """Run a creation; the answer tells what it made, or made the first time."""
    event, duplicate = await execute(request, command)
    stand = Stand(event.data, False, event.position, event.recorded_at_us, event.recorded_at_us)
    return tagged(view(receipt, stand, duplicate=duplicate), stand, 200 if duplicate else 201)


async def change(request: AnyRequest, kind: Kind, id_: str, command: Command, shown: type[Struct]) -> Answer:
    """Run a change or deletion; the answer tells what that very one left."""
    event, _ = await execute(request, command)
    stand = await services_of(request.app).ledger.readers.run(catalogue_reads.left_by, kind, id_, event)
    return tagged(view(shown, stand), stand)


async def execute(request: AnyRequest, command: Command) -> tuple[Recorded, bool]:
    """The event that a command made, or found to be there already; raises what the ledger answered."""
    outcome = await outcome_of(request, command)
    assert outcome.recorded is not None
    return outcome.recorded, outcome.duplicate


async def outcome_of(request: AnyRequest, command: Command) -> Appended:
    """What a command did, which may be no event; raises what the ledger answered."""
    length = header(request.scope, b"content-length") or b"0"
    size = int(length) if length.isdigit() else 0
    return await services_of(request.app).ledger.execute_one(command, size)


async def show(request: AnyRequest, kind: Kind, id_: str) -> Stand:
    """An entry as it is; raises NotFound."""
    return await services_of(request.app).ledger.readers.run(catalogue_reads.one, kind, id_)


async def listed(
    request: AnyRequest,
    kind: Kind,
    conditions: Sequence[Condition],
    page: tuple[str | None, int | None],
    shown: Callable[[Stand], V],
) -> Page[V]:
    """A page of entries, as shown to the caller. `page` is the cursor and the limit that were asked for."""
    cursor, limit = page
    readers = services_of(request.app).ledger.readers
    found = await readers.run(catalogue_reads.page, kind, conditions, cursor, bounded_limit(limit))
    return Page(items=[shown(stand) for stand in found.items], next_cursor=found.next_cursor)


def tagged(content: Struct, stand: Stand, status: int = 200) -> Answer:
    """An entry with its ETag."""
    return json(content, status, {ETAG: f'"{stand.position}"'})
