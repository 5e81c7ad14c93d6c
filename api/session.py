"""Sessions of the dashboard, and the links that open one: signed statements that need no table.

A session says which key it acts as and until when, signed with a key that the master key gives. Whether that API key is
still valid is asked at every request, so revoking it ends its sessions at once, in every worker. The signature covers
the key's digest too. Nothing secret is in the cookie: the API key itself is not kept anywhere.

Where people have accounts of their own, `Sessions.principal` is what then gives another kind of principal.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Literal

import msgspec
from litestar.types import Scope
from msgspec import Struct

from projections.key import KeyRecord
from schema.errors import LinkSpent, Unauthenticated
from schema.key import Principal
from schema.times import SECOND_US

COOKIE = "usage_ledger_session"
TOKEN_CHARS_MAX = 1_024

Kind = Literal["session", "link"]


class Claim(Struct, frozen=True, array_like=True):
    """What a token says. `nonce` makes each link another one."""

    kind: Kind
    key_id: str
    expires_us: int
    nonce: str = ""


_claims = msgspec.json.Decoder(Claim)


def sign(secret: bytes, claim: Claim, key_sha256: str) -> str:
    """A token for the key whose digest this is."""
    payload = msgspec.json.encode(claim)
    return f"{_text(payload)}.{_text(_mac(secret, payload, key_sha256))}"


def _mac(secret: bytes, payload: bytes, key_sha256: str) -> bytes:
    return hmac.digest(secret, payload + key_sha256.encode(), sha256)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Session(Struct, frozen=True):
    """Who is signed in, and until when."""

    principal: Principal
    expires_us: int


class Sessions:
    """Opens sessions and recognises them. Without a secret nobody can sign in."""

    def __init__(
        self, secret: bytes | None, lifetime_us: int, clock: Callable[[], int], find: Callable[[str], KeyRecord | None]
    ) -> None:
        self.lifetime_us = lifetime_us
        self._secret = secret
        self._clock = clock
        self._find = find

    def open(self, key_id: str) -> tuple[str, Session]:
        """A new session of a valid key, with its token; raises Unauthenticated."""
        record = self._find(key_id)
        if record is None or self._secret is None:
            raise Unauthenticated("nobody can sign in here: the service has no master key")
        expires_us = self._clock() + self.lifetime_us
        token = sign(self._secret, Claim("session", key_id, expires_us), record.sha256)
        return token, Session(record.principal, expires_us)

    def find(self, scope: Scope) -> Session | None:
        """The session of a request's cookie; None where there is none, or none that holds now."""
        token = _cookie(scope)
        found = None if token is None else self._claim(token, "session")
        if found is None:
            return None
        claim, record = found
        return Session(record.principal, claim.expires_us)

    def principal(self, scope: Scope) -> Principal:
        """Who is signed in; raises Unauthenticated."""
        session = self.find(scope)
        if session is None:
            raise Unauthenticated
        return session.principal

    def link(self, token: str) -> Claim:
        """What a link says that holds now; raises LinkSpent. Whether it was used, the ledger tells."""
        found = self._claim(token, "link")
        if found is None:
            raise LinkSpent
        return found[0]

    def _claim(self, token: str, kind: Kind) -> tuple[Claim, KeyRecord] | None:
        if self._secret is None or len(token) > TOKEN_CHARS_MAX:
            return None
        try:
            payload, mac = (_bytes(part) for part in token.split("."))
            claim = _claims.decode(payload)
        except ValueError:
            return None
        record = self._find(claim.key_id)
        digest = record.sha256 if record else "0" * 64
        genuine = hmac.compare_digest(_mac(self._secret, payload, digest), mac)
        if record is None or not genuine or claim.kind != kind or claim.expires_us <= self._clock():
            return None
        return claim, record


def _cookie(scope: Scope) -> str | None:
    text = next((value for name, value in scope["headers"] if name == b"cookie"), None)
    if text is None:
        return None
    try:
        morsel = SimpleCookie(text.decode("latin-1")).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def set_cookie(token: str, lifetime_us: int, *, secure: bool) -> str:
    """The header that keeps a session; an empty token ends it."""
    age = lifetime_us // SECOND_US if token else 0
    return f"{COOKIE}={token}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
