"""What every request passes before its route: nobody gets in unless the route says so.

A middleware rather than the framework's guards, which copy the route handler for every request.
"""

from litestar.types import ASGIApp, Receive, Scope, Send

from api.auth import ANYONE, ROLES, authenticate, header
from api.services import services_of
from schema.errors import Forbidden


def gate(app: ASGIApp) -> ASGIApp:
    """Authenticate, and authorise by the route's roles."""

    async def enter(scope: Scope, receive: Receive, send: Send) -> None:
        _admit(scope)
        await app(scope, receive, send)

    return enter


def _admit(scope: Scope) -> None:
    """A route that names no roles is closed; raises Unauthenticated or Forbidden."""
    roles = scope["route_handler"].opt.get(ROLES)
    if roles is None:
        raise Forbidden("this route allows no role")
    if roles == ANYONE:
        return
    principal = authenticate(services_of(scope["litestar_app"]).auth_db, header(scope, b"authorization"))
    if principal.role not in roles:
        raise Forbidden(f"role {principal.role} may not do this")
    scope["auth"] = principal
