"""Looking whether a vendor takes a key: its list of models is asked for, which costs nothing and says enough."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from msgspec import Struct

from schema.lease import Outcome, ProbeTarget
from schema.sealed import MASK
from schema.vendor import DETAIL_CHARS_MAX, LISTED_MODELS_MAX, ModelListing

TIMEOUT_S = 10.0
FORBIDDEN = 403
ANSWER_BYTES_MAX = 8 * 1024 * 1024
NAME_CHARS_MAX = 200
# What a text shares with a secret, from this many characters on, is not shown: masks show four.
SHARED_CHARS_MIN = 5
# Vendors that want the key elsewhere than in `Authorization: Bearer`; the others are as OpenAI is.
_HEADERS: dict[str, tuple[str, dict[str, str]]] = {
    "anthropic": ("x-api-key", {"anthropic-version": "2023-06-01"}),
    "azure": ("api-key", {}),
    "gemini": ("x-goog-api-key", {}),
    "google": ("x-goog-api-key", {}),
}
# Without it the first page has twenty.
_QUERIES = {"anthropic": "?limit=1000"}
_OUTCOMES: dict[int, Outcome] = {401: "auth", 402: "payment", 408: "timeout", 429: "rate_limited", 504: "timeout"}
# A refusal of the place or the content, and not of the key.
_CONTENT_WORDS = ("region", "country", "territory", "policy", "blocked")


class _Model(Struct):
    id: Any = None


class _Answer(Struct):
    data: list[_Model]
    has_more: bool = False


class _Error(Struct):
    message: str = ""
    code: str | int | None = None


class _Refusal(Struct):
    error: _Error | str | None = None
    message: str = ""
    detail: Any = None

    @property
    def text(self) -> str:
        """What it says, whichever way."""
        if isinstance(self.error, _Error):
            return self.error.message or str(self.error.code or "")
        return self.error or self.message or (self.detail if isinstance(self.detail, str) else "")


_answers: msgspec.json.Decoder[_Answer | list[_Model]] = msgspec.json.Decoder(_Answer | list[_Model])
_refusals = msgspec.json.Decoder(_Refusal)


class ModelListProbe:
    """`GET {base_url}/models` with the key. What has no address, or more than a key, is enabled by hand."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._transport = transport
        self._timeout_s = timeout_s

    async def works(self, target: ProbeTarget) -> bool:
        """Whether the vendor answers with success; raises httpx.HTTPError, TimeoutError."""
        if unreachable(target) is not None:
            return False
        async with self._asked(target) as response:
            return response.is_success

    async def models(self, target: ProbeTarget) -> ModelListing:
        """What the vendor lists, or why it does not; raises nothing that a vendor can cause."""
        reason = unreachable(target)
        if reason is not None:
            return ModelListing(outcome="not_sent", detail=reason)
        begun_ns = time.monotonic_ns()
        found = await self._listed(target)
        latency_ms = (time.monotonic_ns() - begun_ns) // 1_000_000
        return msgspec.structs.replace(found, latency_ms=latency_ms)

    async def _listed(self, target: ProbeTarget) -> ModelListing:
        try:
            async with self._asked(target, _QUERIES.get(target.provider_type, "")) as response:
                return _listing(target, response, await _body(response))
        except (TimeoutError, httpx.TimeoutException):
            return ModelListing(outcome="timeout", detail=f"no answer within {self._timeout_s:g} seconds")
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            return ModelListing(outcome="not_sent", detail=f"no connection: {type(error).__name__}")
        except (httpx.LocalProtocolError, UnicodeError):  # their texts hold the header
            return ModelListing(outcome="not_sent", detail="the secret has characters that no header takes")
        except httpx.HTTPError as error:
            return ModelListing(outcome="server", detail=f"no whole answer: {type(error).__name__}")

    @asynccontextmanager
    async def _asked(self, target: ProbeTarget, query: str = "") -> AsyncGenerator[httpx.Response, None]:
        assert target.base_url is not None
        url = f"{target.base_url.rstrip('/')}/models{query}"
        # Redirects are not followed: a key goes where it was meant to go.
        async with (
            asyncio.timeout(self._timeout_s),
            httpx.AsyncClient(timeout=self._timeout_s, transport=self._transport, follow_redirects=False) as client,
            client.stream("GET", url, headers=_headers(target)) as response,
        ):
            yield response


