"""Prometheus metrics: counters that count, and never more of them than there are routes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import APP, CALLS, Service, a_call, serving


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def samples(service: Service) -> dict[tuple[str, ...], float]:
    """Each sample's name and label values, and its value."""
    text = service.get("/metrics").text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def responses(service: Service, method: str, route: str, status: int) -> float:
    key = ("usage_ledger_http_responses_total", method, route, str(status))
    return samples(service).get(key, 0)


def test_the_format_is_that_of_prometheus(service: Service) -> None:
    """Its content type, its types and a help text for every family."""
    response = service.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(response.text))
    assert len(families) > 8
    assert all(family.documentation and family.type in {"counter", "gauge"} for family in families)
    assert all(family.name.startswith("usage_ledger_") for family in families)


def test_the_ledgers_numbers_are_there(service: Service) -> None:
    """Position, events, lag of each projection, what waits, and the sizes of the files."""
    before = samples(service)
    service.post(CALLS, [a_call(f"c-{n}") for n in range(7)])
    after = samples(service)
    assert after["usage_ledger_position",] == service.position()
    for name in ("usage_ledger_writer_events_total", "usage_ledger_writer_commands_total", "usage_ledger_position"):
        assert after[name,] - before[name,] == 7
    assert after["usage_ledger_writer_groups_total",] - before["usage_ledger_writer_groups_total",] >= 1
    lags = {key: value for key, value in after.items() if key[0] == "usage_ledger_projection_lag_events"}
    assert {key[1] for key in lags} >= {"keys", "model_calls", "model_call_stats", "names"}
    assert set(lags.values()) == {0}
    assert after["usage_ledger_queue_commands",] == after["usage_ledger_queue_bytes",] == 0
    assert after["usage_ledger_database_bytes",] > 0
    assert after["usage_ledger_wal_bytes",] > 0


def test_answers_are_counted_by_method_route_and_status(service: Service) -> None:
    """Refusals too; the route stands for all its ids."""
    route = f"{CALLS}/{{call_id}}"
    before = [responses(service, "GET", route, status) for status in (200, 404)]
    posted = responses(service, "POST", CALLS, 201)
    refused = responses(service, "GET", "/v1/events", 403), responses(service, "GET", "/v1/events", 401)
    service.post(CALLS, a_call())
    service.get(f"{CALLS}/c-1")
    for n in range(3):
        service.get(f"{CALLS}/none-{n}")
    service.get("/v1/events", APP)
    service.request("GET", "/v1/events", None)
    assert [responses(service, "GET", route, status) for status in (200, 404)] == [before[0] + 1, before[1] + 3]
    assert responses(service, "POST", CALLS, 201) == posted + 1
    assert responses(service, "GET", "/v1/events", 403) == refused[0] + 1
    assert responses(service, "GET", "/v1/events", 401) == refused[1] + 1


def test_strangers_cannot_add_series(service: Service) -> None:
    """Made-up methods and paths, which need no key, do not each become a series of their own."""
    service.get(CALLS)
    before = len(samples(service))
    for n in range(20):
        service.request(f"BREW{n}", CALLS, None)
        service.request(f"BREW{n}", f"/made/up/{n}", None)
        service.request("GET", f"/made/up/{n}", None)
    assert len(samples(service)) <= before + 3


def test_nothing_of_the_calls_is_in_the_metrics(service: Service) -> None:
    """No id, user, app or model: metrics are for operators, and labels are for ever."""
    service.post(CALLS, a_call("secret-id", user_id="secret-user", model="secret-model"))
    service.get(f"{CALLS}/secret-id?app={APP}")
    assert "secret" not in service.get("/metrics").text
    assert APP not in service.get("/metrics").text
