"""Conversions: how many credits an amount of a currency buys."""

from typing import Any

import msgspec
from litestar import Request, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import catalogue, query
from api.auth import ADMINS, OPERATORS, READERS
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import catalogue_reads
from schema.catalogue import HistoryItem, Stand, view
from schema.conversion import (
    CONVERSION,
    ChangeConversion,
    Conversion,
    ConversionChange,
    ConversionCreated,
    ConversionReceipt,
    ConversionView,
    CreateConversion,
    check_conversion,
)
from schema.paging import Page, bounded_limit

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(ConversionCreated)
_patches = msgspec.json.Decoder(ConversionChange)


@post(
    "/v1/conversions",
    **documented(
        ADMINS, "Create a conversion", body=Conversion, responses={200: ConversionReceipt, 201: ConversionReceipt},
        sends=TAGGED,
    ),
)  # fmt: skip
async def create_conversion(request: AnyRequest) -> ASGIApp:
    """A currency has one; its code is the id."""
    content = await catalogue.read_body(request, _posts)
    check_conversion(content)
    command = CreateConversion(actor_of(request), services_of(request.app).clock(), content)
    return await catalogue.create(request, command, ConversionReceipt)


@get(
    "/v1/conversions",
    **documented(READERS, "List conversions", query=query.PageParams, responses={200: Page[ConversionView]}),
)
async def list_conversions(request: AnyRequest) -> ASGIApp:
    """By currency, inactive ones too."""
    params = query.parse(request, query.PageParams)

    def shown(stand: Stand) -> ConversionView:
        return view(ConversionView, stand)

    return json(await catalogue.listed(request, CONVERSION, (), (params.cursor, params.limit), shown))


@get(
    "/v1/conversions/{currency:str}",
    **documented(READERS, "Read one conversion", query=query.NoParams, responses={200: ConversionView}, sends=TAGGED),
)
async def get_conversion(request: AnyRequest, currency: FromPath[str]) -> ASGIApp:
    """As it is now."""
    query.parse(request, query.NoParams)
    stand = await catalogue.show(request, CONVERSION, currency)
    return catalogue.tagged(view(ConversionView, stand), stand)


@patch(
    "/v1/conversions/{currency:str}",
    **documented(
        ADMINS, "Change a conversion", body=ConversionChange, responses={200: ConversionView}, headers=CONDITION,
        sends=TAGGED,
    ),
)  # fmt: skip
async def change_conversion(request: AnyRequest, currency: FromPath[str]) -> ASGIApp:
    """For orders placed from now on; `active: false` ends it."""
    position = catalogue.expected_position(request)
    change = await catalogue.read_body(request, _patches)
    check_conversion(change)
    command = ChangeConversion(actor_of(request), services_of(request.app).clock(), currency, position, change)
    return await catalogue.change(request, CONVERSION, currency, command, ConversionView)


@get(
    "/v1/conversions/{currency:str}/history",
    **documented(OPERATORS, "Read a conversion's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_conversion_history(request: AnyRequest, currency: FromPath[str]) -> ASGIApp:
    """Who changed what, when, oldest first."""
    params = query.parse(request, query.PageParams)
    readers, limit = services_of(request.app).ledger.readers, bounded_limit(params.limit)
    return json(await readers.run(catalogue_reads.changes, CONVERSION, currency, params.cursor, limit))


ROUTES = (create_conversion, list_conversions, get_conversion, change_conversion, get_conversion_history)