def unreachable(target: ProbeTarget) -> str | None:
    """Why a vendor cannot be asked; None where it can."""
    if target.base_url is None:
        return "the provider has no base_url"
    if target.type != "api_key":
        return f"a credential of type {target.type} is more than a key to be sent"
    return None


def _headers(target: ProbeTarget) -> dict[str, str]:
    key = target.secret["api_key"]
    plain = {"Accept": "application/json", "Accept-Encoding": "identity"}  # so that its length is known as it comes
    if target.provider_type in _HEADERS:
        name, more = _HEADERS[target.provider_type]
        return {name: key, **more, **plain}
    return {"Authorization": f"Bearer {key}", **plain}


async def _body(response: httpx.Response) -> bytes | None:
    """The answer's body; None where it is longer than an answer may be."""
    found = bytearray()
    async for part in response.aiter_raw():
        found += part
        if len(found) > ANSWER_BYTES_MAX:
            return None
    return bytes(found)


def _listing(target: ProbeTarget, response: httpx.Response, body: bytes | None) -> ModelListing:
    status = response.status_code
    if body is None:
        return ModelListing(outcome="server", status=status, detail=f"an answer over {ANSWER_BYTES_MAX} bytes")
    if not response.is_success:
        said = hidden(_message(body), target.secret)
        detail = said or f"HTTP {status}"
        if response.is_redirect:
            detail = "it redirects elsewhere, which is not followed"
        return ModelListing(outcome=outcome_of(status, said), status=status, detail=detail)
    try:
        answer = _answers.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return ModelListing(outcome="server", status=status, detail="the answer is no list of models")
    items, more = (answer.data, answer.has_more) if isinstance(answer, _Answer) else (answer, False)
    good = [item.id for item in items if _is_name(item.id, target.secret)]
    names = list(dict.fromkeys(good))
    complete = not more and len(good) == len(items) and len(names) <= LISTED_MODELS_MAX
    kept = tuple(names[:LISTED_MODELS_MAX])
    detail = None if complete else f"only {len(kept)} names of its list can be taken"
    return ModelListing(outcome="success", status=status, models=kept, complete=complete, detail=detail)


def _is_name(value: object, secret: dict[str, str]) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= NAME_CHARS_MAX or not value.isprintable():
        return False
    return not any(each in value for each in secret.values() if len(each) >= SHARED_CHARS_MIN)


def outcome_of(status: int, said: str) -> Outcome:
    """The class of a refusal, as applications report them."""
    if status == FORBIDDEN:
        return "content" if any(word in said.lower() for word in _CONTENT_WORDS) else "auth"
    return _OUTCOMES.get(status, "server")


def _message(body: bytes) -> str:
    """What a vendor says of an error, on one line: usually `{"error": {"message": …}}`."""
    try:
        text = _refusals.decode(body).text
    except (msgspec.DecodeError, UnicodeError):
        return ""
    return "".join(c if c.isprintable() else " " for c in text[: 4 * DETAIL_CHARS_MAX])


def _lower(text: str) -> str:
    """The letters A to Z alone, so that every character keeps its place."""
    return "".join(c.lower() if c.isascii() else c for c in text)


def hidden(text: str, secret: dict[str, str]) -> str:
    """A text without what it shares with a secret, cut to a line."""
    shown = [True] * len(text)
    for value in [form for each in secret.values() for form in (each, quote(each, safe=""))]:
        width = min(SHARED_CHARS_MIN, len(value))
        lowered, known = _lower(text), _lower(value)
        for n in range(len(text) - width + 1):
            if lowered[n : n + width] in known:
                shown[n : n + width] = [False] * width
    parts = [c if shown[n] else MASK * (n == 0 or shown[n - 1]) for n, c in enumerate(text)]
    return "".join(parts)[:DETAIL_CHARS_MAX]
