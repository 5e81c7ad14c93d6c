"""Builders of what recharging needs, over HTTP: price lists, payment clients, and callbacks signed as vendors sign."""

import base64
import hmac
import json
from hashlib import sha256

import httpx

from schema.times import SECOND_US
from tests.serving import NOW_US, OTHER_APP, Json, Service

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
STRIPE_SECRET = "whsec_stripe_0123456789abcdef"
CALLBACKS = "/v1/payment-callbacks"


def a_package(id_: str = "small", **fields: object) -> Json:
    """1,000 credits and 100 on top for 9.99; keyword arguments replace fields."""
    return {
        "id": id_, "name": "Small", "currency": "USD", "price_minor": 999, "credits": "1000", "bonus_credits": "100",
        **fields,
    }  # fmt: skip


def a_client(id_: str = "bank", secret: str = SECRET, **fields: object) -> Json:
    """A payment client as posted."""
    return {"id": id_, "scheme": "standard_webhooks", "secret": {"current": secret}, **fields}


def told(payment: str, order: str, amount_minor: int = 999, currency: str = "USD") -> bytes:
    """A callback's body, that a payment succeeded."""
    data = {"payment": payment, "order": order, "amount_minor": amount_minor, "currency": currency}
    return json.dumps({"type": "payment.succeeded", "timestamp": "2026-11-22T12:00:00Z", "data": data}).encode()


def signed(body: bytes, secret: str = SECRET, at_us: int = NOW_US, id_: str = "msg_1") -> dict[str, str]:
    """The headers of Standard Webhooks, made without the code under test."""
    at = str(at_us // SECOND_US)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = hmac.digest(key, f"{id_}.{at}.".encode() + body, sha256)
    return {
        "webhook-id": id_, "webhook-timestamp": at, "webhook-signature": f"v1,{base64.b64encode(made).decode()}",
        "Content-Type": "application/json",
    }  # fmt: skip


def stripe_signed(body: bytes, secret: str = STRIPE_SECRET, at_us: int = NOW_US) -> dict[str, str]:
    """Stripe's header, made without the code under test."""
    at = at_us // SECOND_US
    made = hmac.digest(secret.encode(), f"{at}.".encode() + body, sha256).hex()
    return {"Stripe-Signature": f"t={at},v1={made},v0={'0' * 64}", "Content-Type": "application/json"}


def call_back(
    service: Service, payment: str, order: str, amount_minor: int = 999, currency: str = "USD", *, client: str = "bank"
) -> httpx.Response:
    """A payment client tells of a payment, now."""
    body = told(payment, order, amount_minor, currency)
    headers = signed(body, at_us=service.clock())
    return service.request("POST", f"{CALLBACKS}/{client}", None, content=body, headers=headers)


def order(service: Service, id_: str = "o-1", caller: str = "admin", account: str = "acc", **fields: object) -> Json:
    """Place an order, of the package unless the fields say otherwise; the answer with its status."""
    body = {"id": id_, **({"package": "small"} if "amount_minor" not in fields else {}), **fields}
    response = service.post(f"/v1/accounts/{account}/orders", body, caller)
    return {"http": response.status_code, **response.json()}


def refund(service: Service, amount_minor: int, id_: str = "r-1", order_id: str = "o-1", **fields: object) -> Json:
    """Refund part of an order; the answer with its status."""
    body = {"id": id_, "amount_minor": amount_minor, "reason": "not wanted", **fields}
    response = service.post(f"/v1/orders/{order_id}/refunds", body, "admin")
    return {"http": response.status_code, **response.json()}


def stocked(service: Service) -> None:
    """An account of another app's user, a package, a conversion and a payment client."""
    made = [
        ("/v1/accounts", {"id": "acc", "owner": {"kind": "app", "id": "shop"}}),
        ("/v1/accounts", {"id": "other", "owner": {"kind": "user", "id": "u", "app": OTHER_APP}}),
        ("/v1/packages", a_package()),
        ("/v1/conversions", {"id": "USD", "credits": "1", "per_minor": 3, "least_minor": 2, "most_minor": 100_000}),
        ("/v1/payment-clients", a_client()),
    ]
    answers = [service.post(path, body, "admin") for path, body in made]
    assert [answer.text for answer in answers if answer.status_code != 201] == []
