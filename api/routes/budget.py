"""Budgets: created, changed and retired; read with what is spent and held of them now."""

from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import catalogue, query
from api.auth import ADMINS, OPERATORS
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import budget_reads
from ledger.decision import Command
from projections import budget as rows
from projections.quota_period import calendar
from schema.budget import (
    Budget,
    BudgetChange,
    BudgetFilter,
    BudgetView,
    ChangeBudget,
    CreateBudget,
    RetireBudget,
    check_budget,
)
from schema.catalogue import HistoryItem
from schema.paging import Page, bounded_limit

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(Budget)
_patches = msgspec.json.Decoder(BudgetChange)


class BudgetListParams(BudgetFilter, kw_only=True, forbid_unknown_fields=True):
    """Budgets by id."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/budgets",
    **documented(ADMINS, "Create a budget", body=Budget, responses={200: BudgetView, 201: BudgetView}, sends=TAGGED),
)
async def create_budget(request: AnyRequest) -> ASGIApp:
    """It counts its first period whole, with the calls that came before it; `counts_from` says where it cannot."""
    content = await catalogue.read_body(request, _posts)
    check_budget(content)
    calendar(content.timezone)  # raises where there is no such zone
    command = CreateBudget(actor_of(request), services_of(request.app).clock(), content)
    return await _run(request, content.id, command, created=True)


@get(
    "/v1/budgets",
    **documented(OPERATORS, "List budgets", query=BudgetListParams, responses={200: Page[BudgetView]}),
)
async def list_budgets(request: AnyRequest) -> ASGIApp:
    """By id, each with what is spent and held of it now; retired ones only with `retired=true`."""
    params = query.parse(request, BudgetListParams)
    services, limit = services_of(request.app), bounded_limit(params.limit)
    readers, conditions = services.ledger.readers, rows.conditions(params)
    return json(await readers.run(budget_reads.page, conditions, params.cursor, limit, services.clock()))


@get(
    "/v1/budgets/{budget_id:str}",
    **documented(OPERATORS, "Read a budget", query=query.NoParams, responses={200: BudgetView}, sends=TAGGED),
)
async def get_budget(request: AnyRequest, budget_id: FromPath[str]) -> ASGIApp:
    """With what is spent and held of it now, retired ones too."""
    query.parse(request, query.NoParams)
    services = services_of(request.app)
    view, stand = await services.ledger.readers.run(budget_reads.one, budget_id, services.clock())
    return catalogue.tagged(view, stand)


@patch(
    "/v1/budgets/{budget_id:str}",
    **documented(
        ADMINS, "Change a budget", body=BudgetChange, responses={200: BudgetView}, headers=CONDITION, sends=TAGGED
    ),
)
async def change_budget(request: AnyRequest, budget_id: FromPath[str]) -> ASGIApp:
    """Amount, enforcement and thresholds; scope and period stay, and so does what was counted."""
    position = catalogue.expected_position(request)
    change = await catalogue.read_body(request, _patches)
    check_budget(change)
    command = ChangeBudget(actor_of(request), services_of(request.app).clock(), budget_id, position, change)
    return await _run(request, budget_id, command)


@delete(
    "/v1/budgets/{budget_id:str}",
    status_code=200,
    **documented(
        ADMINS, "Retire a budget", query=query.ReasonParams, responses={200: BudgetView}, headers=CONDITION,
        sends=TAGGED,
    ),
)  # fmt: skip
async def retire_budget(request: AnyRequest, budget_id: FromPath[str]) -> ASGIApp:
    """It counts and declines nothing more. It can still be read, and its id stays taken."""
    position = catalogue.expected_position(request)
    reason = query.reason(request)
    command = RetireBudget(actor_of(request), services_of(request.app).clock(), budget_id, position, reason)
    return await _run(request, budget_id, command)


@get(
    "/v1/budgets/{budget_id:str}/history",
    **documented(OPERATORS, "Read a budget's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_budget_history(request: AnyRequest, budget_id: FromPath[str]) -> ASGIApp:
    """Who changed what, when, oldest first. Crossings, which change nothing, are events of type `budget.crossed`."""
    params = query.parse(request, query.PageParams)
    readers = services_of(request.app).ledger.readers
    limit = bounded_limit(params.limit)
    return json(await readers.run(budget_reads.budget_history, budget_id, params.cursor, limit))


async def _run(request: AnyRequest, id_: str, command: Command, *, created: bool = False) -> ASGIApp:
    event, duplicate = await catalogue.execute(request, command)
    services = services_of(request.app)
    view, stand = await services.ledger.readers.run(budget_reads.left_by, id_, event.position, services.clock())
    return catalogue.tagged(view, stand, 201 if created and not duplicate else 200)


ROUTES = (
    create_budget,
    list_budgets,
    get_budget,
    change_budget,
    retire_budget,
    get_budget_history,
)
