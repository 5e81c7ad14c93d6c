"""Signing in to the dashboard, and out."""

from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api.auth import ANYONE, authenticate, header, known_caller, require_same_origin
from api.body import JSON
from api.openapi import documented
from api.respond import json
from api.services import Services, services_of
from api.session import COOKIE, TOKEN_CHARS_MAX, Claim, set_cookie
from schema.errors import FieldError, InvalidInput
from schema.key import Principal, Role
from schema.sign_in import SignInLinkUsed, UseSignInLink
from schema.times import format_time

AnyRequest = Request[Any, Any, Any]
SET_COOKIE = {"Set-Cookie": f"`{COOKIE}`: HttpOnly, SameSite=Strict, and Secure where the page came by https."}


class SignIn(Struct, kw_only=True, forbid_unknown_fields=True):
    """Either an API key or the token of a sign-in link."""

    key: str | None = None
    link: str | None = None


class SessionView(Struct, kw_only=True):
    """Who is signed in; null where nobody is, and `expires_at` where a key is sent instead."""

    key_id: str | None = None
    role: Role | None = None
    app: str | None = None
    expires_at: str | None = None


_sign_ins = msgspec.json.Decoder(SignIn)


@post(
    "/session",
    **documented(ANYONE, "Sign in", body=SignIn, responses={201: SessionView}, sends=SET_COOKIE),
)
async def sign_in(request: AnyRequest) -> ASGIApp:
    """Takes an API key, or a link once, from our own page only; answers with a session in a cookie."""
    services = services_of(request.app)
    bodies.content_type(request, JSON)
    given = bodies.decode(await bodies.read(request, TOKEN_CHARS_MAX * 4), _sign_ins)
    if (given.key is None) == (given.link is None):
        raise InvalidInput(errors=(FieldError("$.key", "Expected either `key` or `link`"),))
    require_same_origin(request.scope)
    if given.key is not None:
        bearer = f"Bearer {given.key}".encode("latin-1", "replace")
        key_id = authenticate(services.keys.find, bearer).key_id
    else:
        key_id = await _use(services, services.sessions.link(given.link or ""))
    token, session = services.sessions.open(key_id)
    cookie = set_cookie(token, services.sessions.lifetime_us, secure=_by_https(request))
    return json(_view(session.principal, session.expires_us), 201, {"Set-Cookie": cookie})


async def _use(services: Services, claim: Claim) -> str:
    link = SignInLinkUsed(id=claim.nonce, key=claim.key_id)
    await services.ledger.execute_one(UseSignInLink(f"key:{claim.key_id}", services.clock(), link))
    return claim.key_id


def _by_https(request: AnyRequest) -> bool:
    """The browser's own word for how it reached us; a proxy in front need not be believed."""
    return (header(request.scope, b"origin") or b"").startswith(b"https://") or request.scope["scheme"] == "https"


@get("/session", **documented(ANYONE, "Who is signed in", responses={200: SessionView}))
async def get_session(request: AnyRequest) -> ASGIApp:
    """Nulls where nobody is."""
    session = services_of(request.app).sessions.find(request.scope)
    caller = known_caller(request)
    return json(_view(caller, session.expires_us if session else None) if caller else SessionView())


@delete("/session", status_code=200, **documented(ANYONE, "Sign out", responses={200: SessionView}, sends=SET_COOKIE))
async def sign_out(request: AnyRequest) -> ASGIApp:
    """Ends the session in this browser. Revoking its key ends it everywhere."""
    return json(SessionView(), 200, {"Set-Cookie": set_cookie("", 0, secure=_by_https(request))})


def _view(principal: Principal, expires_us: int | None) -> SessionView:
    return SessionView(
        key_id=principal.key_id, role=principal.role, app=principal.app,
        expires_at=None if expires_us is None else format_time(expires_us),
    )  # fmt: skip


ROUTES = (sign_in, get_session, sign_out)
