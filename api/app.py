"""The application: the reviewed list of routes, and what happens when it starts and stops."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import structlog
from litestar import Litestar
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ControllerRouterHandler

from api.gate import gate
from api.problems import on_exception, on_http_exception, on_ledger_error
from api.routes import estimate, event, health, model_call, model_call_stat, usage_log
from api.services import SERVICES, Services
from api.settings import ApiSettings
from ledger.ledger import Ledger
from schema.errors import LedgerError
from schema.model_call import SweepModelCalls

log = structlog.get_logger()

SWEEP_CALLS_MAX = 500

ROUTES: tuple[ControllerRouterHandler, ...] = (
    *model_call.ROUTES,
    *model_call_stat.ROUTES,
    *usage_log.ROUTES,
    *estimate.ROUTES,
    *event.ROUTES,
    *health.ROUTES,
)


def create_app(ledger: Ledger, settings: ApiSettings, clock: Callable[[], int]) -> Litestar:
    """The service over a ledger, which it opens at start and closes at the end. `clock` gives microseconds, UTC."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
        ledger.open(clock())
        services = Services(ledger, settings, clock)
        app.state[SERVICES] = services
        sweeper = asyncio.create_task(_sweep_forever(services))
        try:
            yield
        finally:
            sweeper.cancel()
            await services.tail.stop()
            services.keys.close()
            await asyncio.to_thread(ledger.close)

    return Litestar(
        route_handlers=ROUTES,
        middleware=[gate],
        lifespan=[lifespan],
        state=State(),
        logging_config=None,  # logging is set up by `ops`, once
        exception_handlers={
            LedgerError: on_ledger_error,
            HTTPException: on_http_exception,
            Exception: on_exception,
        },
        openapi_config=None,  # `api/openapi.py` makes the document, and /schema serves it
    )


async def _sweep_forever(services: Services) -> None:
    """Time out started calls when their time is over. Several workers may sweep: a call times out once."""
    while True:
        await asyncio.sleep(services.settings.sweep_interval_s)
        try:
            while await _sweep(services) == SWEEP_CALLS_MAX:
                pass
        except LedgerError as error:
            log.warning("sweep_waits", code=error.code)


async def _sweep(services: Services) -> int:
    """Time out one bounded number of calls; returns how many."""
    (outcome,) = await services.ledger.execute([SweepModelCalls(services.clock(), SWEEP_CALLS_MAX)], 0)
    if isinstance(outcome, LedgerError):
        raise outcome
    return outcome.events
