"""What the service sends outside by itself: how it is posted, and to which payment system usage is reported."""

from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from api.payment import PaymentSystem


class Reply(Struct, frozen=True, kw_only=True):
    """What came back. `status` is None where no whole answer came, for the reason that `error` tells.

    `error` is for people: the status, or what went wrong, without a word of what was sent.
    """

    status: int | None
    body: bytes = b""
    error: str | None = None
    retry_after_s: int | None = None


class Poster(Protocol):
    """Sends requests. Must end by itself within half a minute, and raises nothing that the other side can cause."""

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request, without following redirects."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Outbound(Struct, frozen=True):
    """All of it. `jitter_ppm` draws a part of a wait, in millionths."""

    poster: Poster
    jitter_ppm: Callable[[], int]
    payment: PaymentSystem | None = None
