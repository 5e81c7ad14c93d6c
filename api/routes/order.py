"""Orders: placed for an account, paid through callbacks, cancelled, refunded."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import body as bodies
from api import catalogue, coupon_code, query, secret_body
from api.auth import ADMINS, OPERATORS, POSTERS, READERS, own_app, principal_of
from api.catalogue import actor_of
from api.openapi import documented
from api.respond import json
from api.services import services_of
from ledger import order_reads
from schema.coupon import digest
from schema.errors import InsufficientCredit
from schema.order import (
    CancelOrder,
    OrderFilter,
    OrderReceipt,
    OrderRefundDeclined,
    OrderRefunded,
    OrderStatus,
    OrderView,
    PlaceOrder,
    PostedCancellation,
    PostedOrder,
    PostedRefund,
    RefundOrder,
    RefundReceipt,
    accept_order,
    accept_refund,
)
from schema.paging import Page, bounded_limit
from schema.times import format_time

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(PostedOrder)
_cancellations = msgspec.json.Decoder(PostedCancellation)
_refunds = msgspec.json.Decoder(PostedRefund)


class AccountOrderListParams(query.PageParams, kw_only=True, forbid_unknown_fields=True):
    """An account's orders, newest first."""

    status: OrderStatus | None = None


class OrderListParams(OrderFilter, kw_only=True, forbid_unknown_fields=True):
    """Orders, newest first."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/accounts/{account_id:str}/orders",
    **documented(POSTERS, "Place an order", body=PostedOrder, responses={200: OrderReceipt, 201: OrderReceipt}),
)
async def place_order(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """Of a package, or of an amount of a currency. It waits to be paid for as long as the setting says."""
    order = await secret_body.read(request, _posts)
    accept_order(order)
    code, order.coupon = order.coupon, None
    services, app = services_of(request.app), own_app(principal_of(request), None)
    command = PlaceOrder(
        actor=actor_of(request), received_at_us=services.clock(), account=account_id, order=order,
        code_sha256=None if code is None else digest(code), lifetime_us=services.settings.order_lifetime_us, app=app,
    )  # fmt: skip
    _, duplicate = await coupon_code.execute(request, command)
    view = await services.ledger.readers.run(order_reads.order, order.id, app, services.clock())
    return json(OrderReceipt(**msgspec.structs.asdict(view), duplicate=duplicate), 200 if duplicate else 201)


@get(
    "/v1/accounts/{account_id:str}/orders",
    **documented(READERS, "List an account's orders", query=AccountOrderListParams, responses={200: Page[OrderView]}),
)
async def list_account_orders(request: AnyRequest, account_id: FromPath[str]) -> ASGIApp:
    """Newest first. An app sees those of accounts that it may use."""
    params = query.parse(request, AccountOrderListParams)
    return await _listed(request, OrderFilter(account=account_id, status=params.status), params)


@get(
    "/v1/orders",
    **documented(OPERATORS, "List orders", query=OrderListParams, responses={200: Page[OrderView]}),
)
async def list_orders(request: AnyRequest) -> ASGIApp:
    """Newest first, of all accounts or of one."""
    params = query.parse(request, OrderListParams)
    return await _listed(request, params, params)


@get(
    "/v1/orders/{order_id:str}",
    **documented(READERS, "Read one order", query=query.NoParams, responses={200: OrderView}),
)
async def get_order(request: AnyRequest, order_id: FromPath[str]) -> ASGIApp:
    """As it is; one whose time is over is told as expired, whether or not that was recorded yet."""
    query.parse(request, query.NoParams)
    return await _shown(request, order_id)


@post(
    "/v1/orders/{order_id:str}/cancel",
    status_code=200,
    **documented(POSTERS, "Cancel an order", body=PostedCancellation, responses={200: OrderView}),
)
async def cancel_order(request: AnyRequest, order_id: FromPath[str]) -> ASGIApp:
    """It is not to be paid any more: money that still comes is flagged, to be given back."""
    services = services_of(request.app)
    data = await bodies.read(request, services.settings.body_bytes_max)
    reason = bodies.decode(data, _cancellations).reason if data.strip() else None
    command = CancelOrder(
        actor=actor_of(request), received_at_us=services.clock(), id=order_id, reason=reason,
        app=own_app(principal_of(request), None),
    )  # fmt: skip
    await catalogue.execute(request, command)
    return await _shown(request, order_id)


@post(
    "/v1/orders/{order_id:str}/refunds",
    **documented(ADMINS, "Refund an order", body=PostedRefund, responses={200: RefundReceipt, 201: RefundReceipt}),
)
async def refund_order(request: AnyRequest, order_id: FromPath[str]) -> ASGIApp:
    """That money was given back, in all at most what was paid. Its credits are taken; 402 where they were spent."""
    refund = await catalogue.read_body(request, _refunds)
    accept_refund(refund)
    now_us = services_of(request.app).clock()
    command = RefundOrder(actor=actor_of(request), received_at_us=now_us, order=order_id, refund=refund)
    event, duplicate = await catalogue.execute(request, command)
    data = event.data
    if isinstance(data, OrderRefundDeclined):
        raise InsufficientCredit.by(data.missing)
    assert isinstance(data, OrderRefunded)
    receipt = RefundReceipt(
        id=data.id, order=data.order, account=data.account, amount_minor=data.amount_minor, credits=data.credits,
        reason=data.reason, position=event.position, recorded_at=format_time(event.recorded_at_us),
        duplicate=duplicate,
    )  # fmt: skip
    return json(receipt, 200 if duplicate else 201)


async def _shown(request: AnyRequest, order_id: str) -> ASGIApp:
    services, app = services_of(request.app), own_app(principal_of(request), None)
    return json(await services.ledger.readers.run(order_reads.order, order_id, app, services.clock()))


async def _listed(
    request: AnyRequest, wanted: OrderFilter, params: AccountOrderListParams | OrderListParams
) -> ASGIApp:
    services, app = services_of(request.app), own_app(principal_of(request), None)
    page = params.cursor, bounded_limit(params.limit)
    return json(await services.ledger.readers.run(order_reads.list_orders, wanted, app, services.clock(), page))


ROUTES = (place_order, list_account_orders, list_orders, get_order, cancel_order, refund_order)
