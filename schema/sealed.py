"""Secrets: as posted, which nothing prints, and as the journal keeps them, sealed.

What is kept is AES-256-GCM under a data key of the record, which a master key outside the file wraps. Destroying the
data key makes every copy of the ciphertext unreadable for ever and leaves entries, hashes and proofs as they are.
"""

from typing import Annotated

from msgspec import Meta, Struct

FIELDS_MAX = 16
FIELD_CHARS_MAX = 8_192
SECRET_BYTES_MAX = 16_384

SHOWN_CHARS = 4
# Shorter secrets are masked whole: of any other at most half is shown.
SHOWN_FROM_CHARS = 4 * SHOWN_CHARS
MASK = "****"

FieldName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
FieldText = Annotated[str, Meta(min_length=1, max_length=FIELD_CHARS_MAX)]
Secret = Annotated[
    dict[FieldName, FieldText],
    Meta(
        min_length=1,
        max_length=FIELDS_MAX,
        description="A flat object of strings: sealed when it is stored, and only ever shown masked.",
        examples=[{"api_key": "…"}],
    ),
]


class Sealed(Struct, frozen=True, kw_only=True):
    """A sealed secret as events hold it; bytes are Base64 in JSON.

    `key` is the id of its data key. `same` is an HMAC-SHA256 under a key derived from the data key: two secrets of a
    record are the same where it is, which the ciphertext, with its nonce, does not tell. `mask` is what is shown.
    """

    key: str
    nonce: bytes
    ciphertext: bytes
    same: bytes
    mask: dict[str, str]


class Drawn(Struct, frozen=True, kw_only=True):
    """The randomness of one sealing, drawn before its command is queued."""

    key: str
    data_key: bytes
    wrap_nonce: bytes
    nonce: bytes

    def __repr__(self) -> str:
        return f"Drawn(key={self.key!r})"


class WrappedKey(Struct, frozen=True, kw_only=True):
    """A data key as the file holds it: encrypted under the master key of that id, for that subject alone."""

    id: str
    subject: str
    master_key_id: str
    nonce: bytes
    wrapped: bytes


def mask(secret: dict[str, str]) -> dict[str, str]:
    """Each string with at most its first and last four characters, and never more than half of it."""
    return {name: masked(text) for name, text in secret.items()}


def masked(text: str) -> str:
    """One string; the stars are as many for any length."""
    if len(text) < SHOWN_FROM_CHARS:
        return MASK
    return f"{text[:SHOWN_CHARS]}{MASK}{text[-SHOWN_CHARS:]}"
