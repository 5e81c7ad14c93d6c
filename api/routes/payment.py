"""Payments: told by signed callbacks, read, and resolved by hand where nothing could be credited for them."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from api import body as bodies
from api import catalogue, payment_callback, query
from api.auth import ADMINS, ANYONE, OPERATORS
from api.catalogue import actor_of
from api.openapi import documented
from api.payment_callback import CALLBACK_BYTES_MAX
from api.payment_scheme import Callback
from api.respond import json
from api.services import services_of
from ledger import order_reads
from schema.paging import Page, bounded_limit
from schema.payment import CallbackReceipt, PaymentFilter, PaymentView, PostedResolution, ResolvePayment

AnyRequest = Request[Any, Any, Any]

_resolutions = msgspec.json.Decoder(PostedResolution)
SIGNED = {
    "webhook-id": "Scheme standard_webhooks: the message's id.",
    "webhook-timestamp": "Scheme standard_webhooks: when it was signed, in seconds since 1970.",
    "webhook-signature": "Scheme standard_webhooks: `v1,BASE64`, several apart by spaces.",
    "Stripe-Signature": "Scheme stripe: `t=SECONDS,v1=HEX`.",
}


class PaymentListParams(PaymentFilter, kw_only=True, forbid_unknown_fields=True):
    """Payments, newest first."""

    limit: query.Limit | None = None
    cursor: query.Cursor | None = None


@post(
    "/v1/payment-callbacks/{payment_client_id:str}",
    status_code=200,
    **documented(
        ANYONE, "Tell of a payment", body=dict[str, Any], responses={200: CallbackReceipt}, headers=SIGNED
    ),
)  # fmt: skip
async def take_payment_callback(request: AnyRequest, payment_client_id: FromPath[str]) -> ASGIApp:
    """Needs no key but the payment client's signature. A payment counts once, however often it is told.

    400 `bad_signature` unless one of the client's secrets signed it in time; 409 `payment_mismatch` where it is not
    what its order asks for, which is recorded. What no order can be credited for is kept, flagged.
    """
    body = await bodies.read(request, CALLBACK_BYTES_MAX)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.scope["headers"]}
    return json(await payment_callback.take(services_of(request.app), payment_client_id, Callback(headers, body)))


@get(
    "/v1/payments",
    **documented(OPERATORS, "List payments", query=PaymentListParams, responses={200: Page[PaymentView]}),
)
async def list_payments(request: AnyRequest) -> ASGIApp:
    """Newest first. Those that are `flagged` or `refused` wait for somebody to give the money back, or credit it."""
    params = query.parse(request, PaymentListParams)
    readers = services_of(request.app).ledger.readers
    return json(await readers.run(order_reads.list_payments, params, params.cursor, bounded_limit(params.limit)))


@get(
    "/v1/payments/{payment_id:str}",
    **documented(OPERATORS, "Read one payment", query=query.NoParams, responses={200: PaymentView}),
)
async def get_payment(request: AnyRequest, payment_id: FromPath[str]) -> ASGIApp:
    """By the client's id, a colon and the vendor's."""
    query.parse(request, query.NoParams)
    return json(await services_of(request.app).ledger.readers.run(order_reads.payment, payment_id))


@post(
    "/v1/payments/{payment_id:str}/resolve",
    status_code=200,
    **documented(ADMINS, "Resolve a payment", body=PostedResolution, responses={200: PaymentView}),
)
async def resolve_payment(request: AnyRequest, payment_id: FromPath[str]) -> ASGIApp:
    """That money which waited was returned, or credited by hand. It moves nothing by itself."""
    posted = await catalogue.read_body(request, _resolutions)
    services = services_of(request.app)
    command = ResolvePayment(
        actor=actor_of(request), received_at_us=services.clock(), id=payment_id, posted=posted
    )  # fmt: skip
    await catalogue.execute(request, command)
    return json(await services.ledger.readers.run(order_reads.payment, payment_id))


ROUTES = (take_payment_callback, list_payments, get_payment, resolve_payment)
