"""Packages: credits at a fixed price."""

from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import catalogue, query
from api.auth import ADMINS, OPERATORS, READERS
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import catalogue_reads
from projections import package as rows
from schema.catalogue import HistoryItem, Stand, view
from schema.package import (
    PACKAGE,
    ChangePackage,
    CreatePackage,
    DeletePackage,
    Package,
    PackageChange,
    PackageCreated,
    PackageFilter,
    PackageReceipt,
    PackageView,
    check_package,
)
from schema.paging import Page, bounded_limit

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(PackageCreated)
_patches = msgspec.json.Decoder(PackageChange)


class PackageListParams(PackageFilter, kw_only=True, forbid_unknown_fields=True):
    """Packages by sort and id."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/packages",
    **documented(
        ADMINS, "Create a package", body=Package, responses={200: PackageReceipt, 201: PackageReceipt}, sends=TAGGED
    ),
)
async def create_package(request: AnyRequest) -> ASGIApp:
    """The same content again gets the first answer."""
    content = await catalogue.read_body(request, _posts)
    check_package(content)
    command = CreatePackage(actor_of(request), services_of(request.app).clock(), content)
    return await catalogue.create(request, command, PackageReceipt)


@get(
    "/v1/packages",
    **documented(READERS, "List packages", query=PackageListParams, responses={200: Page[PackageView]}),
)
async def list_packages(request: AnyRequest) -> ASGIApp:
    """By sort and id; deleted ones only with `deleted=true`."""
    params = query.parse(request, PackageListParams)

    def shown(stand: Stand) -> PackageView:
        return view(PackageView, stand)

    return json(await catalogue.listed(request, PACKAGE, rows.conditions(params), (params.cursor, params.limit), shown))


@get(
    "/v1/packages/{package_id:str}",
    **documented(READERS, "Read one package", query=query.NoParams, responses={200: PackageView}, sends=TAGGED),
)
async def get_package(request: AnyRequest, package_id: FromPath[str]) -> ASGIApp:
    """As it is now, deleted ones too."""
    query.parse(request, query.NoParams)
    stand = await catalogue.show(request, PACKAGE, package_id)
    return catalogue.tagged(view(PackageView, stand), stand)


@patch(
    "/v1/packages/{package_id:str}",
    **documented(
        ADMINS, "Change a package", body=PackageChange, responses={200: PackageView}, headers=CONDITION, sends=TAGGED
    ),
)
async def change_package(request: AnyRequest, package_id: FromPath[str]) -> ASGIApp:
    """Fields that are given; null sets one back. Orders that were placed keep what it was."""
    position = catalogue.expected_position(request)
    change = await catalogue.read_body(request, _patches)
    check_package(change)
    command = ChangePackage(actor_of(request), services_of(request.app).clock(), package_id, position, change)
    return await catalogue.change(request, PACKAGE, package_id, command, PackageView)


@delete(
    "/v1/packages/{package_id:str}",
    status_code=200,
    **documented(
        ADMINS, "Delete a package", query=query.ReasonParams, responses={200: PackageView}, headers=CONDITION,
        sends=TAGGED,
    ),
)  # fmt: skip
async def delete_package(request: AnyRequest, package_id: FromPath[str]) -> ASGIApp:
    """It can still be read, its id stays taken, and orders of it that are open can be paid."""
    position, reason = catalogue.expected_position(request), query.reason(request)
    command = DeletePackage(actor_of(request), services_of(request.app).clock(), package_id, position, reason)
    return await catalogue.change(request, PACKAGE, package_id, command, PackageView)


@get(
    "/v1/packages/{package_id:str}/history",
    **documented(OPERATORS, "Read a package's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_package_history(request: AnyRequest, package_id: FromPath[str]) -> ASGIApp:
    """Who changed what, when, oldest first."""
    params = query.parse(request, query.PageParams)
    readers, limit = services_of(request.app).ledger.readers, bounded_limit(params.limit)
    return json(await readers.run(catalogue_reads.changes, PACKAGE, package_id, params.cursor, limit))


ROUTES = (create_package, list_packages, get_package, change_package, delete_package, get_package_history)
