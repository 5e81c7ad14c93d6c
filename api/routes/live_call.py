"""Calls as they come: what a dashboard follows, whose key may not read the journal."""

from typing import Any

import msgspec
from litestar import Request, get
from litestar.response import Response, Stream
from litestar.types import ASGIApp

from api import query
from api.auth import READERS, own_app, principal_of
from api.metrics import count_response
from api.openapi import documented
from api.own_view import own_view
from api.respond import STREAMED
from api.routes.event import LAST_EVENT_ID, last_event_id
from api.services import services_of
from api.tail import Chunk
from ledger import journal, reads

CHANGES_PER_READ = 64


@get(
    "/v1/live-calls/stream",
    **documented(
        READERS, "Follow calls", query=query.LiveParams, responses={200: "text/event-stream"},
        headers={LAST_EVENT_ID: "The last position seen; the stream goes on after it, whatever `after` says."},
    ),
)  # fmt: skip
async def stream_live_calls(request: Request[Any, Any, Any]) -> ASGIApp:
    """Server-Sent Events: `data` is a list of calls that came or changed, each as it is now; `id` is the position."""
    params = query.parse(request, query.LiveParams)
    services, principal = services_of(request.app), principal_of(request)
    app = own_app(principal, params.app)
    readers = services.ledger.readers

    async def changed(after: int) -> Chunk:
        calls, position = await readers.run(reads.changed_calls, after, CHANGES_PER_READ, app)
        if not calls:
            return b"", position
        data = msgspec.json.encode(own_view(principal, calls)).decode()
        return f"id: {position}\ndata: {data}\n\n".encode(), position

    last = last_event_id(request.headers.get(LAST_EVENT_ID))
    after = params.after if last is None else last
    if after is None:
        after = await readers.run(journal.head_position)
    stream = await services.tail.open(after, changed)
    count_response(request.scope, 200)
    response: Response[Any] = Stream(stream, media_type="text/event-stream", headers=STREAMED)
    return response.to_asgi_response(None, request)  # pyright: ignore[reportUnknownMemberType]


ROUTES = (stream_live_calls,)
