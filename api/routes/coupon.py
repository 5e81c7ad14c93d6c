"""Coupons: made by admins, redeemed on accounts."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import catalogue, coupon_code, query, secret_body
from api.auth import ADMINS, OPERATORS, POSTERS, own_app, principal_of
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.respond import Answer, json
from api.routes.account import credit_receipt
from api.services import services_of
from ledger import catalogue_reads, order_reads
from ledger.decision import Command
from projections import coupon as rows
from schema.catalogue import HistoryItem, Stand, view
from schema.coupon import (
    COUPON,
    ChangeCoupon,
    CouponChange,
    CouponCreated,
    CouponFilter,
    CouponPost,
    CouponReceipt,
    CouponTerms,
    CouponView,
    CreateCoupon,
    DeleteCoupon,
    PostedRedemption,
    RedeemCoupon,
    RedemptionReceipt,
    check_coupon,
    code_mask,
    code_of,
    digest,
)
from schema.credit import AccountCredited
from schema.paging import Page, bounded_limit

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(CouponPost)
_patches = msgspec.json.Decoder(CouponChange)
_redemptions = msgspec.json.Decoder(PostedRedemption)


class CouponListParams(CouponFilter, kw_only=True, forbid_unknown_fields=True):
    """Coupons by id."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/coupons",
    **documented(
        ADMINS, "Create a coupon", body=CouponPost, responses={200: CouponReceipt, 201: CouponReceipt}, sends=TAGGED
    ),
)
async def create_coupon(request: AnyRequest) -> ASGIApp:
    """The code is shown in this answer and never again; without one, one is drawn."""
    posted = await secret_body.read(request, _posts)
    check_coupon(posted)
    services = services_of(request.app)
    code = posted.code or code_of(services.ledger.require_keyring().nonce())
    terms = {name: getattr(posted, name) for name in CouponTerms.__struct_fields__}
    content = CouponCreated(**terms, code_sha256=digest(code), code_mask=code_mask(code))
    command = CreateCoupon(actor_of(request), services.clock(), content, drawn=posted.code is None)
    event, duplicate = await catalogue.execute(request, command)
    stand = Stand(event.data, False, event.position, event.recorded_at_us, event.recorded_at_us)
    [uses] = await _uses(request, [stand])
    shown = stand.content.code_mask if duplicate else code
    answer = view(CouponReceipt, stand, code=shown, uses=uses, duplicate=duplicate)
    return catalogue.tagged(answer, stand, 200 if duplicate else 201)


@get(
    "/v1/coupons",
    **documented(OPERATORS, "List coupons", query=CouponListParams, responses={200: Page[CouponView]}),
)
async def list_coupons(request: AnyRequest) -> ASGIApp:
    """By id, codes masked; deleted ones only with `deleted=true`."""
    params = query.parse(request, CouponListParams)
    readers, limit = services_of(request.app).ledger.readers, bounded_limit(params.limit)
    found = await readers.run(catalogue_reads.page, COUPON, rows.conditions(params), params.cursor, limit)
    return json(Page(items=await _shown(request, found.items), next_cursor=found.next_cursor))


@get(
    "/v1/coupons/{coupon_id:str}",
    **documented(OPERATORS, "Read one coupon", query=query.NoParams, responses={200: CouponView}, sends=TAGGED),
)
async def get_coupon(request: AnyRequest, coupon_id: FromPath[str]) -> ASGIApp:
    """As it is now, its code masked; deleted ones too."""
    query.parse(request, query.NoParams)
    stand = await catalogue.show(request, COUPON, coupon_id)
    [shown] = await _shown(request, [stand])
    return catalogue.tagged(shown, stand)


