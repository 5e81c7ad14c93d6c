"""What every request passes: nobody gets in unless the route says so, and who gets in is answered here.

A middleware rather than the framework's guards, which copy the route handler for every request. It ends the chain: the
framework has found the route, and our routes are functions from a request to an ASGI application, which need nothing
of what it would do between. That is a tenth of a post's time.
"""

from typing import Any

from litestar import Request
from litestar.types import ASGIApp, Receive, Scope, Send

from api.auth import ANYONE, ROLES, caller
from api.services import services_of
from schema.errors import Forbidden


def gate(app: ASGIApp) -> ASGIApp:  # noqa: ARG001 - the chain ends here
    """Authenticate, authorise by the route's roles, answer."""

    async def enter(scope: Scope, receive: Receive, send: Send) -> None:
        _admit(scope)
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        answer: ASGIApp = await scope["route_handler"].fn(request, **scope["path_params"])
        await answer(scope, receive, send)

    return enter


def _admit(scope: Scope) -> None:
    """A route that names no roles is closed; raises Unauthenticated or Forbidden."""
    roles = scope["route_handler"].opt.get(ROLES)
    if roles is None:
        raise Forbidden("this route allows no role")
    if roles == ANYONE:
        return
    principal = caller(services_of(scope["litestar_app"]), scope)
    if principal.role not in roles:
        raise Forbidden(f"role {principal.role} may not do this")
    scope["auth"] = principal
