"""Whether models answer, as the latest calls tell."""

from typing import Any

from litestar import Request, get
from litestar.types import ASGIApp

from api import query
from api.auth import READERS, own_app, principal_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger.model_status import model_statuses
from schema.model_status import ModelStatuses, ModelStatusFilter


@get(
    "/v1/model-status",
    **documented(READERS, "Read whether models answer", query=ModelStatusFilter, responses={200: ModelStatuses}),
)
async def get_model_status(request: Request[Any, Any, Any]) -> ASGIApp:
    """By the latest calls of all apps; an app sees what its own calls tell."""
    wanted = query.parse(request, ModelStatusFilter)
    app = own_app(principal_of(request), None)
    return json(await services_of(request.app).ledger.readers.run(model_statuses, app, wanted))


ROUTES = (get_model_status,)
