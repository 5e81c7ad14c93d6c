"""Whether models answer: the latest call that tells anything decides, as corrected, without voided ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from projections import model_status
from schema.model_status import tells_of_model
from tests.catalogue import a_model, a_provider
from tests.serving import APP, CALLS, OTHER_APP, Json, Service, a_call, serving

STATUS = "/v1/model-status"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def post(service: Service, minute: int, code: str | None = None, caller: str = APP, **fields: object) -> str:
    """A call that began at that minute and failed with this code, or with `""` for none; None: it succeeded."""
    started_at = f"2026-11-22T10:{minute:02}:00.000000Z"
    failed: Json = {} if code is None else {"status": "failed", "error": {"code": code} if code else None}
    made = a_call(f"c-{minute}", started_at=started_at, duration_ms=100 + minute, **{**failed, **fields})
    assert service.post(CALLS, made, caller).status_code == 201
    return made["id"]


def only(service: Service, query: str = "", caller: str = "admin") -> Json:
    [item] = service.get(f"{STATUS}{query}", caller).json()["items"]
    found: Json = item
    return found


def status(service: Service) -> str:
    found: str = only(service)["status"]
    return found


def test_a_failure_shows_and_the_next_success_clears_it(service: Service) -> None:
    post(service, 1)
    assert only(service) == {
        "provider": "openai", "model": "gpt-4o", "type": "chat_completion", "status": "available", "latency_ms": 101,
        "ttfb_ms": 310, "error": None, "at": "2026-11-22T10:01:00.000000Z",
    }  # fmt: skip
    post(service, 2, "500")
    found = only(service)
    assert (found["status"], found["error"], found["at"][14:16]) == ("error", "500", "02")
    post(service, 3)
    assert (status(service), only(service)["latency_ms"]) == ("available", 103)


@pytest.mark.parametrize("code", ["500", "503", "auth", "401", "server", "timeout", "model_not_found", ""])
def test_failures_of_the_model_count(service: Service, code: str) -> None:
    post(service, 1)
    post(service, 2, code)
    assert (status(service), only(service)["error"]) == ("error", code or "failed")


@pytest.mark.parametrize("code", ["content", "rate_limited", "429", "HTTP 429", "Rate-Limit-Exceeded", "not_sent"])
def test_failures_that_say_nothing_of_it_do_not(service: Service, code: str) -> None:
    """They neither make it fail nor answer; a model with no others is unknown."""
    post(service, 5, code)
    assert status(service) == "unknown"
    post(service, 1)
    assert status(service) == "available"
    post(service, 2, "500")
    assert status(service) == "error"
    assert not tells_of_model(code)


def test_when_a_call_began_decides_and_not_when_it_was_posted(service: Service) -> None:
    post(service, 9)
    post(service, 3, "500")
    assert status(service) == "available"


def test_corrected_and_voided_calls(service: Service) -> None:
    post(service, 1)
    id_ = post(service, 2, "500")
    path = f"{CALLS}/{id_}/corrections"
    fixed = {"id": "fix", "reason": "r", "set": {"error": {"code": "rate_limited"}}}
    assert service.post(path, fixed).status_code == 201
    assert status(service) == "available"
    id_ = post(service, 3, "500")
    assert status(service) == "error"
    assert service.post(f"{CALLS}/{id_}/corrections", {"id": "v", "reason": "r", "void": True}).status_code == 201
    assert (status(service), only(service)["latency_ms"]) == ("available", 101)


def test_a_call_under_way_says_nothing_and_one_that_timed_out_does(service: Service) -> None:
    post(service, 1)
    begun = a_call("long", started_at="2026-11-22T11:59:00Z")
    for name in ("status", "usage", "duration_ms", "ttfb_ms"):
        del begun[name]
    assert service.post(f"{CALLS}/long/start", begun).status_code == 201
    assert status(service) == "available"
    assert service.post(f"{CALLS}/long/fail", {"error": {"code": "server"}}).status_code in {200, 201}
    assert (status(service), only(service)["error"]) == ("error", "server")


def test_each_type_has_its_own_and_filters_choose(service: Service) -> None:
    post(service, 1)
    post(service, 2, "500", type="embedding")
    post(service, 3, provider="azure")
    post(service, 4, model="o9")
    found = service.get(STATUS).json()
    assert [(each["provider"], each["model"], each["type"], each["status"]) for each in found["items"]] == [
        ("azure", "gpt-4o", "chat_completion", "available"), ("openai", "gpt-4o", "chat_completion", "available"),
        ("openai", "gpt-4o", "embedding", "error"), ("openai", "o9", "chat_completion", "available"),
    ]  # fmt: skip
    assert (found["since"], found["omitted"]) == (None, 0)
    assert only(service, "?provider=openai&model=gpt-4o&type=embedding")["status"] == "error"
    assert only(service, "?model=o9")["provider"] == "openai"
    assert service.get(f"{STATUS}?model=none").json()["items"] == []
    assert service.get(f"{STATUS}?status=error").status_code == 400


def test_a_registered_model_without_calls_is_unknown(service: Service) -> None:
    service.post("/v1/providers", a_provider("openai"), "admin")
    service.post("/v1/models", a_model("gpt-4o"), "admin")
    assert (only(service)["status"], only(service)["type"]) == ("unknown", None)
    post(service, 1)
    assert (status(service), only(service)["type"]) == ("available", "chat_completion")


def test_an_app_sees_what_its_own_calls_tell(service: Service) -> None:
    post(service, 1)
    post(service, 2, "500", OTHER_APP, id="theirs")
    assert [only(service, "", caller)["status"] for caller in ("admin", APP, OTHER_APP)] == [
        "error", "available", "error",
    ]  # fmt: skip


def test_a_bounded_number_of_calls_is_looked_at(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What began before is not, and the answer says since when."""
    monkeypatch.setattr(model_status, "SCAN_CALLS_MAX", 3)
    post(service, 1, model="old")
    for minute in (2, 3):
        post(service, minute)
    assert service.get(STATUS).json()["since"] is None
    post(service, 4, "429")
    found = service.get(STATUS).json()
    assert found["since"] == "2026-11-22T10:02:00.000000Z"
    assert [(each["model"], each["latency_ms"]) for each in found["items"]] == [("gpt-4o", 103)]


def test_the_scan_follows_the_index_of_starts(service: Service) -> None:
    """Neither a whole table nor a sort."""
    query = "EXPLAIN QUERY PLAN SELECT provider FROM model_calls ORDER BY started_at_us DESC, position DESC LIMIT 3"
    plan = " ".join(str(row[-1]) for row in service.read(query))
    assert "model_calls_started_at" in plan
    assert "TEMP B-TREE" not in plan
