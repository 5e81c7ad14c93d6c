"""Models: what providers offer, as applications may choose from it."""

from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import structs

from api import catalogue, query
from api.auth import ADMINS, READERS
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import catalogue_reads
from projections import model as rows
from schema.catalogue import HistoryItem, Stand, view
from schema.model import (
    MODEL,
    ChangeModel,
    CreateModel,
    DeleteModel,
    Model,
    ModelChange,
    ModelCreated,
    ModelFilter,
    ModelGroups,
    ModelReceipt,
    ModelView,
    check_model,
)
from schema.paging import Page, bounded_limit

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(Model)
_patches = msgspec.json.Decoder(ModelChange)


class ModelListParams(ModelFilter, kw_only=True, forbid_unknown_fields=True):
    """Models by sort and id."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/models",
    **documented(ADMINS, "Create a model", body=Model, responses={200: ModelReceipt, 201: ModelReceipt}, sends=TAGGED),
)
async def create_model(request: AnyRequest) -> ASGIApp:
    """Of a provider that there is. The same content again gets the first answer."""
    content = await catalogue.read_body(request, _posts)
    check_model(content)
    command = CreateModel(actor_of(request), services_of(request.app).clock(), ModelCreated(**structs.asdict(content)))
    return await catalogue.create(request, command, ModelReceipt)


@get(
    "/v1/models",
    **documented(READERS, "List models", query=ModelListParams, responses={200: Page[ModelView]}),
)
async def list_models(request: AnyRequest) -> ASGIApp:
    """By sort and id; deleted ones only with `deleted=true`."""
    params = query.parse(request, ModelListParams)
    page = params.cursor, params.limit
    return json(await catalogue.listed(request, MODEL, rows.conditions(params), page, _shown))


@get(
    "/v1/model-groups",
    **documented(READERS, "Count models by group", query=query.NoParams, responses={200: ModelGroups}),
)
async def get_model_groups(request: AnyRequest) -> ASGIApp:
    """Models that are not deleted, by group and by category; null counts those without."""
    query.parse(request, query.NoParams)
    return json(await services_of(request.app).ledger.readers.run(catalogue_reads.model_groups))


@get(
    "/v1/models/{model_id:str}",
    **documented(READERS, "Read one model", query=query.NoParams, responses={200: ModelView}, sends=TAGGED),
)
async def get_model(request: AnyRequest, model_id: FromPath[str]) -> ASGIApp:
    """As it is now, deleted ones too."""
    query.parse(request, query.NoParams)
    stand = await catalogue.show(request, MODEL, model_id)
    return catalogue.tagged(_shown(stand), stand)


@patch(
    "/v1/models/{model_id:str}",
    **documented(
        ADMINS, "Change a model", body=ModelChange, responses={200: ModelView}, headers=CONDITION, sends=TAGGED
    ),
)
async def change_model(request: AnyRequest, model_id: FromPath[str]) -> ASGIApp:
    """Fields that are given; null sets one back. A change that changes nothing adds no event."""
    position = catalogue.expected_position(request)
    change = await catalogue.read_body(request, _patches)
    check_model(change)
    command = ChangeModel(actor_of(request), services_of(request.app).clock(), model_id, position, change)
    return await catalogue.change(request, MODEL, model_id, command, ModelView)


@delete(
    "/v1/models/{model_id:str}",
    status_code=200,
    **documented(
        ADMINS, "Delete a model", query=query.ReasonParams, responses={200: ModelView}, headers=CONDITION, sends=TAGGED
    ),
)
async def delete_model(request: AnyRequest, model_id: FromPath[str]) -> ASGIApp:
    """It can still be read, and its id stays taken; its calls stay as they are."""
    position = catalogue.expected_position(request)
    reason = query.reason(request)
    command = DeleteModel(actor_of(request), services_of(request.app).clock(), model_id, position, reason)
    return await catalogue.change(request, MODEL, model_id, command, ModelView)


@get(
    "/v1/models/{model_id:str}/history",
    **documented(READERS, "Read a model's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_model_history(request: AnyRequest, model_id: FromPath[str]) -> ASGIApp:
    """Who changed what, when, oldest first."""
    params = query.parse(request, query.PageParams)
    readers = services_of(request.app).ledger.readers
    return json(await readers.run(catalogue_reads.changes, MODEL, model_id, params.cursor, bounded_limit(params.limit)))


def _shown(stand: Stand) -> ModelView:
    return view(ModelView, stand)


ROUTES = (
    create_model,
    list_models,
    get_model_groups,
    get_model,
    change_model,
    delete_model,
    get_model_history,
)
