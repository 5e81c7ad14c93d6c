"""The application: the reviewed list of routes, and what happens when it starts and stops."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from litestar import Litestar
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from api import lease_upkeep, model_following, price_following
from api.gate import gate
from api.outbound import Outbound
from api.payment_callback import SCHEMES
from api.payment_scheme import PaymentScheme
from api.problems import on_exception, on_http_exception, on_ledger_error
from api.routes import (
    account,
    budget,
    call_export,
    conversion,
    correction,
    coupon,
    credential,
    dashboard,
    estimate,
    event,
    focus_export,
    health,
    hold,
    lease,
    live_call,
    model,
    model_call,
    model_call_stat,
    model_rate,
    model_status,
    model_sync,
    order,
    package,
    payment,
    payment_client,
    price_list,
    provider,
    provider_test,
    rerate,
    session,
    usage_log,
    usage_report,
    webhook,
)
from api.services import SERVICES, Services
from api.settings import ApiSettings
from ledger.ledger import Ledger
from ledger.price_list import PriceListSource
from schema.credit import SweepAccounts
from schema.errors import LedgerError
from schema.model_call import SweepModelCalls
from schema.order import SweepOrders

log = structlog.get_logger()

SWEEP_CALLS_MAX = 500

ROUTES: tuple[ControllerRouterHandler, ...] = (
    *model_call.ROUTES,
    *correction.ROUTES,
    *rerate.ROUTES,
    *model_call_stat.ROUTES,
    *provider.ROUTES,
    *provider_test.ROUTES,
    *credential.ROUTES,
    *lease.ROUTES,
    *model.ROUTES,
    *model_sync.ROUTES,
    *model_status.ROUTES,
    *model_rate.ROUTES,
    *price_list.ROUTES,
    *usage_log.ROUTES,
    *account.ROUTES,
    *hold.ROUTES,
    *budget.ROUTES,
    *conversion.ROUTES,
    *package.ROUTES,
    *coupon.ROUTES,
    *order.ROUTES,
    *payment_client.ROUTES,
    *payment.ROUTES,
    *usage_report.ROUTES,
    *webhook.ROUTES,
    *estimate.ROUTES,
    *call_export.ROUTES,
    *focus_export.ROUTES,
    *event.ROUTES,
    *live_call.ROUTES,
    *health.ROUTES,
    *session.ROUTES,
    *dashboard.ROUTES,
)


def create_app(  # noqa: PLR0913 - what one process is put together from
    ledger: Ledger,
    settings: ApiSettings,
    clock: Callable[[], int],
    prices: PriceListSource | None = None,
    probe: lease_upkeep.CredentialProbe | None = None,
    *,
    session_secret: bytes | None = None,
    payment_schemes: Mapping[str, PaymentScheme] = SCHEMES,
    outbound: Outbound | None = None,
) -> Litestar:
    """The service over a ledger, which it opens at start and closes at the end. `clock` gives microseconds, UTC.

    `prices` is the list that providers can follow; without one, nothing is synced. `probe` looks at credentials that
    errors disabled, and asks vendors for their models; without one, credentials are enabled by hand, no connection
    is tested and no vendor's list followed.
    `session_secret` signs the dashboard's sessions; without one, nobody signs in. `payment_schemes` are how the
    callbacks of payment clients are known. `outbound` is how usage is reported and webhooks are told; without one,
    neither is.
    """

    def open_services() -> Services:
        ledger.open(clock())
        return Services(
            ledger, settings, clock, prices, session_secret=session_secret, probe=probe,
            payment_schemes=payment_schemes, outbound=outbound,
        )  # fmt: skip

    return Litestar(
        route_handlers=ROUTES,
        middleware=[gate],
        lifespan=[partial(_serving, open_services, probe)],
        state=State(),
        logging_config=None,  # logging is set up by `ops`, once
        exception_handlers={
            LedgerError: on_ledger_error,
            HTTPException: on_http_exception,
            Exception: on_exception,
        },
        openapi_config=None,  # `api/openapi.py` makes the document, and /schema serves it
    )


@asynccontextmanager
async def _serving(
    open_services: Callable[[], Services], probe: lease_upkeep.CredentialProbe | None, app: Litestar
) -> AsyncGenerator[None, None]:
    """Open the ledger, work beside requests as long as they are served, then close everything."""
    services = open_services()
    app.state[SERVICES] = services
    await _begin_reporting(services)
    tasks = [asyncio.create_task(each) for each in _work(services, probe)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await services.tail.stop()
        if services.outbound is not None:
            await services.outbound.poster.close()
        services.keys.close()
        await asyncio.to_thread(services.ledger.close)


def _work(services: Services, probe: lease_upkeep.CredentialProbe | None) -> list[Coroutine[Any, Any, None]]:
    """What goes on beside requests, for ever."""
    return [
        _sweep_forever(services),
        services.rerater.run(),
        price_following.forever(services),
        model_following.forever(services),
        lease_upkeep.recheck_forever(services, probe),
        lease_upkeep.prune_forever(services),
        _report_forever(services),
        _deliver_forever(services),
    ]


async def _begin_reporting(services: Services) -> None:
    """From where on usage is reported is settled before this process takes a call; else as soon as it can be."""
    if services.reporter is not None:
        try:
            await services.reporter.begin()
        except LedgerError as error:
            log.warning("reporting_waits", code=error.code)


async def _report_forever(services: Services) -> None:
    if services.reporter is not None:
        await services.reporter.run()


async def _deliver_forever(services: Services) -> None:
    if services.deliverer is not None:
        await services.deliverer.run()


async def _sweep_forever(services: Services) -> None:
    """End what is over: started calls, holds, grants, orders. Several workers may sweep: each ends once."""
    while True:
        await asyncio.sleep(services.settings.sweep_interval_s)
        try:
            while await _sweep(services) == SWEEP_CALLS_MAX:
                pass
            while await _sweep_accounts(services):
                pass
            while await _sweep_orders(services) == SWEEP_CALLS_MAX:
                pass
        except LedgerError as error:
            log.warning("sweep_waits", code=error.code)
        except Exception:
            log.exception("sweep_waits")  # the next one may succeed; this task must not end for good


async def _sweep(services: Services) -> int:
    """Time out one bounded number of calls; returns how many."""
    return (await services.ledger.execute_one(SweepModelCalls(services.clock(), SWEEP_CALLS_MAX))).events


async def _sweep_accounts(services: Services) -> int:
    """End the holds and grants of one bounded number of accounts; returns how many events that took."""
    return (await services.ledger.execute_one(SweepAccounts(services.clock(), SWEEP_CALLS_MAX))).events


async def _sweep_orders(services: Services) -> int:
    """End one bounded number of orders that were not paid in time; returns how many."""
    return (await services.ledger.execute_one(SweepOrders(services.clock(), SWEEP_CALLS_MAX))).events
