"""Statistics of calls."""

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
from projections.model_call_error import ErrorQuery
from schema.model_call_query import CallErrors, Stats


@get(
    "/v1/model-call-stats",
    **documented(READERS, "Read statistics", query=query.StatParams, responses={200: Stats}),
)
async def get_model_call_stats(request: Request[Any, Any, Any]) -> ASGIApp:
    """Exact sums by hour, day, month or in total, in any zone, by any edges, the last call included."""
    asked = await query.stat_query(request)
    found = await services_of(request.app).ledger.readers.run(reads.model_call_stats, asked)
    return json(own_view(principal_of(request), found))


@get(
    "/v1/model-call-errors",
    **documented(READERS, "Why calls failed", query=query.ErrorParams, responses={200: CallErrors}),
)
async def get_model_call_errors(request: Request[Any, Any, Any]) -> ASGIApp:
    """Failed calls by the code of their error: exact for what sums are kept by, app to type.

    Other filters look at a bounded number of calls, newest first, and say how far.
    """
    params = query.parse(request, query.ErrorParams)
    asked = ErrorQuery(
        filter=await query.call_filter(request, params),
        granularity=params.granularity,
        timezone=params.timezone,
        top=params.top,
    )
    return json(await services_of(request.app).ledger.readers.run(reads.model_call_errors, asked))


ROUTES = (get_model_call_stats, get_model_call_errors)
