"""Estimates over HTTP: what a post would be charged, with the parts of it, and nothing stored."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from api.settings import ApiSettings
from schema.model_call import RatingPolicy
from tests.rates import rate, set_rates
from tests.serving import APP, CALLS, NOW, Json, Service, a_call, serving

ESTIMATE = "/v1/estimate"
PRICES: Json = {"input": "0.00000125", "output": "0.00001", "cache_read": "0.000000125", "cache_write": "0.0000015625"}
VECTOR: Json = {"input_tokens": 3334, "output_tokens": 567, "cache_read_tokens": 2000, "cache_write_tokens": 100}
REJECT = ApiSettings(sweep_interval_s=86_400.0, rating_policy=RatingPolicy(unpriced="reject"))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def asked(**fields: object) -> Json:
    """A call without what an estimate does not need."""
    return {"provider": "openai", "model": "gpt-4o", "type": "chat_completion", "usage": VECTOR, **fields}


def lines_of(answer: Json) -> dict[str, tuple[str, str, str]]:
    return {line["unit"]: (line["quantity"], line["rate"], line["amount"]) for line in answer["lines"]}


def test_an_estimate_shows_what_the_cost_is_made_of(service: Service) -> None:
    """Every part once, in the most specific unit that has a price, exact and without an exponent."""
    set_rates(service.ledger, rate("gpt-4o-2026", **PRICES, vendor={"input": "0.000001"}))
    before = service.position()
    response = service.post(ESTIMATE, asked(), "admin")
    assert response.status_code == 200
    answer = response.json()
    assert lines_of(answer) == {
        "cache_read_tokens": ("2000", "0.000000125", "0.00025"),
        "cache_write_tokens": ("100", "0.0000015625", "0.00015625"),
        "input_tokens": ("1234", "0.00000125", "0.0015425"),
        "output_tokens": ("567", "0.00001", "0.00567"),
    }
    del answer["lines"]
    assert answer == {
        "cost": "0.00761875", "input_cost": "0.00194875", "vendor_cost": "0.003334", "cost_status": "priced",
        "cost_reason": None, "rate_id": "gpt-4o-2026", "rate_position": before,
    }  # fmt: skip
    assert service.position() == before


def test_seconds_have_six_decimals_and_an_amount_has_eighteen(service: Service) -> None:
    set_rates(service.ledger, rate(billing="second", per_second="0.000000000001"))
    answer = service.post(ESTIMATE, asked(usage={"seconds": "999999.000001"})).json()
    assert lines_of(answer) == {"seconds": ("999999.000001", "0.000000000001", "0.000000999999000001")}
    assert answer["cost"] == "0.000001"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"usage": {**VECTOR, "estimated": True}},
        {"usage": {**VECTOR, "images": 2}},
        {"usage": None},
        {"status": "failed"},
        {"status": "failed", "usage": None},
        {"model": "unknown"},
        {"model": "free"},
        {"model": "by-call", "usage": None},
        {"usage": {**VECTOR, "units": {"input_audio_tokens": 3335}}},
        {"usage": {"input_tokens": 200_001}},
        {"price_context": {"service_tier": "flex"}},
        {"started_at": "2019-12-31T23:59:59Z"},
    ],
)
def test_an_estimate_is_what_a_post_is_charged(service: Service, fields: Json) -> None:
    """The same cost, status and reason; where lines make up a cost, they add up to it."""
    tiers = [{"above": 200_000, "input": "0.0000025"}]
    variants = [{"when": {"service_tier": "flex"}, "input": "0.000000625"}]
    set_rates(
        service.ledger,
        rate("r-1", **PRICES, lines={"input_audio_tokens": "0.1"}, tiers=tiers, variants=variants),
        rate("r-2", model="free", input="0", output="0"),
        rate("r-3", model="by-call", billing="call", per_call="0.01"),
    )
    answer = service.post(ESTIMATE, asked(**fields)).json()
    receipt = service.post(CALLS, a_call(**{"started_at": NOW, **asked(**fields)})).json()
    names = ("cost", "cost_status", "cost_reason")
    assert [answer[name] for name in names] == [receipt[name] for name in names]
    assert answer["rate_position"] == service.get(f"{CALLS}/c-1").json()["rate_position"]
    if answer["lines"]:
        exact = sum(Fraction(line["amount"]) for line in answer["lines"])
        assert Fraction(answer["cost"]) == Fraction(int(exact * 10**10 + Fraction(1, 2)), 10**10)
        assert all(Fraction(q) * Fraction(r) == Fraction(a) for q, r, a in lines_of(answer).values())
    else:
        assert answer["cost"] in {None, "0"}


def test_an_estimate_sees_a_rate_as_soon_as_it_is_set(service: Service) -> None:
    assert service.post(ESTIMATE, asked()).json()["cost_reason"] == "no_price"
    for n in (1, 2, 3):
        set_rates(service.ledger, rate(f"r-{n}", per_call=str(n)))
        assert service.post(ESTIMATE, asked()).json()["rate_id"] == f"r-{n}"


def test_estimates_and_new_rates_at_once_do_not_disturb_each_other(service: Service) -> None:
    """Readers share a book of rates: each answer is of one rate, and the rates only go up."""

    def ask(_: int) -> str | None:
        return service.post(ESTIMATE, asked(model="m-0", usage={"input_tokens": 1})).json()["cost"]

    set_rates(service.ledger, rate("first", model="m-0", input="1"))
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(ask, range(100))
        for n in range(2, 30):
            set_rates(
                service.ledger, rate(f"r-{n}", model="m-0", input=str(n)), rate(f"x-{n}", model=f"m-{n}", input="1")
            )
        assert {int(cost or 0) for cost in answers} <= set(range(1, 30))
    assert ask(0) == "29"


def test_every_role_may_ask_and_an_app_only_for_itself(service: Service) -> None:
    for caller in ("admin", "auditor", "dashboard", APP):
        assert service.post(ESTIMATE, asked(), caller).status_code == 200
    assert service.post(ESTIMATE, asked(app="other")).status_code == 403
    assert service.request("POST", ESTIMATE, None, json=asked()).status_code == 401


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"usage": {"input_tokens": -1}}, "$.usage.input_tokens"),
        ({"usage": {"input_tokens": 1, "cache_read_tokens": 2}}, "$.usage.input_tokens"),
        ({"usage": {"units": {"wishes": 1}}}, "$.usage.units.wishes"),
        ({"started_at": "2026-11-24T12:00:00Z"}, "$.started_at"),
        ({"status": "processing"}, "$.status"),
        ({"cost": "0"}, "$"),
    ],
)
def test_what_could_not_be_posted_is_not_estimated(service: Service, fields: Json, place: str) -> None:
    response = service.post(ESTIMATE, asked(**fields))
    assert response.status_code == 400
    assert [error["path"] for error in response.json()["errors"]] == [place]


def test_a_ledger_that_takes_only_priced_calls_says_so_beforehand(tmp_path: Path) -> None:
    with serving(tmp_path, settings=REJECT) as service:
        response = service.post(ESTIMATE, asked())
        assert (response.status_code, response.json()["code"]) == (400, "no_price")
        set_rates(service.ledger, rate(**PRICES))
        assert service.post(ESTIMATE, asked()).json()["cost"] == "0.00761875"
