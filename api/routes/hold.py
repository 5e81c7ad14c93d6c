"""Holds: credit set aside before a call, settled or released after it."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api import catalogue, query
from api.auth import POSTERS, READERS, own_app, principal_of
from api.catalogue import actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import account_reads
from ledger.decision import Command
from schema.account_view import hold_view, placed_view
from schema.budget import BudgetExceeded
from schema.charge import Amount, accept_amount
from schema.correction import Reason
from schema.entry import Recorded
from schema.errors import InsufficientCredit
from schema.hold import (
    HoldDeclined,
    HoldPlaced,
    HoldReceipt,
    HoldView,
    PlaceHold,
    PostedHold,
    ReleaseHold,
    SettleHold,
    accept_hold,
)
from schema.model_call import ModelCallStartDeclined
from schema.times import format_time

AnyRequest = Request[Any, Any, Any]


class PostedSettlement(Struct, kw_only=True, forbid_unknown_fields=True):
    """What was held for came to this: part of the hold, all of it, or more."""

    amount: Amount


class PostedRelease(Struct, kw_only=True, forbid_unknown_fields=True):
    """Why it is released."""

    reason: Reason | None = None


_releases = msgspec.json.Decoder(PostedRelease)
_posts = msgspec.json.Decoder(PostedHold)
_settlements = msgspec.json.Decoder(PostedSettlement)


@post(
    "/v1/accounts/{account_id:str}/holds",
    **documented(POSTERS, "Hold credit", body=PostedHold, responses={200: HoldReceipt, 201: HoldReceipt}),
)
async def place_hold(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """201, or 402 with what is missing, which is final for the id. It binds until it ends or its time is over."""
    posted = await catalogue.read_body(request, _posts)
    accept_hold(posted)
    principal, services = principal_of(request), services_of(request.app)
    posted.app = own_app(principal, posted.app)
    command = PlaceHold(
        actor=principal.actor, received_at_us=services.clock(), account=account_id, hold=posted,
        any_account=principal.role == "admin",
    )  # fmt: skip
    outcome = await services.ledger.execute_one(command)
    event = outcome.recorded
    assert event is not None
    return json(placed(event, duplicate=outcome.duplicate), 200 if outcome.duplicate else 201)


def placed(event: Recorded, *, duplicate: bool) -> HoldReceipt:
    """The receipt of a hold, from its event alone; raises InsufficientCredit where it was declined."""
    data = event.data
    if isinstance(data, HoldDeclined):
        raise declined(data)
    assert isinstance(data, HoldPlaced)
    return _receipt(placed_view(data, event.position), event, duplicate=duplicate)


def declined(data: HoldDeclined | ModelCallStartDeclined) -> InsufficientCredit:
    """Who lacks what: the account, or a hard budget."""
    if data.budget is not None:
        return BudgetExceeded.of(data.budget, data.missing)
    return InsufficientCredit.by(data.missing)


@post(
    "/v1/holds/{hold_id:str}/settle",
    **documented(POSTERS, "Settle a hold", body=PostedSettlement, query=query.AppParams, responses={200: HoldReceipt}),
)
async def settle_hold(request: AnyRequest, hold_id: FromPath[str]) -> ASGIApp:
    """Charges what it came to and frees the rest. More than was held, or after its time, is charged by policy."""
    posted = await catalogue.read_body(request, _settlements)
    amount = accept_amount(posted.amount, "$.amount", least_e10=0)
    app = await _app(request, hold_id)
    now_us = services_of(request.app).clock()
    return await _end(
        request, hold_id, app,
        SettleHold(actor=actor_of(request), received_at_us=now_us, app=app, id=hold_id, amount=amount),
    )  # fmt: skip


@post(
    "/v1/holds/{hold_id:str}/release",
    **documented(POSTERS, "Release a hold", body=PostedRelease, query=query.AppParams, responses={200: HoldReceipt}),
)
async def release_hold(request: AnyRequest, hold_id: FromPath[str]) -> ASGIApp:
    """Nothing was spent: all of it is free again. One whose time is over is free already."""
    services = services_of(request.app)
    data = await bodies.read(request, services.settings.body_bytes_max)
    reason = bodies.decode(data, _releases).reason if data.strip() else None
    app = await _app(request, hold_id)
    command = ReleaseHold(actor=actor_of(request), received_at_us=services.clock(), app=app, id=hold_id, reason=reason)
    return await _end(request, hold_id, app, command)


@get(
    "/v1/holds/{hold_id:str}",
    **documented(READERS, "Read a hold", query=query.AppParams, responses={200: HoldView}),
)
async def get_hold(request: AnyRequest, hold_id: FromPath[str]) -> ASGIApp:
    """As it is; one whose time is over is told as expired, whether or not that was recorded yet."""
    app = own_app(principal_of(request), query.parse(request, query.AppParams).app)
    services = services_of(request.app)
    found = hold_view(await services.ledger.readers.run(account_reads.hold, hold_id, app))
    if found.status == "open" and found.expires_at is not None and found.expires_at <= format_time(services.clock()):
        found.status = "expired"
    return json(found)


async def _app(request: AnyRequest, hold_id: str) -> str | None:
    """Whose hold is meant: an app's own; for an admin the named app's, or the only one with this id."""
    principal = principal_of(request)
    named = own_app(principal, query.parse(request, query.AppParams).app)
    if principal.role == "app":
        return named
    return (await services_of(request.app).ledger.readers.run(account_reads.hold, hold_id, named)).app or None


async def _end(request: AnyRequest, hold_id: str, app: str | None, command: Command) -> ASGIApp:
    ledger = services_of(request.app).ledger
    outcome = await ledger.execute_one(command)
    event = outcome.recorded
    assert event is not None
    hold = await ledger.readers.run(account_reads.hold, hold_id, app or "")
    return json(_receipt(hold_view(hold), event, duplicate=outcome.duplicate))


def _receipt(view: HoldView, event: Recorded, *, duplicate: bool) -> HoldReceipt:
    fields = msgspec.structs.asdict(view)
    return HoldReceipt(**fields, recorded_at=format_time(event.recorded_at_us), duplicate=duplicate)


ROUTES = (place_hold, settle_hold, release_hold, get_hold)
