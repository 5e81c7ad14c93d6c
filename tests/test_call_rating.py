"""What a call is charged when it is posted: every status and reason, the policies, and what a repeat gets."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from api.settings import ApiSettings
from ops.bootstrap import api_settings, rating_policy
from schema.model_call import FinalStatus, RatingPolicy
from schema.times import DAY_US, HOUR_US
from tests.console import run, settings_of
from tests.rates import rate, set_rates
from tests.serving import APP, CALLS, NOW_US, Json, Service, a_call, at, serving

PRICES: Json = {"input": "0.0000025", "output": "0.00001"}
FREE: Json = {"input": "0", "output": "0"}
TOKENS: Json = {"input_tokens": 374, "output_tokens": 44}
COST = "0.001375"  # 374 × 0.0000025 + 44 × 0.00001
REJECT = ApiSettings(sweep_interval_s=86_400.0, rating_policy=RatingPolicy(unpriced="reject"))
CHARGE_NO_FAILURES = ApiSettings(sweep_interval_s=86_400.0, rating_policy=RatingPolicy(failed="free"))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def rating_of(answer: Json) -> tuple[str | None, str, str | None]:
    return answer["cost"], answer["cost_status"], answer["cost_reason"]


CASES: dict[str, tuple[Json | None, Json, tuple[str | None, str, str | None]]] = {
    "priced": (PRICES, {}, (COST, "priced", None)),
    "a part has no price": (
        PRICES, {"usage": {**TOKENS, "images": 1}}, (COST, "priced", "partly_unpriced"),
    ),
    "no rate": (None, {}, (None, "unpriced", "no_price")),
    "a rate of another model": ({**PRICES, "model": "other"}, {}, (None, "unpriced", "no_price")),
    "a rate of another type": ({**PRICES, "type": "embedding"}, {}, (None, "unpriced", "no_price")),
    "a rate of later": ({**PRICES, "effective_from": "2026-11-22T11:00:00Z"}, {}, (None, "unpriced", "no_price")),
    "nothing used has a price": ({"image": "0.04"}, {}, (None, "unpriced", "no_price_for_usage")),
    "no usage": (PRICES, {"usage": None}, (None, "unpriced", "unmeasured")),
    "no usage, and no rate": (None, {"usage": None}, (None, "unpriced", "unmeasured")),
    "a usage of nothing": (PRICES, {"usage": {"input_tokens": 0}}, (None, "unpriced", "unmeasured")),
    "units of nothing": (PRICES, {"usage": {"units": {"web_searches": 0}}}, (None, "unpriced", "unmeasured")),
    "no usage, billed by call": (
        {"billing": "call", "per_call": "0.01"}, {"usage": None}, ("0.01", "priced", None),
    ),
    "usage, billed by call": ({"billing": "call", "per_call": "0.01"}, {}, ("0.01", "priced", None)),
    "a free price of a call": ({"billing": "call", "per_call": "0"}, {}, ("0", "free", "free_rate")),
    "billed by second": (
        {"billing": "second", "per_second": "0.1"}, {"usage": {"seconds": "1.000001"}}, ("0.1000001", "priced", None),
    ),
    "failed before anything": (PRICES, {"status": "failed", "usage": None}, ("0", "free", "failed")),
    "failed, billed by call": ({"billing": "call", "per_call": "0.01"}, {"status": "failed"}, ("0", "free", "failed")),
    "failed, without a rate": (None, {"status": "failed", "usage": None}, (None, "unpriced", "no_price")),
    "failed half way": (PRICES, {"status": "failed"}, (COST, "priced", "partial_usage")),
    "free": (FREE, {}, ("0", "free", "free_rate")),
    "estimated": (PRICES, {"usage": {**TOKENS, "estimated": True}}, (COST, "estimated", "estimated_usage")),
    "contradicting": (
        {**PRICES, "lines": {"input_audio_tokens": "0.1"}},
        {"usage": {**TOKENS, "units": {"input_audio_tokens": 375}}},
        (None, "unpriced", "unclear_usage"),
    ),
    "tiers alone, below them": ({"tiers": [{"above": 1000, **PRICES}]}, {}, (None, "unpriced", "no_price_for_usage")),
    "tiers alone, above them": ({"tiers": [{"above": 373, **PRICES}]}, {}, (COST, "priced", None)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_call_says_what_it_costs_or_why_it_does_not(service: Service, case: str) -> None:
    """Receipt and call agree; nothing that has no price or measure is 0."""
    prices, fields, expected = CASES[case]
    if prices is not None:
        set_rates(service.ledger, rate(**prices))
    receipt = service.post(CALLS, a_call(**fields)).json()
    assert rating_of(receipt) == expected
    assert rating_of(service.get(f"{CALLS}/c-1").json()) == expected


def test_a_call_names_the_rate_that_priced_it(service: Service) -> None:
    """The greatest effective_from up to its start, then the latest set."""
    set_rates(service.ledger, rate("old", input="1"), rate("new", input="2", effective_from="2026-11-22T10:00:00Z"))
    set_rates(service.ledger, rate("newest", input="3", effective_from="2026-11-22T10:00:00Z"))
    head = service.position()
    for id_, started_at, cost, position in (
        ("before", "2026-11-22T09:59:59.999999Z", "374", head - 2),
        ("at", "2026-11-22T10:00:00Z", "1122", head),
    ):
        assert service.post(CALLS, a_call(id_, started_at=started_at)).json()["cost"] == cost
        assert service.get(f"{CALLS}/{id_}").json()["rate_position"] == position


def test_a_long_call_is_rated_by_its_start(service: Service) -> None:
    """The rate of the moment it began holds, whatever is set until it ends; until then it is unfinished."""
    set_rates(service.ledger, rate("r-1", input="1"))
    start = {name: a_call()[name] for name in ("provider", "model", "type", "started_at")}
    for id_ in ("c-1", "c-2"):
        started = service.post(f"{CALLS}/{id_}/start", start)
        assert rating_of(started.json()) == (None, "unpriced", "unfinished")
    set_rates(service.ledger, rate("r-2", input="2", effective_from="2026-11-22T11:00:00Z"))
    service.clock.now_us += HOUR_US // 4
    ended = service.post(f"{CALLS}/c-1/complete", {"usage": {"input_tokens": 7}})
    assert rating_of(ended.json()) == ("7", "priced", None)
    failed = service.post(f"{CALLS}/c-2/fail", {"usage": {"input_tokens": 5}})
    assert rating_of(failed.json()) == ("5", "priced", "partial_usage")
    again = service.post(f"{CALLS}/c-1/complete", {"usage": {"input_tokens": 7}})
    assert (again.status_code, again.json()) == (200, {**ended.json(), "duplicate": True})


def test_a_timed_out_call_is_unfinished_until_its_late_end_is_charged(service: Service) -> None:
    set_rates(service.ledger, rate(input="1"))
    start = {name: a_call()[name] for name in ("provider", "model", "type", "started_at")}
    service.post(f"{CALLS}/c-1/start", start)
    service.clock.now_us += DAY_US
    ended = service.post(f"{CALLS}/c-1/complete", {"usage": {"input_tokens": 7}})
    assert rating_of(ended.json()) == ("7", "priced", None)
    totals = service.get("/v1/model-call-stats").json()["totals"]
    assert (totals["calls"], totals["cost"], totals["unpriced_calls"]) == (1, "7", 0)


def test_a_duplicate_gets_the_first_receipt_after_a_new_rate_too(service: Service) -> None:
    """Also where the new rate would have been the call's, had it been there."""
    first = service.post(CALLS, a_call()).json()
    assert first["cost_status"] == "unpriced"
    set_rates(service.ledger, rate(input="1"))
    assert service.post(CALLS, a_call()).json() == {**first, "duplicate": True}
    second = service.post(CALLS, a_call("c-2")).json()
    set_rates(service.ledger, rate("r-2", input="2", effective_from="2026-01-01T00:00:00Z"))
    again = service.post(CALLS, a_call("c-2"))
    assert (again.status_code, again.json()) == (200, {**second, "duplicate": True})


