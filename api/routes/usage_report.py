"""Usage reports: the batches, how reporting stands, what is amiss, and the switches."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api import lending, query
from api.auth import ADMINS, REPLAYERS
from api.catalogue import actor_of
from api.openapi import documented
from api.payment import PaymentSystem
from api.respond import json
from api.services import Services, services_of
from ledger import reconciliation, report_reads
from ledger.commands.usage_report_sending import Batch
from schema.ids import AppId
from schema.money import amount_e10, amount_text
from schema.paging import LIMIT_MAX, Page, bounded_limit
from schema.usage_report import (
    BatchFilter,
    BatchView,
    NoPaymentSystem,
    PauseReporting,
    PostedReason,
    Reconciled,
    ReportingView,
    RetryBatch,
)

AnyRequest = Request[Any, Any, Any]
ASKED_AT_ONCE_MAX = 8
ASKED_MAX = 100  # users of a page whose totals the payment system is asked for

_reasons = msgspec.json.Decoder(PostedReason)


class BatchListParams(BatchFilter, kw_only=True, forbid_unknown_fields=True):
    """Batches, newest first."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


class ReconciliationParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Users by app and id. `gaps` leaves out those with nothing amiss; `remote` asks the payment system as well."""

    app: AppId | None = None
    gaps: bool = False
    remote: bool = False
    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@get(
    "/v1/usage-reports",
    **documented(REPLAYERS, "List usage reports", query=BatchListParams, responses={200: Page[BatchView]}),
)
async def list_usage_reports(request: AnyRequest) -> ASGIApp:
    """Newest first. Under filters a page may be short and still have a next_cursor."""
    params = query.parse(request, BatchListParams)
    readers = services_of(request.app).ledger.readers
    return json(await readers.run(report_reads.batches, params, params.cursor, bounded_limit(params.limit)))


@get(
    "/v1/usage-reports/status",
    **documented(REPLAYERS, "How reporting stands", query=query.NoParams, responses={200: ReportingView}),
)
async def get_reporting(request: AnyRequest) -> ASGIApp:
    """Whether it is paused, how far it is, and what waits."""
    query.parse(request, query.NoParams)
    services = services_of(request.app)
    return json(await services.ledger.readers.run(report_reads.standing, services.clock(), _name(services)))


@get(
    "/v1/usage-reports/reconciliation",
    **documented(
        REPLAYERS, "Compare ledger and reports", query=ReconciliationParams, responses={200: Page[Reconciled]}
    ),
)
async def get_reconciliation(request: AnyRequest) -> ASGIApp:
    """By user: what calls cost, what was reported, what is open; with `remote=true` what the payment system has.

    With `gaps=true` a page may be short, or empty, and still have a next_cursor.
    """
    params = query.parse(request, ReconciliationParams)
    services = services_of(request.app)
    payment = _payment(services) if params.remote else None
    limit = min(bounded_limit(params.limit), ASKED_MAX if params.remote else LIMIT_MAX)
    page = await services.ledger.readers.run(
        reconciliation.compared, params.app, params.cursor, limit, gaps_only=params.gaps and payment is None
    )
    if payment is not None:
        await _ask(payment, page.items)
        page.items = [item for item in page.items if item.gaps or not params.gaps]
    return json(page)


async def _ask(payment: PaymentSystem, items: list[Reconciled]) -> None:
    """Fill in what the payment system has. What is under way meanwhile may show as a gap: open is then not 0."""
    at_once = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

    async def ask(item: Reconciled) -> None:
        async with at_once:
            total_e10 = await payment.total_e10(item.customer, item.app)
        if total_e10 is None:
            return
        item.remote = amount_text(total_e10)
        if total_e10 != amount_e10(item.reported):
            item.gaps.append("remote")

    await asyncio.gather(*(ask(item) for item in items))


@get(
    "/v1/usage-reports/{report_id:str}",
    **documented(REPLAYERS, "Read one usage report", query=query.NoParams, responses={200: BatchView}),
)
async def get_usage_report(request: AnyRequest, report_id: FromPath[str]) -> ASGIApp:
    """As it is now."""
    query.parse(request, query.NoParams)
    return json(await services_of(request.app).ledger.readers.run(report_reads.batch, report_id))


@post(
    "/v1/usage-reports/{report_id:str}/retry",
    status_code=200,
    **documented(ADMINS, "Send a usage report again", body=PostedReason, responses={200: BatchView}),
)
async def retry_usage_report(request: AnyRequest, report_id: FromPath[str]) -> ASGIApp:
    """Now, under the same id, one that failed or is dead; with as many attempts as a new one has."""
    services, reason = services_of(request.app), await _reason(request)
    outcome = await lending.run(services, RetryBatch(actor_of(request), services.clock(), report_id, reason))
    assert isinstance(outcome.report, Batch)
    _wake(services)
    return json(report_reads.view(outcome.report.row))


@post(
    "/v1/usage-reports/pause",
    status_code=200,
    **documented(ADMINS, "Pause reporting", body=PostedReason, responses={200: ReportingView}),
)
async def pause_reporting(request: AnyRequest) -> ASGIApp:
    """Nothing more is sent, in any process; batches go on being made."""
    return await _switch(request, paused=True)


@post(
    "/v1/usage-reports/resume",
    status_code=200,
    **documented(ADMINS, "Resume reporting", body=PostedReason, responses={200: ReportingView}),
)
async def resume_reporting(request: AnyRequest) -> ASGIApp:
    """What waits is sent."""
    return await _switch(request, paused=False)


async def _switch(request: AnyRequest, *, paused: bool) -> ASGIApp:
    services, reason = services_of(request.app), await _reason(request)
    await lending.run(services, PauseReporting(actor_of(request), services.clock(), paused, reason))
    _wake(services)
    return json(await services.ledger.readers.run(report_reads.standing, services.clock(), _name(services)))


async def _reason(request: AnyRequest) -> str | None:
    data = await bodies.read(request, services_of(request.app).settings.body_bytes_max)
    return bodies.decode(data, _reasons).reason if data.strip() else None


def _name(services: Services) -> str | None:
    return None if services.reporter is None else services.reporter.payment.name


def _payment(services: Services) -> PaymentSystem:
    if services.reporter is None:
        raise NoPaymentSystem
    return services.reporter.payment


def _wake(services: Services) -> None:
    if services.reporter is not None:
        services.reporter.wake()


ROUTES = (
    list_usage_reports,
    get_reporting,
    get_reconciliation,
    get_usage_report,
    retry_usage_report,
    pause_reporting,
    resume_reporting,
)
