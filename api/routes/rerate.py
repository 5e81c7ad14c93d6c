"""Re-rates: look what one would change, run it, follow it, take it back."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api import query
from api.auth import ADMINS, OPERATORS, principal_of
from api.openapi import documented
from api.respond import JSON, json
from api.services import Services, services_of
from ledger import reads
from ledger.rate_book import RateBook
from schema.acceptance import accept_instant
from schema.correction import Reason
from schema.errors import FieldError, InvalidInput
from schema.paging import Page, bounded_limit
from schema.rerate import (
    PostedRerate,
    Progress,
    RerateReverting,
    RerateStarted,
    RerateView,
    RevertRerate,
    StartRerate,
)

AnyRequest = Request[Any, Any, Any]
_posted = msgspec.json.Decoder(PostedRerate)


class PostedRevert(Struct, kw_only=True, forbid_unknown_fields=True):
    """Why a re-rate is taken back."""

    reason: Reason | None = None


_revert = msgspec.json.Decoder(PostedRevert)


@post(
    "/v1/rerates",
    **documented(ADMINS, "Re-rate calls", body=PostedRerate, responses={200: RerateView, 201: RerateView}),
)
async def post_rerate(request: AnyRequest) -> ASGIApp:
    """Prices the calls of a range by the rates that are set now; with `dry_run` only says what that would come to."""
    services = services_of(request.app)
    bodies.content_type(request, JSON)
    posted = bodies.decode(await bodies.read(request, services.settings.body_bytes_max), _posted)
    started = RerateStarted(
        id=posted.id, from_=accept_instant(posted.from_, "$.from"), to=accept_instant(posted.to, "$.to"),
        filter=posted.filter, reason=posted.reason,
    )  # fmt: skip
    if started.from_ >= started.to:
        raise InvalidInput(errors=(FieldError("$.to", "Expected a time after `from`"),))
    if posted.dry_run:
        return json(await _dry_run(services, started))
    command = StartRerate(actor=principal_of(request).actor, received_at_us=services.clock(), rerate=started)
    outcome = await services.ledger.execute_one(command)
    services.rerater.wake()
    return json(await services.ledger.readers.run(reads.rerate, posted.id), 200 if outcome.duplicate else 201)


async def _dry_run(services: Services, started: RerateStarted) -> RerateView:
    """Page by page, so that no read lasts long."""
    book = RateBook()
    progress: Progress | None = None
    while progress is None or progress.next is not None:
        progress = await services.ledger.readers.run(
            reads.rerate_preview, book, started, progress, services.settings.rating_policy
        )
    return RerateView(
        id=started.id, status="dry_run", from_=started.from_, to=started.to, filter=started.filter,
        reason=started.reason, seen=progress.seen, changed=progress.changed, skipped=progress.skipped,
        before=progress.before, after=progress.after,
    )  # fmt: skip


@get("/v1/rerates", **documented(OPERATORS, "List re-rates", query=query.PageParams, responses={200: Page[RerateView]}))
async def list_rerates(request: AnyRequest) -> ASGIApp:
    """Latest first."""
    params = query.parse(request, query.PageParams)
    readers = services_of(request.app).ledger.readers
    return json(await readers.run(reads.rerates_page, params.cursor, bounded_limit(params.limit)))


@get("/v1/rerates/{rerate_id:str}", **documented(OPERATORS, "Read a re-rate", responses={200: RerateView}))
async def get_rerate(request: AnyRequest, rerate_id: FromPath[str]) -> ASGIApp:
    """How far it is, and what it came to."""
    return json(await services_of(request.app).ledger.readers.run(reads.rerate, rerate_id))


@post(
    "/v1/rerates/{rerate_id:str}/revert",
    **documented(ADMINS, "Take a re-rate back", body=PostedRevert, responses={200: RerateView, 201: RerateView}),
)
async def revert_rerate(request: AnyRequest, rerate_id: FromPath[str]) -> ASGIApp:
    """Each call that it changed, and that nothing has changed since, gets the cost back that it had."""
    services = services_of(request.app)
    data = await bodies.read(request, services.settings.body_bytes_max)
    reason = bodies.decode(data, _revert).reason if data.strip() else None
    command = RevertRerate(
        actor=principal_of(request).actor, received_at_us=services.clock(),
        data=RerateReverting(id=rerate_id, reason=reason),
    )  # fmt: skip
    outcome = await services.ledger.execute_one(command)
    services.rerater.wake()
    return json(await services.ledger.readers.run(reads.rerate, rerate_id), 200 if outcome.duplicate else 201)


ROUTES = (post_rerate, list_rerates, get_rerate, revert_rerate)
