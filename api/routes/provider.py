"""Providers: the vendors whose models are called."""

from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import catalogue, query
from api.auth import ADMINS, OPERATORS, principal_of
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import catalogue_reads
from projections import provider as rows
from schema.catalogue import HistoryItem, Stand, view
from schema.paging import Page, bounded_limit
from schema.provider import (
    PROVIDER,
    ChangeProvider,
    CreateProvider,
    DeleteProvider,
    Provider,
    ProviderChange,
    ProviderCreated,
    ProviderFilter,
    ProviderReceipt,
    ProviderView,
    check_provider,
)

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(ProviderCreated)
_patches = msgspec.json.Decoder(ProviderChange)


class ProviderListParams(ProviderFilter, kw_only=True, forbid_unknown_fields=True):
    """Providers by sort and id."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/providers",
    **documented(
        ADMINS, "Create a provider", body=Provider, responses={200: ProviderReceipt, 201: ProviderReceipt}, sends=TAGGED
    ),
)
async def create_provider(request: AnyRequest) -> ASGIApp:
    """The same content again gets the first answer; an id and a name are one provider's."""
    content = await catalogue.read_body(request, _posts)
    check_provider(content)
    command = CreateProvider(actor_of(request), services_of(request.app).clock(), content)
    return await catalogue.create(request, command, ProviderReceipt)


@get(
    "/v1/providers",
    **documented(OPERATORS, "List providers", query=ProviderListParams, responses={200: Page[ProviderView]}),
)
async def list_providers(request: AnyRequest) -> ASGIApp:
    """By sort and id; deleted ones only with `deleted=true`. `config` is null unless an admin asks."""
    params = query.parse(request, ProviderListParams)

    def shown(stand: Stand) -> ProviderView:
        return _shown(request, stand)

    page = params.cursor, params.limit
    return json(await catalogue.listed(request, PROVIDER, rows.conditions(params), page, shown))


@get(
    "/v1/providers/{provider_id:str}",
    **documented(OPERATORS, "Read one provider", query=query.NoParams, responses={200: ProviderView}, sends=TAGGED),
)
async def get_provider(request: AnyRequest, provider_id: FromPath[str]) -> ASGIApp:
    """As it is now, deleted ones too. `config` is null unless an admin asks."""
    query.parse(request, query.NoParams)
    stand = await catalogue.show(request, PROVIDER, provider_id)
    return catalogue.tagged(_shown(request, stand), stand)


@patch(
    "/v1/providers/{provider_id:str}",
    **documented(
        ADMINS, "Change a provider", body=ProviderChange, responses={200: ProviderView}, headers=CONDITION, sends=TAGGED
    ),
)
async def change_provider(request: AnyRequest, provider_id: FromPath[str]) -> ASGIApp:
    """Fields that are given; null sets one back. A change that changes nothing adds no event."""
    position = catalogue.expected_position(request)
    change = await catalogue.read_body(request, _patches)
    check_provider(change)
    command = ChangeProvider(actor_of(request), services_of(request.app).clock(), provider_id, position, change)
    return await catalogue.change(request, PROVIDER, provider_id, command, ProviderView)


@delete(
    "/v1/providers/{provider_id:str}",
    status_code=200,
    **documented(
        ADMINS, "Delete a provider", query=query.ReasonParams, responses={200: ProviderView}, headers=CONDITION,
        sends=TAGGED,
    ),
)  # fmt: skip
async def delete_provider(request: AnyRequest, provider_id: FromPath[str]) -> ASGIApp:
    """It can still be read, and its id stays taken. Refused while a model refers to it."""
    position = catalogue.expected_position(request)
    reason = query.reason(request)
    command = DeleteProvider(actor_of(request), services_of(request.app).clock(), provider_id, position, reason)
    return await catalogue.change(request, PROVIDER, provider_id, command, ProviderView)


@get(
    "/v1/providers/{provider_id:str}/history",
    **documented(OPERATORS, "Read a provider's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_provider_history(request: AnyRequest, provider_id: FromPath[str]) -> ASGIApp:
    """Who changed what, when, oldest first. Changes of `config` show null unless an admin asks."""
    params = query.parse(request, query.PageParams)
    readers = services_of(request.app).ledger.readers
    page = await readers.run(catalogue_reads.changes, PROVIDER, provider_id, params.cursor, bounded_limit(params.limit))
    if not _sees_config(request):
        for change in (change for item in page.items for change in item.changes if change.field == "config"):
            change.before = change.after = None
    return json(page)


def _shown(request: AnyRequest, stand: Stand) -> ProviderView:
    found = view(ProviderView, stand)
    if not _sees_config(request):
        found.config = None
    return found


def _sees_config(request: AnyRequest) -> bool:
    return principal_of(request).role == "admin"


ROUTES = (
    create_provider,
    list_providers,
    get_provider,
    change_provider,
    delete_provider,
    get_provider_history,
)
