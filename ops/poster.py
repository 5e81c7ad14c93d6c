"""Requests to payment systems and webhooks: bounded in time and size, and never redirected elsewhere."""

import asyncio
from collections.abc import Mapping

import httpx

from api.outbound import Reply

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
CONNECTIONS_MAX = 32
RETRY_AFTER_S_MAX = 86_400
# An answer's length is known as it comes.
_PLAIN = {"Accept-Encoding": "identity", "User-Agent": "usage-ledger"}


class HttpPoster:
    """Posts through one pool of connections, made when it is first needed."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """One request; a redirect is an answer like any other, for what is sent goes where it was meant to go."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._asked(method, url, headers, body)
        except (TimeoutError, httpx.TimeoutException):
            return Reply(status=None, error=f"no answer within {self._timeout_s:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # their texts may hold what was sent
            return Reply(status=None, error=f"no whole answer: {type(error).__name__}")

    async def _asked(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        async with self._opened().stream(method, url, headers={**_PLAIN, **headers}, content=body) as response:
            found = bytearray()
            async for part in response.aiter_raw():
                found += part
                if len(found) > ANSWER_BYTES_MAX:
                    return Reply(
                        status=response.status_code,
                        error=f"HTTP {response.status_code}, an answer over {ANSWER_BYTES_MAX} bytes",
                    )
            return Reply(
                status=response.status_code, body=bytes(found), error=f"HTTP {response.status_code}",
                retry_after_s=_retry_after_s(response),
            )  # fmt: skip

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=self._timeout_s, transport=self._transport, follow_redirects=False,
                limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            )  # fmt: skip
        return self._client

    async def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _retry_after_s(response: httpx.Response) -> int | None:
    """Seconds; a date is not understood, and the wait is as long as it would be without."""
    text = response.headers.get("Retry-After", "")
    return min(int(text), RETRY_AFTER_S_MAX) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004 - digits that surely fit
