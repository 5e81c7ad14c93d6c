"""What would a call cost?"""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.types import ASGIApp

from api import body as bodies
from api.auth import READERS, own_app, principal_of
from api.body import JSON
from api.openapi import documented
from api.own_view import own_view
from api.respond import json
from api.services import services_of
from schema.acceptance import accept
from schema.estimate import Estimate, EstimatedCall, as_posted
from schema.times import format_time


@post(
    "/v1/estimate",
    **documented(READERS, "Estimate a call's cost", body=EstimatedCall, responses={200: Estimate}),
)
async def post_estimate(request: Request[Any, Any, Any]) -> ASGIApp:
    """What a post of the same call would be charged by the rates of now. Nothing is stored."""
    services, principal = services_of(request.app), principal_of(request)
    bodies.content_type(request, JSON)
    asked = bodies.decode(await bodies.read(request, services.settings.body_bytes_max), _estimates)
    own_app(principal, asked.app)
    now_us = services.clock()
    call = as_posted(asked, format_time(now_us))
    policy = services.settings.rating_policy
    readers = services.ledger.readers
    found = await readers.run(services.estimator.estimate, call, accept(call, now_us), policy)
    return json(own_view(principal, found))


_estimates = msgspec.json.Decoder(EstimatedCall)

ROUTES = (post_estimate,)
