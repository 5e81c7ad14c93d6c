"""The dashboard: a page and its files, the same for everyone. What it shows, it asks the API for."""

import asyncio
from typing import Any

from litestar import Request, get
from litestar.params import FromPath
from litestar.types import ASGIApp

from api.assets import CONTENT_SECURITY_POLICY
from api.auth import ANYONE, header
from api.openapi import documented
from api.respond import Answer
from api.services import services_of
from schema.errors import NotFound

AnyRequest = Request[Any, Any, Any]
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
FOR_EVER = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "public, max-age=31536000, immutable",
    "Vary": "Accept-Encoding",
}


@get("/", **documented(ANYONE, "The dashboard", responses={200: "text/html"}))
async def get_dashboard(request: AnyRequest) -> ASGIApp:
    """The page; signing in is its own business."""
    return Answer(services_of(request.app).assets.page, 200, "text/html; charset=utf-8", HEADERS)


@get(
    "/assets/{version:str}/{name:str}",
    **documented(ANYONE, "A file of the dashboard", responses={200: "text/javascript"}),
)
async def get_asset(request: AnyRequest, version: FromPath[str], name: FromPath[str]) -> ASGIApp:
    """Under the digest of its content, so it may be kept for ever; compressed where the client takes that."""
    asset = services_of(request.app).assets.find(version, name)
    if asset is None:
        raise NotFound("there is no such file of the dashboard, or not in this version")
    if b"gzip" not in (header(request.scope, b"accept-encoding") or b""):
        return Answer(asset.content, 200, asset.media_type, FOR_EVER)
    compressed = await asyncio.to_thread(lambda: asset.compressed)
    return Answer(compressed, 200, asset.media_type, {**FOR_EVER, "Content-Encoding": "gzip"})


ROUTES = (get_dashboard, get_asset)
