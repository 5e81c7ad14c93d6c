"""Testing a connection: each way it may end, seldom, with nothing saved and nothing of the secret told."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.vendor import ASKED_A_MINUTE_MAX, ASKED_AT_ONCE_MAX, Vendors
from ops.credential_probe import ANSWER_BYTES_MAX, ModelListProbe, hidden
from schema.errors import Overloaded
from schema.lease import ProbeTarget
from schema.vendor import LISTED_MODELS_MAX, ModelListing
from tests import credentials
from tests.credentials import SECRET
from tests.histories import SECOND_US
from tests.serving import APP, Json, Service, captured_log, serving
from tests.vendor import Vendor, vendor

PATH = "/v1/providers/openai/test"
WITH_SECRET = {"secret": {"api_key": SECRET}}


def with_vendor(service: Service, scripted: Vendor, **fields: object) -> None:
    made = {"id": "openai", "name": "openai", "type": "openai", "base_url": scripted.url, **fields}
    assert service.post("/v1/providers", made, "admin").status_code == 201


def run(service: Service, body: Json) -> httpx.Response:
    service.clock.now_us += 60 * SECOND_US
    return service.post(PATH, body, "admin")


def target(**fields: Any) -> ProbeTarget:  # noqa: ANN401
    asked: Json = {
        "provider": "p", "provider_type": "openai", "base_url": "https://api.example.com/v1", "credential": "c",
        "type": "api_key", "secret": {"api_key": SECRET},
    }  # fmt: skip
    return ProbeTarget(**{**asked, **fields})


def listed(answer: httpx.Response | Exception, **fields: Any) -> ModelListing:  # noqa: ANN401
    def respond(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, stream=httpx.ByteStream(answer.content))  # as from a network

    return asyncio.run(ModelListProbe(httpx.MockTransport(respond)).models(target(**fields)))


def test_a_connection_is_tested_and_nothing_is_saved(tmp_path: Path) -> None:
    """With a stored credential or with a secret that never is; no event, no lease, no trace of the secret."""
    with vendor() as scripted, serving(tmp_path, probe=ModelListProbe()) as service:
        with captured_log("json", "debug") as logged:
            with_vendor(service, scripted)
            scripted.models = ["gpt-5", "o9"]
            stored = f"{SECRET}-stored"
            assert credentials.create(service, secret={"api_key": stored}).status_code == 201
            position = service.position()
            for body in (WITH_SECRET, {"credential_id": "key-1"}):
                found = run(service, body)
                answer = found.json()
                latency_ms = answer.pop("latency_ms")
                assert (found.status_code, answer) == (
                    200, {"ok": True, "outcome": "success", "status": 200, "models": 2, "detail": None},
                )  # fmt: skip
                assert 0 <= latency_ms < 10_000
            assert scripted.asked == [SECRET, stored]
            scripted.statuses = {SECRET: 401}
            failed = run(service, WITH_SECRET)
            assert (failed.json()["ok"], failed.json()["outcome"], failed.json()["status"]) == (False, "auth", 401)
            assert failed.json()["detail"] == "Incorrect API key provided: ****."
            assert service.position() == position
            assert service.read("SELECT count(*) FROM leases") == [(0,)]
        assert SECRET not in logged()
        assert "vendor_asked" in logged()
    stored_bytes = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    assert SECRET.encode() not in stored_bytes


@pytest.mark.parametrize(
    ("status", "message", "outcome"),
    [
        (401, "no", "auth"), (402, "no", "payment"), (403, "no", "auth"), (429, "no", "rate_limited"),
        (403, "Country, region, or territory not supported", "content"), (404, "no", "server"), (408, "no", "timeout"),
        (500, "no", "server"), (503, "no", "server"), (504, "no", "timeout"),
    ],
)  # fmt: skip
def test_a_refusal_has_the_class_of_reports_on_leases(status: int, message: str, outcome: str) -> None:
    found = listed(httpx.Response(status, json={"error": {"message": message}}))
    assert (found.outcome, found.status, found.detail, found.models) == (outcome, status, message, ())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (httpx.ReadTimeout(SECRET), "timeout"), (httpx.ConnectTimeout(SECRET), "timeout"),
        (httpx.ConnectError(SECRET), "not_sent"), (httpx.ReadError(SECRET), "server"),
        (httpx.RemoteProtocolError(SECRET), "server"), (httpx.LocalProtocolError(SECRET), "not_sent"),
    ],
)  # fmt: skip
def test_no_answer_has_a_class_too(error: Exception, outcome: str) -> None:
    found = listed(error)
    assert (found.outcome, found.status) == (outcome, None)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"base_url": None}, "no base_url"),
        ({"type": "custom", "secret": {"a": "b"}}, "type custom"),
        ({"secret": {"api_key": "ключ"}}, "no header takes"),
    ],
)
def test_what_cannot_be_sent_is_not(fields: Json, detail: str) -> None:
    found = listed(httpx.Response(200, json={"data": []}), **fields)
    assert found.outcome == "not_sent"
    assert detail in (found.detail or "")


def test_a_newline_in_a_key_is_not_sent(tmp_path: Path) -> None:
    """By the real client, whose error would hold the header."""
    with vendor() as scripted, serving(tmp_path, probe=ModelListProbe()) as service:
        with_vendor(service, scripted)
        found = run(service, {"secret": {"api_key": f"{SECRET}\nX-Other: 1"}})
        assert (found.json()["outcome"], scripted.asked) == ("not_sent", [])
        assert SECRET not in found.text


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with vendor() as scripted, vendor() as other, serving(tmp_path, probe=ModelListProbe()) as service:
        with_vendor(service, scripted)
        scripted.statuses, scripted.location = {SECRET: 307}, f"{other.url}/models"
        found = run(service, WITH_SECRET).json()
        assert (found["ok"], found["outcome"], found["status"]) == (False, "server", 307)
        assert other.asked == []


def test_the_deadline_is_for_the_whole_answer() -> None:
    """A vendor that sends a byte now and then does not hold the request."""

    class Drip(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.01)
                yield b" "

    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Drip())

    begun = time.monotonic()
    found = asyncio.run(ModelListProbe(httpx.MockTransport(respond), timeout_s=0.2).models(target()))
    assert found.outcome == "timeout"
    assert 200 <= found.latency_ms < 5_000
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(("more", "outcome"), [(0, "success"), (1, "server")])
def test_an_answer_has_a_bound(more: int, outcome: str) -> None:
    body = b'{"data": []}'
    found = listed(httpx.Response(200, content=body + b" " * (ANSWER_BYTES_MAX - len(body) + more)))
    assert found.outcome == outcome


def test_as_many_names_as_there_may_be() -> None:
    """More, or names that cannot be kept, make the list incomplete; a name that holds the secret is none."""
    for count in (LISTED_MODELS_MAX, LISTED_MODELS_MAX + 1):
        found = listed(httpx.Response(200, json={"data": [{"id": f"m{n}"} for n in range(count)]}))
        assert (len(found.models), found.complete) == (LISTED_MODELS_MAX, count == LISTED_MODELS_MAX)
    for bad in ("", "a\nb", "x" * 201, 5, None, f"m-{SECRET}"):
        found = listed(httpx.Response(200, json=[{"id": "a"}, {"id": bad}, {"id": "a"}]))
        assert (found.outcome, found.models, found.complete) == ("success", ("a",), False), bad
    assert not listed(httpx.Response(200, json={"data": [], "has_more": True})).complete


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"data": 5}', b"{}", b"\xff"])
def test_what_is_no_list_is_told(body: bytes) -> None:
    found = listed(httpx.Response(200, content=body))
    assert (found.outcome, found.status, found.detail) == ("server", 200, "the answer is no list of models")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"bad key {SECRET}!", "bad key ****!"),
        (f"bad key {SECRET[:9]}…{SECRET[-9:]}", "bad key ****…****"),
        (f"BAD {SECRET.upper()}", "BAD ****"),
        ("nothing of it", "nothing of it"),
        ("", ""),
        ("x" * 999, "x" * 300),
    ],
)
def test_what_a_text_shares_with_a_secret_is_hidden(text: str, shown: str) -> None:
    assert hidden(text, {"api_key": SECRET}) == shown


def test_a_short_secret_is_hidden_too() -> None:
    assert hidden("the key k9z is wrong", {"api_key": "k9z"}) == "the key **** is wrong"


def test_a_provider_is_tested_seldom(tmp_path: Path) -> None:
    """Ten times in any minute, of one provider; then 429 tells when."""
    with vendor() as scripted, serving(tmp_path, probe=ModelListProbe()) as service:
        with_vendor(service, scripted)
        with_vendor(service, scripted, id="other", name="other")
        for _ in range(ASKED_A_MINUTE_MAX):
            assert service.post(PATH, WITH_SECRET, "admin").status_code == 200
        service.clock.now_us += 20 * SECOND_US + 1
        refused = service.post(PATH, WITH_SECRET, "admin")
        assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (
            429, "too_many_requests", "40",
        )  # fmt: skip
        assert len(scripted.asked) == ASKED_A_MINUTE_MAX
        assert service.post("/v1/providers/other/test", WITH_SECRET, "admin").status_code == 200
        service.clock.now_us += 40 * SECOND_US - 1
        assert service.post(PATH, WITH_SECRET, "admin").status_code == 200


class Slow:
    """A probe that answers when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def works(self, target: ProbeTarget) -> bool:
        raise NotImplementedError

    async def models(self, target: ProbeTarget) -> ModelListing:
        await self.go.wait()
        raise RuntimeError(target.secret["api_key"])