@pytest.mark.parametrize("path", [CALLS, f"{CALLS}/c-1/start", f"{CALLS}/c-1/complete", "/v1/estimate"])
def test_nobody_posts_a_rating(service: Service, path: str) -> None:
    fields = a_call(rating={"cost": "0", "status": "free"})
    unwanted = {CALLS: (), f"{CALLS}/c-1/start": ("status", "duration_ms", "ttfb_ms", "usage")}.get(path, ())
    body = {name: value for name, value in fields.items() if name not in unwanted}
    response = service.post(path, body)
    assert response.status_code == 400
    assert "unknown field `rating`" in response.json()["errors"][0]["message"]


# Bounds


def test_a_call_over_the_most_that_one_may_cost_is_refused_alone(service: Service) -> None:
    """Ten million credits are taken, the least more is not; a vendor price beyond that is none, and hinders nobody."""
    set_rates(
        service.ledger,
        rate("r-1", input="10000", output="0.0000000001"),
        rate("r-2", model="dear", input="0.1", vendor={"input": "999999"}),
    )
    calls = [
        a_call("most", usage={"input_tokens": 1_000}),
        a_call("more", usage={"input_tokens": 1_000, "output_tokens": 1}),
        a_call("vendor", model="dear", usage={"input_tokens": 10**12 // 100_000}),
        a_call("good", usage={"input_tokens": 1}),
    ]
    items = service.post(CALLS, calls).json()["items"]
    assert [item["status"] for item in items] == ["accepted", "rejected", "accepted", "accepted"]
    assert items[1]["problem"]["code"] == "out_of_range"
    assert service.get(f"{CALLS}/vendor").json()["vendor_cost"] is None
    assert service.get(f"{CALLS}/most").json()["cost"] == "10000000"


def test_a_vendors_price_that_cannot_be_told_is_null_and_the_charge_stands(service: Service) -> None:
    set_rates(
        service.ledger,
        rate("r-1", **PRICES, vendor={"image": "1"}),
        rate("r-2", model="audio", **PRICES, vendor={**PRICES, "lines": {"input_audio_tokens": "1"}}),
    )
    service.post(CALLS, a_call())
    service.post(CALLS, a_call("c-2", model="audio", usage={**TOKENS, "units": {"input_audio_tokens": 375}}))
    for id_ in ("c-1", "c-2"):
        call = service.get(f"{CALLS}/{id_}").json()
        assert (call["cost"], call["vendor_cost"], call["cost_status"]) == (COST, None, "priced")


# Policies


def one_by_one(service: Service, calls: list[Json]) -> list[Json]:
    return [service.post(CALLS, call).json() for call in calls]


def as_array(service: Service, calls: list[Json]) -> list[Json]:
    return [item["problem"] or item for item in service.post(CALLS, calls).json()["items"]]


def as_lines(service: Service, calls: list[Json]) -> list[Json]:
    response = service.request("POST", CALLS, APP, content=b"\n".join(map(_encoded, calls)), headers=NDJSON_HEADERS)
    return [item["problem"] or item for item in response.json()["items"]]


NDJSON_HEADERS = {"Content-Type": "application/x-ndjson"}


def _encoded(call: Json) -> bytes:
    return msgspec.json.encode(call)


@pytest.mark.parametrize("post", [one_by_one, as_array, as_lines])
def test_a_ledger_that_takes_only_priced_calls_refuses_others_alone(
    tmp_path: Path, post: Callable[[Service, list[Json]], list[Json]]
) -> None:
    """`no_price` is 400, stores nothing, leaves the neighbours alone, and the same id is taken once there is a rate."""
    with serving(tmp_path, settings=REJECT) as service:
        set_rates(service.ledger, rate(**PRICES))
        before = service.position()
        answers = post(service, [a_call("c-1"), a_call("c-2", model="unknown"), a_call("c-3")])
        assert [answer.get("code") for answer in answers] == [None, "no_price", None]
        assert (answers[1]["status"], answers[1]["retryable"]) == (400, False)
        assert service.position() == before + 2
        set_rates(service.ledger, rate("r-2", model="unknown", **PRICES))
        [answer] = post(service, [a_call("c-2", model="unknown")])
        assert "code" not in answer
        assert service.get(f"{CALLS}/c-2").json()["cost"] == COST


@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_the_end_of_a_long_call_without_a_price_may_be_tried_again(tmp_path: Path, verb: str) -> None:
    with serving(tmp_path, settings=REJECT) as service:
        start = {name: a_call()[name] for name in ("provider", "model", "type", "started_at")}
        assert service.post(f"{CALLS}/c-1/start", start).status_code == 201
        refused = service.post(f"{CALLS}/c-1/{verb}", {"usage": TOKENS})
        assert (refused.status_code, refused.json()["code"]) == (400, "no_price")
        assert service.get(f"{CALLS}/c-1").json()["status"] == "processing"
        set_rates(service.ledger, rate(**PRICES))
        assert service.post(f"{CALLS}/c-1/{verb}", {"usage": TOKENS}).json()["cost"] == COST


@pytest.mark.parametrize(("status", "cost"), [("failed", "0"), ("success", COST)])
def test_failed_calls_may_be_free(tmp_path: Path, status: FinalStatus, cost: str) -> None:
    with serving(tmp_path, settings=CHARGE_NO_FAILURES) as service:
        set_rates(service.ledger, rate(**PRICES))
        assert service.post(CALLS, a_call(status=status)).json()["cost"] == cost
        start = {name: a_call()[name] for name in ("provider", "model", "type", "started_at")}
        service.post(f"{CALLS}/c-2/start", start)
        verb = "complete" if status == "success" else "fail"
        assert service.post(f"{CALLS}/c-2/{verb}", {"usage": TOKENS}).json()["cost"] == cost


def test_the_policies_are_settings(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, unpriced_calls="reject", failed_calls="free")
    assert (
        rating_policy(settings)
        == api_settings(settings).rating_policy
        == RatingPolicy(unpriced="reject", failed="free")
    )
    assert rating_policy(settings_of(tmp_path)) == RatingPolicy()


def test_an_import_keeps_to_the_policy(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.0000000,1,7\n")
    options = ("--app", "ide", "--provider", "azure", "--model", "gpt-4", "--data-dir", str(tmp_path / "data"))
    refused = run("import", "azure-llm-trace", trace, *options, env={"USAGE_LEDGER_UNPRICED_CALLS": "reject"})
    assert refused.exit_code == 1
    assert "[no_price]" in refused.stderr
    assert run("import", "azure-llm-trace", trace, *options).exit_code == 0


# Who sees what the vendor asks


def amounts(answer: Any, *names: str) -> list[Any]:  # noqa: ANN401 - any JSON
    """The values under these names, anywhere in an answer."""
    if isinstance(answer, list):
        return [found for part in cast("list[Any]", answer) for found in amounts(part, *names)]
    if not isinstance(answer, dict):
        return []
    fields = cast("Json", answer)
    own = [value for name, value in fields.items() if name in names]
    return own + [found for part in fields.values() for found in amounts(part, *names)]


def test_an_app_does_not_see_what_the_vendor_asks(service: Service) -> None:
    """Neither cost nor margin, in any answer that has them; those who run the ledger see both."""
    set_rates(service.ledger, rate(**PRICES, vendor={"input": "0.000001", "output": "0.000001"}))
    service.post(CALLS, a_call())
    for path in (CALLS, f"{CALLS}/c-1", "/v1/model-call-stats?group_by=model", "/v1/usage-logs"):
        assert set(amounts(service.get(path, APP).json(), "vendor_cost", "margin")) == {None}
        for caller in ("admin", "auditor", "dashboard"):
            assert "0.000418" in amounts(service.get(path, caller).json(), "vendor_cost")
    estimated = a_call(started_at=at(NOW_US))
    assert service.post("/v1/estimate", estimated).json()["vendor_cost"] is None
    assert service.post("/v1/estimate", estimated, "dashboard").json()["vendor_cost"] == "0.000418"
