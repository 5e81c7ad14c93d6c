"""Webhooks: where events are told, how far each is, what was not taken, and telling it again."""

from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api import catalogue, lending, query, secret_body
from api.auth import ADMINS, REPLAYERS
from api.catalogue import CONDITION, POSITION_DIGITS_MAX, TAGGED, actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import catalogue_reads, webhook_reads
from schema.catalogue import HistoryItem, view
from schema.errors import NotFound
from schema.paging import Page, bounded_limit
from schema.webhook import (
    WEBHOOK,
    ChangeWebhook,
    CreateWebhook,
    DeadLetter,
    DeleteWebhook,
    PostedReplay,
    PostedRetry,
    ReplayWebhook,
    RetryDead,
    WebhookChange,
    WebhookPost,
    WebhookReceipt,
    WebhookView,
    check_webhook,
)

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(WebhookPost)
_patches = msgspec.json.Decoder(WebhookChange)
_retries = msgspec.json.Decoder(PostedRetry)
_replays = msgspec.json.Decoder(PostedReplay)


class WebhookListParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Webhooks by id; deleted ones only with `deleted=true`."""

    deleted: bool = False
    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/webhooks",
    **documented(
        ADMINS, "Create a webhook", body=WebhookPost, responses={200: WebhookReceipt, 201: WebhookReceipt}, sends=TAGGED
    ),
)
async def create_webhook(request: AnyRequest) -> ASGIApp:
    """Told of what happens from now on. The same content again gets the first answer; the secret is never shown."""
    content = await secret_body.read(request, _posts)
    check_webhook(content)
    services = services_of(request.app)
    drawn = services.ledger.require_keyring().draw()
    command = CreateWebhook(actor=actor_of(request), received_at_us=services.clock(), content=content, drawn=drawn)
    return await catalogue.create(request, command, WebhookReceipt)


@get(
    "/v1/webhooks",
    **documented(REPLAYERS, "List webhooks", query=WebhookListParams, responses={200: Page[WebhookView]}),
)
async def list_webhooks(request: AnyRequest) -> ASGIApp:
    """By id, each with how far it is."""
    params = query.parse(request, WebhookListParams)
    readers, limit = services_of(request.app).ledger.readers, bounded_limit(params.limit)
    conditions = [] if params.deleted else [("NOT deleted", ())]
    found = await readers.run(catalogue_reads.page, WEBHOOK, conditions, params.cursor, limit)
    items = [view(WebhookView, stand) for stand in found.items]
    deliveries = await readers.run(webhook_reads.deliveries, [item.id for item in items])
    for item in items:
        item.delivery = deliveries.get(item.id)
    return json(Page(items=items, next_cursor=found.next_cursor))


@get(
    "/v1/webhooks/{webhook_id:str}",
    **documented(REPLAYERS, "Read one webhook", query=query.NoParams, responses={200: WebhookView}, sends=TAGGED),
)
async def get_webhook(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    """As it is now, with how far it is; deleted ones too."""
    query.parse(request, query.NoParams)
    stand = await catalogue.show(request, WEBHOOK, webhook_id)
    deliveries = await services_of(request.app).ledger.readers.run(webhook_reads.deliveries, [webhook_id])
    return catalogue.tagged(view(WebhookView, stand, delivery=deliveries.get(webhook_id)), stand)


@patch(
    "/v1/webhooks/{webhook_id:str}",
    **documented(
        ADMINS, "Change a webhook", body=WebhookChange, responses={200: WebhookView}, headers=CONDITION, sends=TAGGED
    ),
)
async def change_webhook(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    """Fields that are given. With another secret, both sign for a day; one that is enabled again missed nothing."""
    position = catalogue.expected_position(request)
    change = await secret_body.read(request, _patches)
    check_webhook(change)
    services = services_of(request.app)
    command = ChangeWebhook(
        actor=actor_of(request), received_at_us=services.clock(), id=webhook_id, position=position, change=change,
        drawn=services.ledger.require_keyring().draw(),
    )  # fmt: skip
    return await catalogue.change(request, WEBHOOK, webhook_id, command, WebhookView)


@delete(
    "/v1/webhooks/{webhook_id:str}",
    status_code=200,
    **documented(
        ADMINS, "Delete a webhook", query=query.ReasonParams, responses={200: WebhookView}, headers=CONDITION,
        sends=TAGGED,
    ),
)  # fmt: skip
async def delete_webhook(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    """It is told nothing more, its dead letters are forgotten, and its secrets can be read by nobody again."""
    position = catalogue.expected_position(request)
    reason = query.reason(request)
    command = DeleteWebhook(actor_of(request), services_of(request.app).clock(), webhook_id, position, reason)
    return await catalogue.change(request, WEBHOOK, webhook_id, command, WebhookView)


@get(
    "/v1/webhooks/{webhook_id:str}/history",
    **documented(REPLAYERS, "Read a webhook's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_webhook_history(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    """Who changed what, when, oldest first. Of a secret only that it changed."""
    params = query.parse(request, query.PageParams)
    readers = services_of(request.app).ledger.readers
    return json(await readers.run(webhook_reads.changes, webhook_id, params.cursor, bounded_limit(params.limit)))


@post(
    "/v1/webhooks/{webhook_id:str}/replay",
    status_code=200,
    **documented(ADMINS, "Tell a webhook again", body=PostedReplay, responses={200: WebhookView}),
)
async def replay_webhook(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    """Of all its events after a position, under the ids that they had."""
    posted = await catalogue.read_body(request, _replays)
    services = services_of(request.app)
    await lending.run(
        services, ReplayWebhook(actor_of(request), services.clock(), webhook_id, posted.after, posted.reason)
    )
    stand = await catalogue.show(request, WEBHOOK, webhook_id)
    deliveries = await services.ledger.readers.run(webhook_reads.deliveries, [webhook_id])
    return catalogue.tagged(view(WebhookView, stand, delivery=deliveries.get(webhook_id)), stand)


@get(
    "/v1/webhooks/{webhook_id:str}/dead-letters",
    **documented(REPLAYERS, "List dead letters", query=query.PageParams, responses={200: Page[DeadLetter]}),
)
async def list_dead_letters(request: AnyRequest, webhook_id: FromPath[str]) -> ASGIApp:
    """What a webhook did not take, by position."""
    params = query.parse(request, query.PageParams)
    readers = services_of(request.app).ledger.readers
    return json(await readers.run(webhook_reads.dead_letters, webhook_id, params.cursor, bounded_limit(params.limit)))


@post(
    "/v1/webhooks/{webhook_id:str}/dead-letters/{event_position:str}/retry",
    status_code=200,
    **documented(ADMINS, "Tell a dead letter again", body=PostedRetry, responses={200: DeadLetter}),
)
async def retry_dead_letter(request: AnyRequest, webhook_id: FromPath[str], event_position: FromPath[str]) -> ASGIApp:
    """Soon, and out of its turn; taken, it is one no more."""
    services = services_of(request.app)
    data = await bodies.read(request, services.settings.body_bytes_max)
    reason = bodies.decode(data, _retries).reason if data.strip() else None
    if not (event_position.isascii() and event_position.isdigit() and len(event_position) <= POSITION_DIGITS_MAX):
        raise NotFound(f"{event_position[:100]} is no position")
    position = int(event_position)
    found = await services.ledger.readers.run(webhook_reads.one_dead_letter, webhook_id, position)
    await lending.run(services, RetryDead(actor_of(request), services.clock(), webhook_id, position, reason))
    found.retrying = True
    return json(found)


ROUTES = (
    create_webhook,
    list_webhooks,
    get_webhook,
    change_webhook,
    delete_webhook,
    get_webhook_history,
    replay_webhook,
    list_dead_letters,
    retry_dead_letter,
)
