"""API keys: who may call. A key is shown once; the ledger keeps only its SHA-256."""

from typing import Literal

from msgspec import Struct

from schema.event import event
from schema.ids import AppId, ClientId, Name

NOUN = "key"
Role = Literal["admin", "auditor", "dashboard", "app"]


@event("key.created", 1)
class KeyCreated(Struct, kw_only=True, omit_defaults=True):
    """A key was made. `sha256` is the hex digest of the whole key text."""

    id: ClientId
    role: Role
    app: AppId | None = None
    name: Name | None = None
    sha256: str


@event("key.revoked", 1)
class KeyRevoked(Struct, kw_only=True, omit_defaults=True):
    """A key stopped being valid, from the next request on."""

    id: ClientId
    reason: Name | None = None


class CreateKey(Struct):
    """Command: make a key. Its text was drawn before; only the digest comes in."""

    actor: str
    received_at_us: int
    key: KeyCreated


class RevokeKey(Struct):
    """Command: revoke a key."""

    actor: str
    received_at_us: int
    id: str
    reason: str | None = None


class KeyView(Struct, kw_only=True):
    """A key as listed: never its secret, nor its digest."""

    id: str
    role: Role
    app: str | None
    name: str | None
    created_at: str
    revoked_at: str | None


class Principal(Struct, frozen=True):
    """Who is calling: the key's id, its role and, for role app, its app."""

    key_id: str
    role: Role
    app: str | None

    @property
    def actor(self) -> str:
        """The caller's name in events."""
        return f"key:{self.key_id}"
