"""Replay: the stored entries, byte for byte, as pages or as a stream."""

from typing import Any

from litestar import Request, get
from litestar.response import Response, Stream
from litestar.status_codes import HTTP_200_OK
from litestar.types import ASGIApp

from api import query
from api.auth import REPLAYERS
from api.metrics import count_response
from api.openapi import documented
from api.respond import STREAMED, Answer
from api.services import services_of
from ledger import journal
from schema.errors import FieldError, InvalidInput
from schema.paging import LIMIT_MAX, bounded_limit

NEXT_AFTER = "Next-After"
LAST_EVENT_ID = "Last-Event-ID"
POSITION_DIGITS_MAX = 18


@get(
    "/v1/events",
    **documented(
        REPLAYERS, "Replay entries", query=query.EventParams, responses={200: "application/x-ndjson"},
        sends={NEXT_AFTER: "The position after which the next page begins."},
    ),
)  # fmt: skip
async def get_events(request: Request[Any, Any, Any]) -> ASGIApp:
    """One entry a line, in order. The `Next-After` header says where the next page begins; the head ends it."""
    params = query.parse(request, query.EventParams)
    limit = bounded_limit(params.limit or LIMIT_MAX)
    readers = services_of(request.app).ledger.readers
    page = await readers.run(journal.page, params.after, limit, params.type, params.subject)
    body = "".join(f"{line.entry}\n" for line in page.lines).encode()
    headers = {NEXT_AFTER: str(page.next_after)}
    return Answer(body, HTTP_200_OK, "application/x-ndjson", headers)


@get(
    "/v1/events/stream",
    **documented(
        REPLAYERS, "Follow entries", query=query.StreamParams, responses={200: "text/event-stream"},
        headers={LAST_EVENT_ID: "The last position seen; the stream goes on after it, whatever `after` says."},
    ),
)  # fmt: skip
async def stream_events(request: Request[Any, Any, Any]) -> ASGIApp:
    """Server-Sent Events: `id` is the position, `data` the entry. Resumes from `Last-Event-ID`."""
    params = query.parse(request, query.StreamParams)
    tail = services_of(request.app).tail
    last = last_event_id(request.headers.get(LAST_EVENT_ID))
    stream = await tail.open(params.after if last is None else last)
    count_response(request.scope, HTTP_200_OK)
    response: Response[Any] = Stream(stream, media_type="text/event-stream", headers=STREAMED)
    return response.to_asgi_response(None, request)  # pyright: ignore[reportUnknownMemberType]


def last_event_id(text: str | None) -> int | None:
    """Where a reader who comes back goes on; raises InvalidInput."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= POSITION_DIGITS_MAX):
        raise InvalidInput(errors=(FieldError(LAST_EVENT_ID, "Expected a position, as in the stream's ids"),))
    return int(text)


ROUTES = (get_events, stream_events)
