"""Payment clients: whose callbacks are believed. Their secrets are sealed when they come in, and only shown masked."""

from typing import Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import UNSET

from api import catalogue, query, secret_body
from api.auth import ADMINS, OPERATORS
from api.catalogue import CONDITION, TAGGED, actor_of
from api.openapi import documented
from api.payment_callback import require_scheme
from api.respond import Answer, json
from api.services import services_of
from ledger import catalogue_reads, order_reads
from ledger.decision import Command
from schema.catalogue import HistoryItem, Stand
from schema.paging import Page, bounded_limit
from schema.payment_client import (
    PAYMENT_CLIENT,
    ChangePaymentClient,
    CreatePaymentClient,
    DeletePaymentClient,
    PaymentClient,
    PaymentClientChange,
    PaymentClientPost,
    PaymentClientReceipt,
    PaymentClientView,
    check_payment_client,
)
from schema.times import format_time

AnyRequest = Request[Any, Any, Any]

_posts = msgspec.json.Decoder(PaymentClientPost)
_patches = msgspec.json.Decoder(PaymentClientChange)


@post(
    "/v1/payment-clients",
    **documented(
        ADMINS, "Create a payment client", body=PaymentClientPost,
        responses={200: PaymentClientReceipt, 201: PaymentClientReceipt}, sends=TAGGED,
    ),
)  # fmt: skip
async def create_payment_client(request: AnyRequest) -> ASGIApp:
    """Each value of `secret` may sign. The same content again gets the first answer."""
    content = await secret_body.read(request, _posts)
    check_payment_client(content)
    services = services_of(request.app)
    require_scheme(services.payment_schemes, content.scheme, content.secret)
    command = CreatePaymentClient(
        actor=actor_of(request), received_at_us=services.clock(), content=content,
        drawn=services.ledger.require_keyring().draw(),
    )  # fmt: skip
    event, duplicate = await catalogue.execute(request, command)
    stand = Stand(event.data, False, event.position, event.recorded_at_us, event.recorded_at_us)
    answer = PaymentClientReceipt(**_fields(stand), duplicate=duplicate)
    return catalogue.tagged(answer, stand, 200 if duplicate else 201)


@get(
    "/v1/payment-clients",
    **documented(OPERATORS, "List payment clients", query=query.PageParams, responses={200: Page[PaymentClientView]}),
)
async def list_payment_clients(request: AnyRequest) -> ASGIApp:
    """By id, secrets masked; deleted ones too."""
    params = query.parse(request, query.PageParams)
    return json(await catalogue.listed(request, PAYMENT_CLIENT, (), (params.cursor, params.limit), _shown))


@get(
    "/v1/payment-clients/{payment_client_id:str}",
    **documented(
        OPERATORS, "Read one payment client", query=query.NoParams, responses={200: PaymentClientView}, sends=TAGGED
    ),
)
async def get_payment_client(request: AnyRequest, payment_client_id: FromPath[str]) -> ASGIApp:
    """As it is now, its secrets masked."""
    query.parse(request, query.NoParams)
    stand = await catalogue.show(request, PAYMENT_CLIENT, payment_client_id)
    return catalogue.tagged(_shown(stand), stand)


@patch(
    "/v1/payment-clients/{payment_client_id:str}",
    **documented(
        ADMINS, "Change a payment client", body=PaymentClientChange, responses={200: PaymentClientView},
        headers=CONDITION, sends=TAGGED,
    ),
)  # fmt: skip
async def change_payment_client(request: AnyRequest, payment_client_id: FromPath[str]) -> ASGIApp:
    """Fields that are given. `secret` is replaced whole: keep the old value in it until the vendor has turned."""
    position = catalogue.expected_position(request)
    change = await secret_body.read(request, _patches)
    check_payment_client(change)
    services = services_of(request.app)
    if change.secret is not UNSET:
        stand = await catalogue.show(request, PAYMENT_CLIENT, payment_client_id)
        require_scheme(services.payment_schemes, stand.content.scheme, change.secret)
    command = ChangePaymentClient(
        actor=actor_of(request), received_at_us=services.clock(), id=payment_client_id, position=position,
        change=change, drawn=services.ledger.require_keyring().draw(),
    )  # fmt: skip
    return await _changed(request, payment_client_id, command)


@delete(
    "/v1/payment-clients/{payment_client_id:str}",
    status_code=200,
    **documented(
        ADMINS, "Delete a payment client", query=query.ReasonParams, responses={200: PaymentClientView},
        headers=CONDITION, sends=TAGGED,
    ),
)  # fmt: skip
async def delete_payment_client(request: AnyRequest, payment_client_id: FromPath[str]) -> ASGIApp:
    """Its callbacks are refused, and its secrets destroyed for ever."""
    position, reason = catalogue.expected_position(request), query.reason(request)
    now_us = services_of(request.app).clock()
    command = DeletePaymentClient(actor_of(request), now_us, payment_client_id, position, reason)
    return await _changed(request, payment_client_id, command)


@get(
    "/v1/payment-clients/{payment_client_id:str}/history",
    **documented(
        OPERATORS, "Read a payment client's history", query=query.PageParams, responses={200: Page[HistoryItem]}
    ),
)
async def get_payment_client_history(request: AnyRequest, payment_client_id: FromPath[str]) -> ASGIApp:
    """Who changed what, when, oldest first; secrets masked."""
    params = query.parse(request, query.PageParams)
    readers, limit = services_of(request.app).ledger.readers, bounded_limit(params.limit)
    return json(await readers.run(order_reads.payment_client_changes, payment_client_id, params.cursor, limit))


async def _changed(request: AnyRequest, id_: str, command: Command) -> Answer:
    event, _ = await catalogue.execute(request, command)
    stand = await services_of(request.app).ledger.readers.run(catalogue_reads.left_by, PAYMENT_CLIENT, id_, event)
    return catalogue.tagged(_shown(stand), stand)


def _shown(stand: Stand) -> PaymentClientView:
    return PaymentClientView(**_fields(stand))


def _fields(stand: Stand) -> dict[str, Any]:
    content: PaymentClient = stand.content
    fields = {name: getattr(content, name) for name in PaymentClient.__struct_fields__}
    return {
        **fields, "secret": content.secret.mask, "deleted": stand.deleted, "position": stand.position,
        "created_at": format_time(stand.created_at_us), "changed_at": format_time(stand.changed_at_us),
    }  # fmt: skip


ROUTES = (
    create_payment_client,
    list_payment_clients,
    get_payment_client,
    change_payment_client,
    delete_payment_client,
    get_payment_client_history,
)
