"""Post usage, start and end long calls, read calls."""

from collections import Counter
from typing import Any, Literal

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api import query
from api.as_of import position_of
from api.auth import POSTERS, READERS, TRAIL_READERS, own_app, principal_of
from api.body import JSON, Arrival, Item, Rejected
from api.openapi import documented
from api.own_view import own_view
from api.problems import Problem, problem
from api.respond import json
from api.routes.hold import declined
from api.services import Services, services_of
from ledger import reads
from ledger.writer import Appended, Outcome
from schema.acceptance import accept, accept_call_hold, accept_details
from schema.errors import FieldError, IdConflict, InvalidInput, LedgerError
from schema.ids import CLIENT_ID_PATTERN, ClientId
from schema.model_call import (
    FinalStatus,
    FinishModelCall,
    ModelCall,
    ModelCallEnd,
    ModelCallStart,
    ModelCallStartDeclined,
    StartModelCall,
)
from schema.model_call_query import CallFilter
from schema.model_call_view import ModelCallView, Receipt, receipt
from schema.paging import Page, bounded_limit

Fate = Literal["accepted", "duplicate", "conflict", "rejected"]
AnyRequest = Request[Any, Any, Any]


class ItemResult(Struct, gc=False):
    """What became of one item: its receipt's position, or its problem."""

    index: int
    id: str | None
    status: Fate
    position: int | None = None
    problem: Problem | None = None


class BatchResult(Struct, kw_only=True):
    """What became of a batch."""

    accepted: int
    duplicate: int
    rejected: int
    items: list[ItemResult]


class BatchParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """`items=failures` leaves out what was accepted."""

    items: Literal["all", "failures"] = "all"


@post(
    "/v1/model-calls",
    **documented(
        POSTERS, "Post finished calls", body=ModelCall | list[ModelCall], query=BatchParams,
        responses={200: Receipt, 201: Receipt, 207: BatchResult}, lines=ModelCall,
    ),
)  # fmt: skip
async def post_model_calls(request: AnyRequest) -> ASGIApp:
    """One call gives a receipt; an array or NDJSON up to 10,000 gives each item's fate, and good items land."""
    services = services_of(request.app)
    content_type = bodies.content_type(request)
    params = query.parse(request, BatchParams)
    data = await bodies.read(request, services.settings.body_bytes_max)
    principal = principal_of(request)
    arrival = Arrival(principal, principal.actor, services.clock(), services.settings.rating_policy)
    if content_type == JSON and data.lstrip()[:1] != b"[":
        command = bodies.one(data, arrival)
        return _receipt(await services.ledger.execute_one(command, len(data)))
    read = bodies.array if content_type == JSON else bodies.ndjson
    items = read(data, arrival, services.settings.batch_items_max)
    return json(await _post_batch(services, items, len(data), failures_only=params.items == "failures"), 207)


async def _post_batch(services: Services, items: list[Item], size: int, *, failures_only: bool) -> BatchResult:
    commands = [item for item in items if not isinstance(item, Rejected)]
    outcomes = iter(await services.ledger.execute(commands, size) if commands else [])
    results = [
        _item_result(index, item.id, item.error)
        if isinstance(item, Rejected)
        else _item_result(index, item.call.id, next(outcomes))
        for index, item in enumerate(items)
    ]
    fates = Counter([result.status for result in results])
    return BatchResult(
        accepted=fates["accepted"],
        duplicate=fates["duplicate"],
        rejected=fates["conflict"] + fates["rejected"],
        items=[result for result in results if result.status != "accepted"] if failures_only else results,
    )


def _item_result(index: int, id_: str | None, outcome: Outcome) -> ItemResult:
    if isinstance(outcome, Appended) and outcome.recorded is not None:
        return ItemResult(index, id_, "duplicate" if outcome.duplicate else "accepted", outcome.recorded.position)
    error = outcome if isinstance(outcome, LedgerError) else LedgerError()
    return ItemResult(index, id_, "conflict" if isinstance(error, IdConflict) else "rejected", None, problem(error))


def _receipt(outcome: Appended) -> ASGIApp:
    assert outcome.recorded is not None
    if isinstance(outcome.recorded.data, ModelCallStartDeclined):
        raise declined(outcome.recorded.data)
    return json(receipt(outcome.recorded, duplicate=outcome.duplicate), 200 if outcome.duplicate else 201)


