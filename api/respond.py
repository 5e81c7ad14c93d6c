"""Responses whose bytes are ready: sent as they are, without the framework's response objects in between."""

from typing import Any

import msgspec
from litestar.types import Receive, Scope, Send

from api.metrics import count_response

_encode = msgspec.json.Encoder().encode

JSON = "application/json"
# Events go out as they come: nobody keeps them, no proxy collects them.
STREAMED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Answer:
    """An ASGI application that sends one body and counts it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: bytes, status: int, media_type: str, headers: dict[str, str] | None = None) -> None:
        self.body = body
        self.status = status
        self.headers = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(body))]
        if headers:
            self.headers += [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send it."""
        count_response(scope, self.status)
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:  # noqa: ANN401 - any view
    """A view as JSON, encoded once."""
    return Answer(_encode(content), status, JSON, headers)
