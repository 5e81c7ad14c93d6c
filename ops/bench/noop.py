"""The floor of a single post: the same server and framework, decoding the same body and doing nothing with it."""

from typing import Any

import msgspec
from litestar import Litestar, Request, Response, post

from schema.model_call import ModelCallRecorded

_decoder = msgspec.json.Decoder(ModelCallRecorded)


@post("/noop")
async def noop(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Decode and answer."""
    call = _decoder.decode(await request.body())
    return Response(msgspec.json.encode({"id": call.id}), status_code=201, media_type="application/json")


def create_app() -> Litestar:
    """The application."""
    return Litestar([noop], openapi_config=None)
