"""Callbacks in the form of Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,BASE64 …`.

Source: the Standard Webhooks specification 1.0.0. HMAC-SHA256 of `id.timestamp.body` under the bytes that the secret
writes in Base64, perhaps after `whsec_`. The body is `{"type": "payment.succeeded", "data": {payment, order,
amount_minor, currency}}`; other types tell of no payment.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from api.payment_scheme import Callback, require_one, stamp
from schema.payment import Payment
from schema.payment_errors import BadSignature

PREFIX, VERSION = "whsec_", "v1,"
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64
PAID = "payment.succeeded"
ID_CHARS_MAX = 256


class _Typed(Struct):
    type: str


class _Told(Struct):
    data: Payment


_typed = msgspec.json.Decoder(_Typed)
_told = msgspec.json.Decoder(_Told)


class StandardWebhooks:
    """The scheme `standard_webhooks`."""

    def usable(self, secret: str) -> bool:
        """24 to 64 bytes in Base64."""
        return KEY_BYTES_MIN <= len(_decoded(secret.removeprefix(PREFIX))) <= KEY_BYTES_MAX

    def signed_at_s(self, callback: Callback) -> int:
        """As `webhook-timestamp` says."""
        return stamp(callback.headers.get("webhook-timestamp"))

    def verify(self, callback: Callback, secrets: Sequence[str]) -> None:
        """One of the signatures is by one of the secrets."""
        id_, at = (callback.headers.get(name) or "" for name in ("webhook-id", "webhook-timestamp"))
        if not 1 <= len(id_) <= ID_CHARS_MAX:
            raise BadSignature("it has no `webhook-id`")
        words = (callback.headers.get("webhook-signature") or "").split(" ")
        signatures = [_decoded(word.removeprefix(VERSION)) for word in words if word.startswith(VERSION)]
        message = b".".join((id_.encode("latin-1"), at.encode(), callback.body))
        require_one([_decoded(secret.removeprefix(PREFIX)) for secret in secrets], message, signatures)

    def payment(self, body: bytes) -> Payment | None:
        """That of a `payment.succeeded`."""
        return _told.decode(body).data if _typed.decode(body).type == PAID else None


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return b""
