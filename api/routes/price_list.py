"""The market's price list: what is installed, who follows it, and following it now."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.types import ASGIApp

from api import body as bodies
from api import price_following, query
from api.auth import ADMINS, OPERATORS, principal_of
from api.openapi import documented
from api.respond import json
from api.services import Services, services_of
from ledger.decision import preview
from ledger.price_list import Follower, PriceListSource, command, followers, selected, total
from schema.errors import NotFound
from schema.price_list import FollowedProvider, PriceListView, SyncReport, SyncRequest
from schema.times import format_time

AnyRequest = Request[Any, Any, Any]

_requests = msgspec.json.Decoder(SyncRequest)


@post(
    "/v1/price-list/sync",
    **documented(ADMINS, "Follow the price list now", body=SyncRequest, responses={200: SyncReport}),
)
async def sync_price_list(request: AnyRequest) -> ASGIApp:
    """New and changed prices become rates; rates that are set stay. The same list again changes nothing."""
    services = services_of(request.app)
    wanted = bodies.decode(await bodies.read(request, services.settings.body_bytes_max), _requests)
    listed, offered = await price_following.load(_source(services))
    readers = services.ledger.readers
    found = await readers.run(followers, offered)
    actor = principal_of(request).actor
    reports: list[SyncReport] = []
    for follower in selected(found, offered, wanted.providers):
        # One provider at a time, so that others' writes come in between.
        each = command(actor, services.clock(), listed, follower, offered)
        if wanted.dry_run:
            decision = await readers.run(preview, each)
            assert isinstance(decision.report, SyncReport)
            reports.append(decision.report)
        else:
            reports.append(await price_following.sync(services.ledger, each))
            services.prices_tried_us[follower.id] = each.received_at_us
    return json(total(reports))


@get("/v1/price-list", **documented(OPERATORS, "Read the price list's state", responses={200: PriceListView}))
async def get_price_list(request: AnyRequest) -> ASGIApp:
    """The installed list, and for each provider that follows it the last sync that changed something."""
    query.parse(request, query.NoParams)
    services = services_of(request.app)
    listed, offered = await price_following.load(_source(services))
    found = await services.ledger.readers.run(followers, offered)
    view = PriceListView(
        listed=listed,
        models=sum(len(each.models) for each in offered.values()),
        providers=[_followed(services, each) for each in selected(found, offered, None)],
    )
    return json(view)


def _followed(services: Services, follower: Follower) -> FollowedProvider:
    due_us = follower.due_us(services.prices_tried_us.get(follower.id)) if follower.auto_sync else None
    return FollowedProvider(
        provider=follower.id,
        price_list_id=follower.price_list_id,
        auto_sync=follower.auto_sync,
        last_sync=follower.last,
        next_due=None if due_us is None else format_time(due_us),
    )


def _source(services: Services) -> PriceListSource:
    if services.price_list is None:
        raise NotFound("this service follows no price list")
    return services.price_list


ROUTES = (sync_price_list, get_price_list)
