"""Testing a connection: whether a provider takes a credential, before anything depends on it."""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import model_following, query, secret_body
from api.auth import ADMINS
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import model_sync
from schema.errors import FieldError, InvalidInput
from schema.vendor import ProviderTest, ProviderTestRequest

_requests = msgspec.json.Decoder(ProviderTestRequest)


@post(
    "/v1/providers/{provider_id:str}/test",
    status_code=200,
    **documented(
        ADMINS, "Test a connection", body=ProviderTestRequest, query=query.NoParams, responses={200: ProviderTest}
    ),
)
async def test_provider(request: Request[Any, Any, Any], provider_id: FromPath[str]) -> ASGIApp:
    """Asks for the vendor's models, which costs nothing, and saves nothing. At most 10 times a minute."""
    query.parse(request, query.NoParams)
    asked = await secret_body.read(request, _requests)
    if (asked.credential_id is None) == (asked.secret is None):
        raise InvalidInput(errors=(FieldError("$.credential_id", "Expected either a credential_id or a secret"),))
    services = services_of(request.app)
    provider = (await services.ledger.readers.run(model_sync.follower, provider_id)).provider
    target = await model_following.target(services, provider, asked)
    services.vendors.admit(provider_id)
    found = await services.vendors.models(target)
    answer = ProviderTest(
        ok=found.outcome == "success", outcome=found.outcome, status=found.status, latency_ms=found.latency_ms,
        models=len(found.models), detail=found.detail,
    )  # fmt: skip
    return json(answer)


ROUTES = (test_provider,)