def test_no_more_vendors_are_asked_at_once_than_may_be() -> None:
    """One more is refused; a probe that breaks is a failure of the vendor, told by its kind alone."""

    async def ask() -> None:
        slow = Slow()
        vendors = Vendors(slow, lambda: 0)
        asked = [asyncio.create_task(vendors.models(target())) for _ in range(ASKED_AT_ONCE_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await vendors.models(target())
        slow.go.set()
        assert {(found.outcome, found.detail) for found in await asyncio.gather(*asked)} == {("server", "RuntimeError")}
        assert (await vendors.models(target())).outcome == "server"

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$.credential_id"), ({"credential_id": "key-1", **WITH_SECRET}, "$.credential_id"),
        ({"credential_id": "none"}, "$.credential_id"), ({"credential_id": "elsewhere"}, "$.credential_id"),
        ({"secret": {"token": SECRET}}, "$.secret"), ({"secret": {"api_key": SECRET, "b": SECRET}}, "$.secret"),
        ({"secret": SECRET}, "$.secret"), ({"secret": {}}, "$.secret"), ({SECRET: 1}, "$"),
    ],
)  # fmt: skip
def test_what_asks_for_nothing_that_can_be_tested_is_refused(tmp_path: Path, body: Json, path: str) -> None:
    with vendor() as scripted, serving(tmp_path, probe=ModelListProbe()) as service:
        with_vendor(service, scripted)
        with_vendor(service, scripted, id="other", name="other")
        credentials.create(service)
        credentials.create(service, "elsewhere", "other")
        found = service.post(PATH, body, "admin")
        assert (found.status_code, [each["path"] for each in found.json()["errors"]]) == (400, [path])
        assert SECRET not in found.text
        assert scripted.asked == []


def test_only_admins_test_providers_that_there_are(tmp_path: Path) -> None:
    with vendor() as scripted, serving(tmp_path, probe=ModelListProbe()) as service:
        with_vendor(service, scripted)
        assert [service.post(PATH, WITH_SECRET, caller).status_code for caller in (APP, "auditor")] == [403, 403]
        assert service.post("/v1/providers/nobody/test", WITH_SECRET, "admin").status_code == 404
        service.request("DELETE", "/v1/providers/openai", headers={"If-Match": "*"})
        assert service.post(PATH, WITH_SECRET, "admin").status_code == 404
        assert scripted.asked == []
