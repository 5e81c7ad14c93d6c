"""What calls cost as FOCUS has it, for the tools of those who answer for spending."""

from typing import Any

from litestar import Request, get
from litestar.types import ASGIApp

from api import parquet, query
from api.auth import READERS
from api.exports import Export, Form
from api.openapi import documented
from api.respond import json
from api.routes.call_export import POSITIONED, begun, sent
from schema.call_export import ExportManifest
from schema.focus import focus

AnyRequest = Request[Any, Any, Any]


async def _export(request: AnyRequest, form: Form) -> Export:
    params = query.parse(request, query.FocusParams)
    return await begun(request, params, focus(params.currency), form)


@get(
    "/v1/focus.csv",
    **documented(
        READERS, "Export costs as FOCUS", query=query.FocusParams, responses={200: "text/csv"}, sends=POSITIONED
    ),
)
async def export_focus(request: AnyRequest) -> ASGIApp:
    """One charge a finished call, newest first, in the columns of FOCUS 1.2, without a cap."""
    return await sent(request, await _export(request, "csv"))


@get(
    "/v1/focus.csv/manifest",
    **documented(READERS, "What a FOCUS export holds", query=query.FocusParams, responses={200: ExportManifest}),
)
async def get_focus_manifest(request: AnyRequest) -> ASGIApp:
    """Range, position, rows, totals, size and SHA-256; `totals.cost` is the sum of BilledCost."""
    return json(await (await _export(request, "csv")).manifest())


@get(
    "/v1/focus.parquet",
    **documented(
        READERS, "Export costs as FOCUS in Parquet", query=query.FocusParams, responses={200: parquet.MEDIA_TYPE},
        sends=POSITIONED,
    ),
)  # fmt: skip
async def export_focus_parquet(request: AnyRequest) -> ASGIApp:
    """The same rows with types. Needs an extra."""
    return await sent(request, await _export(request, "parquet"))


@get(
    "/v1/focus.parquet/manifest",
    **documented(
        READERS, "What a FOCUS export in Parquet holds", query=query.FocusParams, responses={200: ExportManifest}
    ),
)
async def get_focus_parquet_manifest(request: AnyRequest) -> ASGIApp:
    """As of the CSV file."""
    return json(await (await _export(request, "parquet")).manifest())


ROUTES = (export_focus, get_focus_manifest, export_focus_parquet, get_focus_parquet_manifest)
