"""A provider's models after its vendor's own list: following it now, and how it is followed."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import catalogue, model_following, query
from api.auth import ADMINS, OPERATORS
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import model_sync
from schema.model_sync import ModelSyncReport, ModelSyncRequest, ModelSyncState

AnyRequest = Request[Any, Any, Any]

_requests = msgspec.json.Decoder(ModelSyncRequest)


@post(
    "/v1/providers/{provider_id:str}/models/sync",
    status_code=200,
    **documented(
        ADMINS, "Follow the vendor's list of models now", body=ModelSyncRequest, query=query.NoParams,
        responses={200: ModelSyncReport},
    ),
)  # fmt: skip
async def sync_models(request: AnyRequest, provider_id: FromPath[str]) -> ASGIApp:
    """New ones are registered, those that are not on it flagged. The same list again changes nothing."""
    query.parse(request, query.NoParams)
    wanted = await catalogue.read_body(request, _requests)
    services = services_of(request.app)
    provider = (await services.ledger.readers.run(model_sync.follower, provider_id)).provider
    services.vendors.admit(provider_id)
    return json(await model_following.sync(services, catalogue.actor_of(request), provider, wanted))


@get(
    "/v1/providers/{provider_id:str}/models/sync",
    **documented(
        OPERATORS, "Read how the vendor's list is followed", query=query.NoParams, responses={200: ModelSyncState}
    ),
)
async def get_model_sync(request: AnyRequest, provider_id: FromPath[str]) -> ASGIApp:
    """The last sync that changed something, and when the next is due."""
    query.parse(request, query.NoParams)
    services = services_of(request.app)
    found = await services.ledger.readers.run(model_sync.follower, provider_id)
    return json(model_sync.state(found, services.models_due_us.get(provider_id), services.clock()))


ROUTES = (sync_models, get_model_sync)
