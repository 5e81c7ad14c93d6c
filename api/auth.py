"""Who is calling, and whether the route lets them: nothing is allowed unless a route says so."""

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from litestar import Request
from litestar.types import Scope

from api.services import services_of
from projections.key import KeyRecord
from schema.errors import Forbidden, Unauthenticated
from schema.key import Principal, Role

ROLES = "roles"
ANYONE = "anyone"
POSTERS: frozenset[Role] = frozenset({"admin", "app"})
ADMINS: frozenset[Role] = frozenset({"admin"})
REPLAYERS: frozenset[Role] = frozenset({"admin", "auditor"})
OPERATORS: frozenset[Role] = frozenset({"admin", "auditor", "dashboard"})
TRAIL_READERS: frozenset[Role] = frozenset({"admin", "auditor", "app"})
READERS: frozenset[Role] = frozenset({"admin", "auditor", "dashboard", "app"})

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
    """A header's value, without building an object for all of them."""
    return next((value for key, value in scope["headers"] if key == name), None)


def principal_of(request: Request[Any, Any, Any]) -> Principal:
    """Who the gate let in."""
    principal: Principal = request.scope["auth"]
    return principal


def known_caller(request: Request[Any, Any, Any]) -> Principal | None:
    """Who is calling a route that is open to anyone; None without a valid key."""
    try:
        return authenticate(services_of(request.app).keys.find, header(request.scope, b"authorization"))
    except Unauthenticated:
        return None


def own_app(principal: Principal, named: str | None) -> str | None:
    """The app a caller may act for: an app key only its own, others the one they name."""
    if principal.role != "app":
        return named
    if principal.app is None or named not in {None, principal.app}:
        raise Forbidden(f"this key belongs to app {principal.app}")
    return principal.app