@post(
    "/v1/model-calls/{call_id:str}/start",
    **documented(POSTERS, "Start a long call", body=ModelCallStart, responses={200: Receipt, 201: Receipt}),
)
async def start_model_call(request: AnyRequest, call_id: FromPath[str]) -> ASGIApp:
    """It is processing until completed, failed or timed out. With `hold`: or 402, and then nothing is started."""
    services, principal = services_of(request.app), principal_of(request)
    bodies.content_type(request, JSON)
    data = await bodies.read(request, services.settings.body_bytes_max)
    call = bodies.decode(data, _starts)
    call.id = _same_id(call_id, call.id)
    call.app = _required_app(own_app(principal, call.app))
    if call.hold is not None:
        accept_call_hold(call.hold)
    now_us, timeout_us = services.clock(), services.settings.call_timeout_us
    started_at_us, admin = accept(call, now_us), principal.role == "admin"
    command = StartModelCall(principal.actor, now_us, started_at_us, timeout_us, call, admin)
    return _receipt(await services.ledger.execute_one(command, len(data)))


@post(
    "/v1/model-calls/{call_id:str}/complete",
    **documented(POSTERS, "Complete a started call", body=ModelCallEnd, responses={200: Receipt, 201: Receipt}),
)
async def complete_model_call(request: AnyRequest, call_id: FromPath[str]) -> ASGIApp:
    """The call succeeded. After its time-out this corrects it."""
    return await _finish(request, call_id, "success")


@post(
    "/v1/model-calls/{call_id:str}/fail",
    **documented(POSTERS, "Fail a started call", body=ModelCallEnd, responses={200: Receipt, 201: Receipt}),
)
async def fail_model_call(request: AnyRequest, call_id: FromPath[str]) -> ASGIApp:
    """The call failed; what it used until then is kept."""
    return await _finish(request, call_id, "failed")


async def _finish(request: AnyRequest, call_id: str, status: FinalStatus) -> ASGIApp:
    services, principal = services_of(request.app), principal_of(request)
    bodies.content_type(request, JSON)
    data = await bodies.read(request, services.settings.body_bytes_max)
    end = bodies.decode(data, _ends)
    if end.status not in {None, status}:
        raise InvalidInput(errors=(FieldError("$.status", f"Expected {status}, or nothing"),))
    id_ = _same_id(call_id, end.id)
    app = _required_app(own_app(principal, end.app))
    accept_details(end)
    policy = services.settings.rating_policy
    admin = principal.role == "admin"
    command = FinishModelCall(principal.actor, services.clock(), id_, app, status, end, policy, admin)
    return _receipt(await services.ledger.execute_one(command, len(data)))


_starts = msgspec.json.Decoder(ModelCallStart)
_ends = msgspec.json.Decoder(ModelCallEnd)


def _same_id(call_id: str, in_body: str | None) -> str:
    try:
        msgspec.convert(call_id, ClientId)
    except msgspec.ValidationError:
        raise InvalidInput(errors=(FieldError("$.id", f"Expected an id that matches {CLIENT_ID_PATTERN}"),)) from None
    if in_body not in {None, call_id}:
        raise InvalidInput(errors=(FieldError("$.id", "Expected the id of the path, or nothing"),))
    return call_id


def _required_app(app: str | None) -> str:
    if app is None:
        raise InvalidInput(errors=(FieldError("$.app", "Expected an app: an admin names the one that called"),))
    return app


@get(
    "/v1/model-calls",
    **documented(READERS, "List calls, newest first", query=query.CallListParams, responses={200: Page[ModelCallView]}),
)
async def list_model_calls(request: AnyRequest) -> ASGIApp:
    """Under filters without an index a page may be short and still have a next_cursor."""
    params = query.parse(request, query.CallListParams)
    call_filter: CallFilter = await query.call_filter(request, params)
    readers = services_of(request.app).ledger.readers
    found = await readers.run(reads.model_calls, call_filter, params.cursor, bounded_limit(params.limit))
    return json(own_view(principal_of(request), found))


@get(
    "/v1/model-calls/{call_id:str}",
    **documented(READERS, "Read one call", query=query.CallParams, responses={200: ModelCallView}),
)
async def get_model_call(request: AnyRequest, call_id: FromPath[str]) -> ASGIApp:
    """The call as its latest event tells it, or as it was known `as_of` a position or a time."""
    params = query.parse(request, query.CallParams)
    app, as_of = own_app(principal_of(request), params.app), await position_of(request, params.as_of)
    found = await services_of(request.app).ledger.readers.run(reads.model_call, app, call_id, as_of)
    return json(own_view(principal_of(request), found))


@get(
    "/v1/model-calls/{call_id:str}/events",
    **documented(TRAIL_READERS, "Read a call's events", query=query.AppParams, responses={200: Page[dict[str, Any]]}),
)
async def get_model_call_events(request: AnyRequest, call_id: FromPath[str]) -> ASGIApp:
    """The stored entries of one call, in order."""
    app = own_app(principal_of(request), query.parse(request, query.AppParams).app)
    entries = await services_of(request.app).ledger.readers.run(reads.model_call_entries, app, call_id)
    return json(Page(items=[msgspec.Raw(entry.encode()) for entry in entries]))


ROUTES = (
    post_model_calls,
    start_model_call,
    complete_model_call,
    fail_model_call,
    list_model_calls,
    get_model_call,
    get_model_call_events,
)
