"""Who is calling, and whether the route lets them: nothing is allowed unless a route says so."""

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any, cast

from litestar import Request
from litestar.types import Scope

from api.services import Services, services_of
from projections.key import KeyRecord
from schema.errors import Forbidden, Unauthenticated
from schema.key import Principal, Role

ROLES = "roles"
ANYONE = "anyone"
ADMINS: frozenset[Role] = frozenset({"admin"})
POSTERS: frozenset[Role] = frozenset({"admin", "app"})
REPLAYERS: frozenset[Role] = frozenset({"admin", "auditor"})
OPERATORS: frozenset[Role] = frozenset({"admin", "auditor", "dashboard"})
TRAIL_READERS: frozenset[Role] = frozenset({"admin", "auditor", "app"})
READERS: frozenset[Role] = frozenset({"admin", "auditor", "dashboard", "app"})

SAFE_METHODS = frozenset({"GET", "HEAD"})

_HEADERS = "usage_ledger.headers"  # in a request's scope, once one was asked for
KEY_PREFIX = "ulk"
KEY_CHARS_MAX = 128
KEY_PARTS = 3


def authenticate(find: Callable[[str], KeyRecord | None], header: bytes | None) -> Principal:
    """The principal of an Authorization header, looked up in the ledger as it is now; raises Unauthenticated."""
    text = (header or b"").decode("latin-1")
    scheme, _, token = text.partition(" ")
    parts = token.strip().split("_", KEY_PARTS - 1)
    if scheme.lower() != "bearer" or len(parts) != KEY_PARTS or parts[0] != KEY_PREFIX or len(token) > KEY_CHARS_MAX:
        raise Unauthenticated
    record = find(parts[1])
    digest = sha256(token.strip().encode("latin-1")).hexdigest()
    # Compared also where there is no such key, so that an answer's time tells nothing about ids.
    if not hmac.compare_digest(digest, record.sha256 if record else "0" * len(digest)) or record is None:
        raise Unauthenticated
    return record.principal


def header(scope: Scope, name: bytes) -> bytes | None:
    """A header's value; of several the first."""
    known = cast("dict[str, Any]", scope)
    found: dict[bytes, bytes] | None = known.get(_HEADERS)
    if found is None:
        known[_HEADERS] = found = dict(reversed([*scope["headers"]]))
    return found.get(name)


def principal_of(request: Request[Any, Any, Any]) -> Principal:
    """Who the gate let in."""
    principal: Principal = request.scope["auth"]
    return principal


def caller(services: Services, scope: Scope) -> Principal:
    """Who is calling: by the Authorization header where there is one, else by the session that the cookie names.

    Raises Unauthenticated; and Forbidden where a session is to change something and the request is not our own page's:
    a browser sends a cookie whoever made it ask, but a header only who has the key.
    """
    given = header(scope, b"authorization")
    if given is not None or header(scope, b"cookie") is None:
        return authenticate(services.keys.find, given)
    principal = services.sessions.principal(scope)
    if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
        require_same_origin(scope)
    return principal


def require_same_origin(scope: Scope) -> None:
    """Raise Forbidden unless the browser says that a page of this very service asks."""
    site = header(scope, b"sec-fetch-site")
    origin, host = header(scope, b"origin") or b"", header(scope, b"host") or b""
    ours = bool(host) and origin.partition(b"://")[2] == host
    if not (ours if site is None else site == b"same-origin"):
        raise Forbidden("this request does not come from a page of this service")


def known_caller(request: Request[Any, Any, Any]) -> Principal | None:
    """Who is calling a route that is open to anyone; None without a valid key or session."""
    try:
        return caller(services_of(request.app), request.scope)
    except Unauthenticated:
        return None


def own_app(principal: Principal, named: str | None) -> str | None:
    """The app a caller may act for: an app key only its own, others the one they name."""
    if principal.role != "app":
        return named
    if principal.app is None or named not in {None, principal.app}:
        raise Forbidden(f"this key belongs to app {principal.app}")
    return principal.app
