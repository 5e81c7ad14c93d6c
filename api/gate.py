"""What every request passes before its route: nobody gets in unless the route says so. Counts the answers too.

A middleware rather than the framework's guards, which copy the route handler for every request.
"""

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import ANYONE, ROLES, authenticate, header
from api.metrics import count_response
from api.problems import status_of
from api.services import services_of
from schema.errors import Forbidden, LedgerError


def gate(app: ASGIApp) -> ASGIApp:
    """Authenticate, authorise by the route's roles, and count."""

    async def enter(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count_response(scope, message["status"])
            await send(message)

        try:
            _admit(scope)
        except LedgerError as error:
            count_response(scope, status_of(error))
            raise
        await app(scope, receive, counted)

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
