"""Payment clients as code: how a vendor signs its callbacks, and where in them the payment is.

A scheme is a module with one object of this protocol, listed in `SCHEMES`. What it verifies is bytes as they came; it
reads them only after that. The clock is given, so that a callback that is too old is so on any machine.
"""

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Protocol

from msgspec import Struct

from schema.payment import Payment
from schema.payment_errors import BadSignature
from schema.times import SECOND_US

SIGNATURES_MAX = 16
STAMP_DIGITS_MAX = 12


class Callback(Struct, frozen=True):
    """A callback as it came. Header names are in small letters."""

    headers: Mapping[str, str]
    body: bytes


class PaymentScheme(Protocol):
    """How the callbacks of a kind of payment client are known and read."""

    def usable(self, secret: str) -> bool:
        """Whether a secret can be one of this scheme's."""
        ...

    def signed_at_s(self, callback: Callback) -> int:
        """When it says that it was signed; raises BadSignature where it does not."""
        ...

    def verify(self, callback: Callback, secrets: Sequence[str]) -> None:
        """Raise BadSignature unless one of the secrets signed it."""
        ...

    def payment(self, body: bytes) -> Payment | None:
        """The payment that a verified callback tells of; None where it tells of none. Raises ValueError."""
        ...


def admit(scheme: PaymentScheme, callback: Callback, secrets: Sequence[str], now_us: int, tolerance_s: int) -> None:
    """Raise BadSignature unless a callback is signed by one of the secrets, and was so at about this time."""
    off_us = abs(now_us - scheme.signed_at_s(callback) * SECOND_US)
    scheme.verify(callback, secrets)
    if off_us > tolerance_s * SECOND_US:
        raise BadSignature(f"it was signed {off_us // SECOND_US} seconds from now, {tolerance_s} are let pass")


def stamp(text: str | None) -> int:
    """Seconds since 1970 of a header; raises BadSignature."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= STAMP_DIGITS_MAX):
        raise BadSignature("it does not say when it was signed")
    return int(text)


def require_one(keys: Sequence[bytes], message: bytes, signatures: Sequence[bytes]) -> None:
    """Raise BadSignature unless one of the signatures is the HMAC-SHA256 of a message under one of the keys.

    All are compared, each in constant time, so that how long it took tells nothing.
    """
    made = [hmac.new(key, message, sha256).digest() for key in keys]
    same = [hmac.compare_digest(ours, theirs) for ours in made for theirs in signatures[:SIGNATURES_MAX]]
    if not any(same):
        raise BadSignature
