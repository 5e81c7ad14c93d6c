"""Calls and statistics as files for spreadsheets and programs."""

from typing import Any

import msgspec
from litestar import Request, get
from litestar.response import Response, Stream
from litestar.types import ASGIApp
from msgspec import UNSET

from api import parquet, query
from api.auth import READERS, principal_of
from api.exports import Export, Form
from api.metrics import count_response
from api.openapi import documented
from api.own_view import own_view
from api.respond import Answer, json
from api.services import services_of
from ledger import reads
from ledger.csv_text import csv_text
from ledger.journal import head_position
from schema.call_export import CALLS, ExportManifest, Layout
from schema.model_call_query import StatBucket, StatQuery, StatTotals

AnyRequest = Request[Any, Any, Any]
MEDIA_TYPES: dict[Form, str] = {"csv": "text/csv; charset=utf-8; header=present", "parquet": parquet.MEDIA_TYPE}
POSITION = "Export-Position"
POSITIONED = {POSITION: "The journal's position when the export began; its manifest takes it as `as_of`."}
_MEASURES = tuple(field for field in StatTotals.__struct_fields__ if field != "distinct")


async def _export(request: AnyRequest, form: Form) -> Export:
    return await begun(request, query.parse(request, query.ExportParams), CALLS, form)


async def begun(request: AnyRequest, params: query.ExportParams, layout: Layout, form: Form) -> Export:
    """An export as of the position that is asked for, or of now; raises MissingExtra."""
    call_filter = await query.call_filter(request, params)
    services = services_of(request.app)
    head = await services.ledger.readers.run(head_position)
    as_of = head if call_filter.as_of is None else min(call_filter.as_of, head)
    call_filter = msgspec.structs.replace(call_filter, as_of=as_of)
    return Export(services, call_filter, layout, form, vendor=principal_of(request).role != "app")


async def sent(request: AnyRequest, export: Export) -> ASGIApp:
    """A file, while it is made."""
    stream = await export.open()
    count_response(request.scope, 200)
    headers = {**_attachment(f"{export.layout.name}.{export.form}"), POSITION: str(export.call_filter.as_of)}
    response: Response[Any] = Stream(stream, media_type=MEDIA_TYPES[export.form], headers=headers)
    return response.to_asgi_response(None, request)  # pyright: ignore[reportUnknownMemberType]


@get(
    "/v1/model-calls.csv",
    **documented(
        READERS, "Export calls", query=query.ExportParams, responses={200: "text/csv"}, sends=POSITIONED
    ),
)  # fmt: skip
async def export_model_calls(request: AnyRequest) -> ASGIApp:
    """Every call that matches, newest first, without a cap: streamed while the service goes on taking calls.

    It holds what was known when it began, whatever changes meanwhile. Text that a spreadsheet would calculate has a
    quote in front.
    """
    return await sent(request, await _export(request, "csv"))


@get(
    "/v1/model-calls.csv/manifest",
    **documented(READERS, "What an export holds", query=query.ExportParams, responses={200: ExportManifest}),
)
async def get_export_manifest(request: AnyRequest) -> ASGIApp:
    """Range, position, rows, totals, size and SHA-256 of the file of the same query. Takes as long as the file does."""
    return json(await (await _export(request, "csv")).manifest())


@get(
    "/v1/model-calls.parquet",
    **documented(
        READERS, "Export calls as Parquet", query=query.ExportParams, responses={200: parquet.MEDIA_TYPE},
        sends=POSITIONED,
    ),
)  # fmt: skip
async def export_model_calls_parquet(request: AnyRequest) -> ASGIApp:
    """The same rows with types: costs as exact decimals, times as instants, texts as they are. Needs an extra."""
    return await sent(request, await _export(request, "parquet"))


@get(
    "/v1/model-calls.parquet/manifest",
    **documented(READERS, "What a Parquet export holds", query=query.ExportParams, responses={200: ExportManifest}),
)
async def get_parquet_manifest(request: AnyRequest) -> ASGIApp:
    """As of the CSV file; its bytes are those of this version of the service."""
    return json(await (await _export(request, "parquet")).manifest())


@get(
    "/v1/model-call-stats.csv",
    **documented(READERS, "Export statistics", query=query.StatParams, responses={200: "text/csv"}),
)
async def export_model_call_stats(request: AnyRequest) -> ASGIApp:
    """The buckets of the same query as rows; the remainder of `top` says how many groups it adds up."""
    asked = await query.stat_query(request)
    found = await services_of(request.app).ledger.readers.run(reads.model_call_stats, asked)
    found = own_view(principal_of(request), found)
    distinct = tuple(f"distinct_{dimension}" for dimension in asked.distinct)
    header = ("start", "end", *asked.group_by, "others", *_MEASURES, *distinct)
    rows = [_row(bucket, asked) for bucket in found.buckets]
    return Answer(csv_text([header, *rows]).encode(), 200, MEDIA_TYPES["csv"], _attachment("model-call-stats.csv"))


def _row(bucket: StatBucket, asked: StatQuery) -> list[Any]:
    group = (bucket.group.get(name) for name in asked.group_by)
    measures = (getattr(bucket, name) for name in _MEASURES)
    distinct = () if bucket.distinct is UNSET else (bucket.distinct[name] for name in asked.distinct)
    values = (None if value is UNSET else value for value in measures)
    return [bucket.start, bucket.end, *group, bucket.others or 0, *values, *distinct]


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


ROUTES = (
    export_model_calls,
    get_export_manifest,
    export_model_calls_parquet,
    get_parquet_manifest,
    export_model_call_stats,
)
