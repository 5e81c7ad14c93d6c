"""Is it alive, is it ready, what does it measure, what does it offer."""

from typing import Any

import msgspec
from litestar import Request, get
from litestar.types import ASGIApp
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api import outbound_metrics
from api.auth import ANYONE, OPERATORS, READERS, known_caller
from api.metrics import registry
from api.openapi import document, documented
from api.respond import Answer, json
from api.services import Services, services_of
from ledger import budget_reads, lease_reads, status
from ledger.database import DatabaseError
from ledger.status import LedgerStatus
from schema.errors import LedgerError
from schema.times import SECOND_US

AnyRequest = Request[Any, Any, Any]


class Live(Struct):
    """The process answers."""

    status: str = "alive"


class Ready(Struct, kw_only=True, omit_defaults=True):
    """Whether the service takes writes and answers reads. Details are for callers with a key."""

    status: str
    details: LedgerStatus | None = None


@get("/health/live", **documented(ANYONE, "Is the process alive", responses={200: Live}))
async def get_live(request: AnyRequest) -> ASGIApp:  # noqa: ARG001 - as every route
    """Needs no key."""
    return json(Live())


@get("/health/ready", **documented(ANYONE, "Is the service ready", responses={200: Ready, 503: Ready}))
async def get_ready(request: AnyRequest) -> ASGIApp:
    """Status for anyone; positions, lag and state hashes for a key of role admin, auditor or dashboard."""
    services = services_of(request.app)
    found = await _status(services)
    writer = services.ledger.writer
    is_ready = found is not None and writer.failed is None and writer.storing and not found.lagging()
    caller = known_caller(request)
    details = None
    if caller is not None and caller.role in OPERATORS and found is not None:
        hashes = await services.state_hashes.get()
        ahead_us = await services.ledger.readers.run(lease_reads.ahead_us, services.clock())
        details = msgspec.structs.replace(found.with_hashes(hashes), leases_ahead_s=ahead_us // SECOND_US)
    word = "ready" if is_ready else "unready"
    return json(Ready(status=word, details=details), 200 if is_ready else 503)


async def _status(services: Services) -> LedgerStatus | None:
    try:
        return await services.ledger.readers.run(status.read)
    except (LedgerError, DatabaseError):
        return None


@get("/metrics", **documented(OPERATORS, "Prometheus metrics", responses={200: "text/plain"}))
async def get_metrics(request: AnyRequest) -> ASGIApp:
    """Counters of this worker process, and gauges of the ledger."""
    services = services_of(request.app)
    found = await services.ledger.readers.run(status.read)
    watched = await services.ledger.readers.run(budget_reads.watched)
    more = await outbound_metrics.read(services)
    return Answer(generate_latest(registry(services.ledger, found, watched, more)), 200, CONTENT_TYPE_LATEST)


@get("/schema", **documented(READERS, "This document", responses={200: dict[str, Any]}))
async def get_schema(request: AnyRequest) -> ASGIApp:
    """The OpenAPI document."""
    return json(document(request.app))


ROUTES = (get_live, get_ready, get_metrics, get_schema)
