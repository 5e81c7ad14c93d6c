"""Leases over HTTP: the secret of whose turn it is, what reports do, and looks at what failed."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import httpx
import pytest

from api import lease_upkeep
from api.settings import ApiSettings
from ledger.database import open_writer
from ledger.keyring import master_key
from ops.credential_probe import ModelListProbe
from ops.verify import verify
from schema.lease import OUTCOMES, ProbeTarget
from schema.vendor import ModelListing
from tests import credentials
from tests.credentials import CREDENTIALS, SECRET
from tests.histories import HOUR_US, MINUTE_US, SECOND_US
from tests.server import wait_for
from tests.serving import APP, OTHER_APP, Json, Service, a_call, a_keyring, captured_log, serving
from tests.vendor import Vendor, vendor

LEASE = f"{CREDENTIALS}/lease"
LOOKING = ApiSettings(sweep_interval_s=86_400.0, recheck_interval_s=0.02)


def lease(service: Service, caller: str = APP, **wanted: object) -> httpx.Response:
    return service.post(LEASE, wanted or {"provider": "openai"}, caller)


def report(service: Service, id_: str, outcome: str, caller: str = APP, **fields: object) -> httpx.Response:
    return service.post(f"/v1/leases/{id_}/report", {"outcome": outcome, **fields}, caller)


def create(service: Service, id_: str, **fields: object) -> None:
    """A credential whose secret ends with its id."""
    made = credentials.a_credential(id_, secret={"api_key": f"{SECRET}-{id_}"}, **fields)
    assert service.post(credentials.of(), made, "admin").status_code == 201


def with_credentials(service: Service, **fields: object) -> None:
    credentials.with_provider(service)
    for name in "ab":
        create(service, name, **fields)


def read(service: Service, id_: str) -> Json:
    found: Json = service.get(f"{CREDENTIALS}/{id_}").json()
    return found


def test_a_lease_gives_the_secret_and_nothing_else_does(tmp_path: Path) -> None:
    with serving(tmp_path) as service, captured_log("json", "debug") as logged:
        with_credentials(service)
        found = lease(service)
        body = found.json()
        assert (found.status_code, found.headers["Cache-Control"]) == (201, "no-store")
        assert (body["provider"], body["credential_id"], body["secret"]) == ("openai", "a", {"api_key": f"{SECRET}-a"})
        assert (body["expires_at"], body["duplicate"]) == ("2026-11-22T12:10:00.000000Z", False)
        assert report(service, body["lease_id"], "success").status_code == 200
        shown = service.get("/v1/leases").text + service.get(f"/v1/leases/{body['lease_id']}").text
        shown += service.get(CREDENTIALS).text + service.get("/v1/events").text + logged()
        assert SECRET not in shown
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    assert SECRET.encode() not in stored


def test_the_same_lease_again(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        answers = [lease(service, provider="openai", id="one") for _ in range(2)]
        assert [each.status_code for each in answers] == [201, 200]
        assert answers[1].json() == {**answers[0].json(), "duplicate": True}
        assert lease(service, OTHER_APP, provider="openai", id="one").json()["code"] == "id_conflict"
        assert lease(service, provider="openai", id="one", expires_in_s=1).status_code == 409


def test_an_old_lease_does_not_fetch_a_new_secret(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        assert credentials.change(service, "a", weight=7).status_code == 200
        assert lease(service, provider="openai", id="one").status_code == 200
        assert credentials.change(service, "a", secret={"api_key": "sk-another-one"}).status_code == 200
        found = lease(service, provider="openai", id="one")
        assert (found.status_code, found.json()["code"]) == (409, "lease_ended")
        assert "secret" not in found.json()


def test_anothers_lease_id_tells_nothing_of_it(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        found = lease(service, OTHER_APP, provider="openai", id="one", expires_in_s=5).json()
        assert (found["code"], found.get("errors", [])) == ("id_conflict", [])
        assert "app" not in found["detail"]


@pytest.mark.parametrize(
    "wanted", [{"id": "x"}, {"provider": "openai", "model": "m"}, {"provider": "openai", "expires_in_s": 0}]
)
def test_what_asks_for_nothing_or_too_much_is_refused(tmp_path: Path, wanted: Json) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        assert lease(service, **wanted).status_code == 400


def test_leases_are_their_apps(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        path = "/v1/leases/one"
        codes = [service.get(path, caller).status_code for caller in (APP, OTHER_APP, "auditor", "admin")]
        assert codes == [200, 404, 200, 200]
        assert report(service, "one", "success", OTHER_APP).status_code == 404
        found = [report(service, "one", outcome).status_code for outcome in ("content", "content", "success")]
        assert found == [200, 200, 409]
        assert service.get(path).json()["outcome"] == "content"


def test_leases_are_listed_newest_first_in_pages(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        for n in range(7):
            lease(service, provider="openai", id=f"l{n}")
        report(service, "l3", "timeout")
        ids: list[str] = []
        query = "?limit=3"
        while True:
            page = service.get(f"/v1/leases{query}").json()
            ids += [each["id"] for each in page["items"]]
            if page["next_cursor"] is None:
                break
            query = f"?limit=3&cursor={page['next_cursor']}"
        assert ids == [f"l{n}" for n in range(6, -1, -1)]
        filters = {"outcome=timeout": ["l3"], "credential_id=b": ["l5", "l3", "l1"], "app=none": [], "provider=x": []}
        for query, expected in filters.items():
            assert [each["id"] for each in service.get(f"/v1/leases?{query}").json()["items"]] == expected


def test_none_left_says_why_and_when(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service, daily_limit=1)
        assert [lease(service).status_code for _ in range(3)] == [201, 201, 503]
        refused = lease(service)
        assert refused.json()["code"] == "no_credential"
        assert refused.json()["detail"].endswith("none can be lent: 2 exhausted")
        assert refused.headers["Retry-After"] == str(12 * 3600)
        service.clock.now_us += 12 * HOUR_US
        assert lease(service).status_code == 201


def test_status_usage_and_calls(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        credentials.with_provider(service)
        create(service, "a", daily_limit=10)
        create(service, "b", monthly_limit=1, priority=1)
        assert read(service, "a")["status"] == "normal"
        for n in range(9):
            lease(service, provider="openai", id=f"l{n}")
        found = read(service, "a")
        assert (found["status"], found["near_limit"], found["last_leased_at"][:10]) == ("normal", True, "2026-11-22")
        day = {
            "period": "2026-11-22",
            "used": 9,
            "limit": 10,
            "percent": 90,
            "resets_at": "2026-11-23T00:00:00.000000Z",
        }
        assert found["usage"]["daily"] == day
        assert found["usage"]["monthly"]["limit"] is None
        lease(service)
        assert read(service, "a")["status"] == "daily_limit"
        lease(service)
        assert read(service, "b")["status"] == "monthly_limit"
        service.post(f"{CREDENTIALS}/a/reset", {"counters": "daily"}, "admin")
        report(service, "l0", "rate_limited")
        found = read(service, "a")
        assert (found["status"], found["penalised_until"]) == ("rate_limited", "2026-11-22T12:03:00.000000Z")
        report(service, "l1", "auth")
        found = read(service, "a")
        assert (found["status"], found["disabled_reason"], found["errors"]) == ("error", "auth", 1)
        assert found["recheck_at"] == "2026-11-22T12:00:06.000000Z"
        assert credentials.change(service, "b", "?force=true", enabled=False).status_code == 200
        assert read(service, "b")["status"] == "disabled"


def test_another_zone_moves_when_a_quota_resets(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service, daily_limit=5)
        service.clock.now_us += 11 * HOUR_US
        lease(service)
        assert credentials.change(service, "a", timezone="America/Los_Angeles").status_code == 200
        service.clock.now_us += 3 * HOUR_US
        found = read(service, "a")["usage"]["daily"]
        assert (found["used"], found["resets_at"]) == (1, "2026-11-23T08:00:00.000000Z")


def test_leases_dated_ahead_are_told_of(tmp_path: Path) -> None:
    with captured_log("json") as logged:
        with serving(tmp_path) as service:
            with_credentials(service)
            service.clock.now_us += HOUR_US
            lease(service)
        with serving(tmp_path) as service:
            wait_for(lambda: "leases_dated_ahead" in logged(), 20)
            details = service.get("/health/ready").json()["details"]
            assert details["leases_ahead_s"] == 3600


def test_disabling_by_hand_what_an_error_disabled_ends_its_looks(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        report(service, "one", "auth")
        assert credentials.change(service, "a", enabled=False).status_code == 200
        found = read(service, "a")
        assert (found["status"], found["recheck_at"]) == ("disabled", None)


def test_what_cannot_be_looked_at_is_not_promised_a_look(tmp_path: Path) -> None:
    """Neither to readers nor to the next in the queue."""
    with serving(tmp_path) as service:
        credentials.with_provider(service)
        made = credentials.a_credential("x", type="custom", secret={"token": "t" * 20})
        assert service.post(credentials.of(), made, "admin").status_code == 201
        lease(service, provider="openai", id="one")
        report(service, "one", "auth")
        refused = lease(service)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "60")
        assert (read(service, "x")["status"], read(service, "x")["recheck_at"]) == ("error", None)


def test_a_new_secret_lifts_a_penalty(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        report(service, "one", "rate_limited", retry_after_s=80_000)
        assert read(service, "a")["status"] == "rate_limited"
        assert credentials.change(service, "a", secret={"api_key": "sk-another-one"}).status_code == 200
        assert (read(service, "a")["status"], read(service, "a")["penalised_until"]) == ("normal", None)


def test_a_vendor_that_asks_for_no_wait_gets_none(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        report(service, "one", "rate_limited", retry_after_s=0)
        assert read(service, "a")["status"] == "normal"


def test_calls_that_name_a_credential_are_counted(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        calls = [
            a_call(f"c-{n}", credential_id="ab"[n % 3 == 0], started_at=f"2026-11-22T10:00:0{n}Z") for n in range(7)
        ]
        service.post("/v1/model-calls", [*calls, a_call("none")])
        service.post("/v1/model-calls/c-1/corrections", {"id": "x", "reason": "y", "set": {"credential_id": "b"}})
        service.post("/v1/model-calls/c-2/corrections", {"id": "x", "reason": "y", "void": True})
        start = a_call("long", credential_id="b", started_at="2026-11-22T11:00:00Z")
        for name in ("status", "usage", "duration_ms", "ttfb_ms"):
            del start[name]
        service.post("/v1/model-calls/long/start", start)
        assert read(service, "b")["calls"] == 4
        service.post("/v1/model-calls/long/complete", {})
        found = {id_: read(service, id_) for id_ in "ab"}
        assert {id_: (each["calls"], each["last_used_at"][:19]) for id_, each in found.items()} == {
            "a": (2, "2026-11-22T10:00:05"), "b": (5, "2026-11-22T11:00:00"),
        }  # fmt: skip
        stats = service.get("/v1/model-call-stats?group_by=credential_id").json()["buckets"]
        counted = {each["group"]["credential_id"]: each["calls"] for each in stats if each["group"]["credential_id"]}
        assert counted == {"a": 2, "b": 5}
    report_ = verify(tmp_path / "ledger.db")
    assert report_.ok, report_.faults


def test_enabling_by_hand_or_a_new_secret_clears_failures(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        for n in range(4):
            lease(service, provider="openai", id=f"l{n}")
        report(service, "l0", "auth")
        report(service, "l1", "server")
        assert lease(service).json()["credential_id"] == "b"
        assert credentials.change(service, "a", enabled=True).status_code == 200
        assert credentials.change(service, "b", secret={"api_key": "another"}).status_code == 200
        assert [read(service, id_)["errors"] for id_ in "ab"] == [0, 0]
        report(service, "l2", "auth")
        report(service, "l3", "server")
        assert [(read(service, id_)["status"], read(service, id_)["errors"]) for id_ in "ab"] == [("normal", 0)] * 2
        verbs = [each["type"] for each in service.get(f"{CREDENTIALS}/a/history").json()["items"]]
        assert verbs == ["credential.created.v1", "credential.disabled.v1", "credential.restored.v1"]
        assert Counter(lease(service).json()["credential_id"] for _ in range(4)) == {"a": 2, "b": 2}


def test_a_reset_may_reactivate(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        report(service, "one", "payment")
        done = service.post(f"{CREDENTIALS}/a/reset", {"counters": "error", "reactivate": True}, "admin")
        assert (done.status_code, read(service, "a")["status"]) == (200, "normal")
        assert service.post(f"{CREDENTIALS}/none/reset", {}, "admin").status_code == 404
        assert service.post(f"{CREDENTIALS}/a/reset", {"counters": "x"}, "admin").status_code == 400


def test_a_secret_that_cannot_be_opened_takes_nothing_from_the_quota(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service, daily_limit=5)
    with serving(tmp_path, keyring=a_keyring(master_key(bytes(32)))) as service:
        found = lease(service, provider="openai", id="one")
        assert (found.status_code, found.json()["code"], found.headers["Retry-After"]) == (503, "no_credential", "60")
        assert found.json()["detail"].endswith("2 unreadable")
        assert [read(service, id_)["usage"]["daily"]["used"] for id_ in "ab"] == [0, 0]
        assert [read(service, id_)["status"] for id_ in "ab"] == ["unreadable"] * 2
    with serving(tmp_path) as service:
        service.clock.now_us += MINUTE_US
        assert lease(service, provider="openai", id="one").status_code == 201
    checked = verify(tmp_path / "ledger.db")
    assert checked.ok, checked.faults


def test_one_whose_secret_cannot_be_opened_is_passed_over_within_the_request(tmp_path: Path) -> None:
    with serving(tmp_path) as service, captured_log("json") as logged:
        with_credentials(service)
        db = open_writer(service.ledger.path)
        db.execute("UPDATE data_keys SET master_key_id = 'deadbeef' WHERE subject = 'credential/a'")
        db.close()
        assert credentials.change(service, "a", name="again").status_code == 200
        found = [lease(service, provider="openai", id=f"l{n}").json() for n in range(4)]
        assert [(each["lease_id"], each["credential_id"]) for each in found] == [(f"l{n}", "b") for n in range(4)]
        assert read(service, "a")["status"] == "unreadable"
        outcomes = Counter(each["outcome"] for each in service.get("/v1/leases").json()["items"])
        assert outcomes == {None: 4, "not_sent": 1}
        assert "credential_passed_over" in logged()
    checked = verify(tmp_path / "ledger.db")
    assert not [each for each in checked.faults if "data_keys" not in str(each)], checked.faults


def call_vendor(service: Service, scripted: Vendor) -> tuple[str, str]:
    """As an application does: lease, call, report; the credential and the outcome."""
    found = lease(service)
    if found.status_code != 201:
        return "none", found.json()["code"]
    body = found.json()
    status = scripted.status_of(body["secret"]["api_key"])
    outcome = {200: "success", 401: "auth", 402: "payment", 403: "content", 429: "rate_limited"}.get(status, "server")
    assert report(service, body["lease_id"], outcome).status_code == 200
    return body["credential_id"], outcome


def test_a_vendor_that_fails_drives_fail_over_and_re_enabling_across_a_restart(tmp_path: Path) -> None:
    with vendor() as scripted:
        a, b = (f"{SECRET}-{name}" for name in "ab")
        with serving(tmp_path) as service:
            service.post("/v1/providers", {"id": "openai", "name": "openai", "base_url": scripted.url}, "admin")
            create(service, "a")
            create(service, "b")
            assert [call_vendor(service, scripted) for _ in range(2)] == [("a", "success"), ("b", "success")]
            scripted.statuses = {a: 403}
            assert [call_vendor(service, scripted) for _ in range(4)][::2] == [("a", "content")] * 2
            scripted.statuses = {a: 401, b: 429}
            assert [call_vendor(service, scripted) for _ in range(3)] == [
                ("a", "auth"), ("b", "rate_limited"), ("b", "rate_limited"),
            ]  # fmt: skip
            scripted.statuses = {a: 401, b: 500}
            assert [call_vendor(service, scripted) for _ in range(6)] == [("b", "server")] * 5 + [
                ("none", "no_credential")
            ]
        scripted.asked.clear()
        with serving(tmp_path, settings=LOOKING, probe=ModelListProbe()) as service:
            assert call_vendor(service, scripted) == ("none", "no_credential")
            service.clock.now_us += 7 * SECOND_US
            wait_for(lambda: sorted(scripted.asked) == [a, b], 20)
            wait_for(lambda: read(service, "a")["recheck_at"] == "2026-11-22T12:00:14.000000Z", 20)
            assert [read(service, id_)["status"] for id_ in "ab"] == ["error", "error"]
            scripted.statuses = {b: 500}
            service.clock.now_us += 7 * SECOND_US
            wait_for(lambda: read(service, "a")["status"] == "normal", 20)
            assert call_vendor(service, scripted) == ("a", "success")
            items = service.get(f"{CREDENTIALS}/a/history").json()["items"]
            assert [each["type"].split(".")[1] for each in items] == ["created", "disabled", "restored"]
    checked = verify(tmp_path / "ledger.db")
    assert checked.ok, checked.faults


class Broken:
    """A probe that fails in its own way, with the secret in its mouth."""

    async def works(self, target: ProbeTarget) -> bool:
        raise RuntimeError(target.secret["api_key"])

    async def models(self, target: ProbeTarget) -> ModelListing:
        raise RuntimeError(target.secret["api_key"])


def test_a_probe_that_breaks_is_a_no_and_tells_nothing(tmp_path: Path) -> None:
    with captured_log("json") as logged, serving(tmp_path, settings=LOOKING, probe=Broken()) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        report(service, "one", "auth")
        service.clock.now_us += 6 * SECOND_US
        wait_for(lambda: read(service, "a")["recheck_at"] == "2026-11-22T12:00:13.000000Z", 20)
        assert "RuntimeError" in logged()
        assert SECRET not in logged()


class Dripping:
    """A probe whose vendor never comes to an end for some credentials."""

    def __init__(self, *slow: str) -> None:
        self.slow = slow
        self.ended: list[str] = []

    async def works(self, target: ProbeTarget) -> bool:
        try:
            if target.credential in self.slow:
                await asyncio.Event().wait()
        finally:
            self.ended.append(target.credential)
        return True

    async def models(self, target: ProbeTarget) -> ModelListing:
        raise NotImplementedError(target.credential)


def test_a_slow_look_delays_no_other(tmp_path: Path) -> None:
    probe = Dripping("a")
    with serving(tmp_path, settings=LOOKING, probe=probe) as service:
        with_credentials(service)
        for id_, credential in (("one", "a"), ("two", "b")):
            assert lease(service, provider="openai", id=id_).json()["credential_id"] == credential
        report(service, "one", "auth")
        service.clock.now_us += 6 * SECOND_US
        wait_for(lambda: read(service, "a")["recheck_at"] == "2026-11-22T12:01:06.000000Z", 20)
        report(service, "two", "auth")
        service.clock.now_us += 6 * SECOND_US
        wait_for(lambda: read(service, "b")["enabled"], 20)
        assert probe.ended == ["b"]


def test_a_look_that_never_ends_counts_as_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_upkeep, "LOOK_S", 0.05)
    with captured_log("json") as logged, serving(tmp_path, settings=LOOKING, probe=Dripping("a")) as service:
        with_credentials(service)
        lease(service, provider="openai", id="one")
        report(service, "one", "auth")
        service.clock.now_us += 6 * SECOND_US
        wait_for(lambda: read(service, "a")["recheck_at"] == "2026-11-22T12:00:13.000000Z", 20)
        assert "TimeoutError" in logged()


@pytest.mark.parametrize(
    ("provider_type", "header"),
    [("openai", "authorization"), ("custom", "authorization"), ("anthropic", "x-api-key"), ("azure", "api-key"),
     ("google", "x-goog-api-key")],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 401, 302, 500])
def test_the_probe_asks_for_the_models(provider_type: str, header: str, status: int) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, headers={"Location": "https://elsewhere.example"})

    target = ProbeTarget(
        provider="p", provider_type=provider_type, base_url="https://api.example.com/v1/", credential="c",
        type="api_key", secret={"api_key": "k"},
    )  # fmt: skip
    assert asyncio.run(ModelListProbe(httpx.MockTransport(answer)).works(target)) is (status == 200)
    [request] = seen
    assert (str(request.url), request.headers[header][-1]) == ("https://api.example.com/v1/models", "k")
    assert "secret" not in repr(target)


def test_every_outcome_can_be_reported(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with_credentials(service)
        for outcome in OUTCOMES:
            lease(service, "admin", provider="openai", id=outcome)
            assert report(service, outcome, outcome, "admin").json()["outcome"] == outcome
            service.post(f"{CREDENTIALS}/a/reset", {"reactivate": True}, "admin")
            service.post(f"{CREDENTIALS}/b/reset", {"reactivate": True}, "admin")
        types = [json.loads(line)["type"] for line in service.get("/v1/events?limit=1000").text.splitlines()]
        assert Counter(types)["credential.disabled.v1"] == 2
