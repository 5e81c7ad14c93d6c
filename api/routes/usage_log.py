"""Finished calls as lines of a bill."""

from typing import Any

from litestar import Request, get
from litestar.types import ASGIApp

from api import query
from api.auth import READERS, principal_of
from api.openapi import documented
from api.own_view import own_view
from api.respond import json
from api.services import services_of
from ledger import reads
from schema.paging import Page, bounded_limit
from schema.usage_log import UsageLog


@get(
    "/v1/usage-logs",
    **documented(
        READERS, "List finished calls with their costs, newest first", query=query.CallListParams,
        responses={200: Page[UsageLog]},
    ),
)  # fmt: skip
async def list_usage_logs(request: Request[Any, Any, Any]) -> ASGIApp:
    """The calls that statistics count, and what they add up. A page may be short and still have a next_cursor."""
    params = query.parse(request, query.CallListParams)
    call_filter = await query.call_filter(request, params)
    readers = services_of(request.app).ledger.readers
    found = await readers.run(reads.usage_logs, call_filter, params.cursor, bounded_limit(params.limit))
    return json(own_view(principal_of(request), found))


ROUTES = (list_usage_logs,)
