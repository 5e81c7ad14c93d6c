"""Signatures of what is sent: those of Standard Webhooks 1.0.

Signed is `<id>.<timestamp>.<body>` by HMAC-SHA256; a header may hold several signatures, as while a secret changes.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from hashlib import sha256

PREFIX = "whsec_"
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64
ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"


def key_of(secret: str) -> bytes | None:
    """The key of a secret, `whsec_` and 24 to 64 bytes in Base64; None where it is not one."""
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True)
    except (Base64Error, ValueError):
        return None
    return key if secret.startswith(PREFIX) and KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX else None


def headers(keys: Sequence[bytes], id_: str, now_s: int, body: bytes) -> dict[str, str]:
    """The three headers of a message, with a signature by each key. The id must have no point in it."""
    signed = f"{id_}.{now_s}.".encode() + body
    signatures = (b64encode(hmac.new(key, signed, sha256).digest()).decode() for key in keys)
    return {
        ID_HEADER: id_,
        TIMESTAMP_HEADER: str(now_s),
        SIGNATURE_HEADER: " ".join(f"v1,{signature}" for signature in signatures),
    }