@patch(
    "/v1/coupons/{coupon_id:str}",
    **documented(
        ADMINS, "Change a coupon", body=CouponChange, responses={200: CouponView}, headers=CONDITION, sends=TAGGED
    ),
)
async def change_coupon(request: AnyRequest, coupon_id: FromPath[str]) -> ASGIApp:
    """Its limits, its time, whom it is for; what it gives and its code stay."""
    position = catalogue.expected_position(request)
    change = await catalogue.read_body(request, _patches)
    check_coupon(change)
    command = ChangeCoupon(actor_of(request), services_of(request.app).clock(), coupon_id, position, change)
    return await _changed(request, coupon_id, command)


@delete(
    "/v1/coupons/{coupon_id:str}",
    status_code=200,
    **documented(
        ADMINS, "Delete a coupon", query=query.ReasonParams, responses={200: CouponView}, headers=CONDITION,
        sends=TAGGED,
    ),
)  # fmt: skip
async def delete_coupon(request: AnyRequest, coupon_id: FromPath[str]) -> ASGIApp:
    """It can be redeemed no more; what it gave stays."""
    position, reason = catalogue.expected_position(request), query.reason(request)
    command = DeleteCoupon(actor_of(request), services_of(request.app).clock(), coupon_id, position, reason)
    return await _changed(request, coupon_id, command)


@get(
    "/v1/coupons/{coupon_id:str}/history",
    **documented(OPERATORS, "Read a coupon's history", query=query.PageParams, responses={200: Page[HistoryItem]}),
)
async def get_coupon_history(request: AnyRequest, coupon_id: FromPath[str]) -> ASGIApp:
    """Who changed what, when, oldest first."""
    params = query.parse(request, query.PageParams)
    readers, limit = services_of(request.app).ledger.readers, bounded_limit(params.limit)
    page = await readers.run(catalogue_reads.changes, COUPON, coupon_id, params.cursor, limit)
    for item in page.items:
        item.changes = [change for change in item.changes if change.field != "code_sha256"]
    return json(page)


@post(
    "/v1/accounts/{account_id:str}/coupon-redemptions",
    **documented(
        POSTERS, "Redeem a coupon", body=PostedRedemption,
        responses={200: RedemptionReceipt, 201: RedemptionReceipt},
    ),
)  # fmt: skip
async def redeem_coupon(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """Its credits, as free quota. Refused, 409 `coupon_unusable` says why, and nothing is kept of it."""
    posted = await secret_body.read(request, _redemptions)
    principal, services = principal_of(request), services_of(request.app)
    command = RedeemCoupon(
        actor=principal.actor, received_at_us=services.clock(), account=account_id, id=posted.id,
        code_sha256=digest(posted.code), app=own_app(principal, None),
    )  # fmt: skip
    event, duplicate = await coupon_code.execute(request, command)
    data = event.data
    assert isinstance(data, AccountCredited)
    coupon = (data.related or "").removeprefix(f"{COUPON.noun}:")
    receipt = RedemptionReceipt(id=posted.id, coupon=coupon, credit=credit_receipt(event, duplicate=duplicate))
    return json(receipt, 200 if duplicate else 201)


async def _changed(request: AnyRequest, id_: str, command: Command) -> Answer:
    event, _ = await catalogue.execute(request, command)
    stand = await services_of(request.app).ledger.readers.run(catalogue_reads.left_by, COUPON, id_, event)
    [shown] = await _shown(request, [stand])
    return catalogue.tagged(shown, stand)


async def _shown(request: AnyRequest, stands: Sequence[Stand]) -> list[CouponView]:
    uses = await _uses(request, stands)
    return [
        view(CouponView, stand, code=stand.content.code_mask, uses=count)
        for stand, count in zip(stands, uses, strict=True)
    ]


async def _uses(request: AnyRequest, stands: Sequence[Stand]) -> list[int]:
    readers = services_of(request.app).ledger.readers
    found = await readers.run(order_reads.coupon_uses, [stand.content.id for stand in stands])
    return [found.get(stand.content.id, 0) for stand in stands]


ROUTES = (
    create_coupon,
    list_coupons,
    get_coupon,
    change_coupon,
    delete_coupon,
    get_coupon_history,
    redeem_coupon,
)
