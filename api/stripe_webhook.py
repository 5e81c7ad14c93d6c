"""Callbacks as Stripe signs and writes them: `Stripe-Signature: t=SECONDS,v1=HEX,…`.

HMAC-SHA256 of `t.body` under the secret's own characters. What was paid is a Checkout session whose
`client_reference_id` is the order: told when it completed paid, or when the money came afterwards. Sessions without
that reference, and other events, are somebody else's.
"""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from api.payment_scheme import Callback, require_one, stamp
from schema.payment import Payment
from schema.payment_errors import BadSignature

HEADER = "stripe-signature"
SECRET_CHARS_MIN = 16
PARTS_MAX = 32
_HEX = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)


class _Session(Struct):
    id: str
    payment_status: str = ""
    client_reference_id: str | None = None
    amount_total: int | None = None
    currency: str | None = None
    payment_intent: str | None = None


class _Data(Struct):
    object: _Session


class _Typed(Struct):
    type: str


class _Event(Struct):
    type: Literal["checkout.session.completed", "checkout.session.async_payment_succeeded"]
    data: _Data


PAID = frozenset({"checkout.session.completed", "checkout.session.async_payment_succeeded"})
_typed = msgspec.json.Decoder(_Typed)
_events = msgspec.json.Decoder(_Event)


class StripeWebhooks:
    """The scheme `stripe`."""

    def usable(self, secret: str) -> bool:
        """Long enough, and printable."""
        return len(secret) >= SECRET_CHARS_MIN and secret.isascii() and secret.isprintable()

    def signed_at_s(self, callback: Callback) -> int:
        """As `t` says."""
        return stamp(next((value for name, value in _parts(callback) if name == "t"), None))

    def verify(self, callback: Callback, secrets: Sequence[str]) -> None:
        """One of the signatures `v1` is by one of the secrets."""
        parts = _parts(callback)
        at = next((value for name, value in parts if name == "t"), "")
        signatures = [bytes.fromhex(value) for name, value in parts if name == "v1" and _HEX.match(value)]
        require_one([secret.encode() for secret in secrets], b".".join((at.encode(), callback.body)), signatures)

    def payment(self, body: bytes) -> Payment | None:
        """That of a paid session that names an order."""
        if _typed.decode(body).type not in PAID:
            return None
        session = _events.decode(body).data.object
        if session.payment_status != "paid" or session.client_reference_id is None:
            return None
        told = {
            "payment": session.payment_intent or session.id, "order": session.client_reference_id,
            "amount_minor": session.amount_total, "currency": (session.currency or "").upper(),
        }  # fmt: skip
        return msgspec.convert(told, Payment)


def _parts(callback: Callback) -> list[tuple[str, str]]:
    words = (callback.headers.get(HEADER) or "").split(",")
    if len(words) > PARTS_MAX:
        raise BadSignature(f"it has more than {PARTS_MAX} signatures")
    pairs = (word.strip().partition("=") for word in words)
    return [(name, value) for name, _, value in pairs]
