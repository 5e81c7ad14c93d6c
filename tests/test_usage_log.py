"""Usage logs over HTTP: finished calls as lines of a bill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import reads
from projections import model_call_list
from schema.model_call_query import CallFilter
from tests.rates import rate, set_rates
from tests.serving import APP, CALLS, NOW_US, OTHER_APP, Json, Service, a_call, at, reading, serving

LOGS = "/v1/usage-logs"
PRICES: Json = {"input": "0.00000125", "output": "0.00001", "vendor": {"input": "0.000001", "output": "0.000008"}}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def items(service: Service, query: str = "", caller: str = "admin") -> list[Json]:
    response = service.get(f"{LOGS}{query}", caller)
    assert response.status_code == 200, response.text
    return response.json()["items"]


def test_a_line_has_what_was_used_and_what_it_cost(service: Service) -> None:
    set_rates(service.ledger, rate(**PRICES))
    metadata = {"conversation_id": "conv-7", "message_id": 12, "feature": "search"}
    usage = {"input_tokens": 1001, "output_tokens": 44, "images": 2, "seconds": "1.50"}
    service.post(CALLS, a_call(usage=usage, metadata=metadata, request_id="req-1"))
    assert items(service) == [
        {
            "id": "c-1", "app": APP, "user_id": "u-1", "provider": "openai", "model": "gpt-4o", "request_type": "chat",
            "type": "chat_completion", "status": "success", "input_tokens": 1001, "output_tokens": 44,
            "total_tokens": 1045, "images": 2, "seconds": "1.5", "input_cost": "0.00125125", "output_cost": "0.00044",
            "total_cost": "0.00169125", "vendor_cost": "0.001353", "margin": "0.00033825", "cost_status": "priced",
            "cost_reason": "partly_unpriced", "request_id": "req-1", "conversation_id": "conv-7", "message_id": None,
            "started_at": "2026-11-22T10:00:00.123456Z", "recorded_at": at(NOW_US), "position": service.position(),
            "revision": 0,
        }
    ]  # fmt: skip


def test_the_parts_add_up_to_the_total_also_where_each_would_round_up(service: Service) -> None:
    """Only the total is rounded; output is what is left of it."""
    set_rates(service.ledger, rate(input="0.00000000005", output="0.00000000005"))
    service.post(CALLS, a_call(usage={"input_tokens": 1, "output_tokens": 1}))
    [line] = items(service)
    assert (line["input_cost"], line["output_cost"], line["total_cost"]) == ("0.0000000001", "0", "0.0000000001")


def test_what_has_no_price_has_no_numbers(service: Service) -> None:
    """Null, never 0; a margin needs both a cost and a vendor's."""
    service.post(CALLS, a_call("c-1"))
    set_rates(service.ledger, rate(input="1"))
    service.post(CALLS, a_call("c-2"))
    priced, unpriced = items(service)
    costs = ("input_cost", "output_cost", "total_cost", "vendor_cost", "margin")
    assert [unpriced[name] for name in costs] == [None] * 5
    assert (unpriced["cost_status"], unpriced["cost_reason"]) == ("unpriced", "no_price")
    assert [priced[name] for name in costs] == ["374", "0", "374", None, None]


def test_a_sale_below_the_vendors_price_has_a_negative_margin(service: Service) -> None:
    set_rates(service.ledger, rate(input="0.1", output="0", vendor={"input": "0.25"}))
    service.post(CALLS, a_call(usage={"input_tokens": 1}))
    assert items(service)[0]["margin"] == "-0.15"


@pytest.mark.parametrize(
    ("type_", "shown"),
    [
        ("chat_completion", "chat"),
        ("embedding", "embedding"),
        ("image_generation", "image"),
        ("audio_generation", "audio"),
        ("video", "video"),
        ("custom", "custom"),
    ],
)
def test_types_have_their_short_names(service: Service, type_: str, shown: str) -> None:
    service.post(CALLS, a_call(type=type_))
    assert [(line["type"], line["request_type"]) for line in items(service)] == [(type_, shown)]


def test_only_finished_calls_are_in_it(service: Service) -> None:
    """What processes is left out; what failed or timed out is there, as statistics count it."""
    start = {name: a_call()[name] for name in ("provider", "model", "type", "started_at")}
    service.post(f"{CALLS}/c-1/start", start)
    service.post(CALLS, a_call("c-2", status="failed"))
    assert [line["id"] for line in items(service)] == ["c-2"]
    assert items(service, "?status=processing") == []
    service.post(f"{CALLS}/c-1/fail", {})
    assert {line["id"] for line in items(service)} == {"c-1", "c-2"}


def test_filters_cursors_and_roles_are_those_of_calls(service: Service) -> None:
    calls = [a_call(f"c-{n}", started_at=at(NOW_US - n), model=f"m-{n % 2}") for n in range(10)]
    service.post(CALLS, calls)
    service.post(CALLS, a_call("theirs"), OTHER_APP)
    assert {line["app"] for line in items(service, caller=APP)} == {APP}
    assert service.get(f"{LOGS}?app={OTHER_APP}", APP).status_code == 403
    assert len(items(service, "?model=m-1")) == 5
    assert [line["id"] for line in items(service, f"?from={at(NOW_US - 1)}")] == ["c-0", "c-1"]
    assert service.get(f"{LOGS}?modle=m-1").status_code == 400
    found: list[str] = []
    cursor = ""
    while True:
        page = service.get(f"{LOGS}?limit=3{cursor}", APP).json()
        found += [line["id"] for line in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [f"c-{n}" for n in range(10)]


def test_a_page_looks_at_a_bounded_number_of_calls(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many calls that process do not make a page scan them all: it is short, and goes on."""
    monkeypatch.setattr(model_call_list, "SCAN_ROWS_MAX", 3)
    service.post(CALLS, a_call("oldest", started_at=at(NOW_US - 100)))
    for n in range(5):
        start = {"provider": "openai", "model": "gpt-4o", "type": "chat_completion", "started_at": at(NOW_US - n)}
        service.post(f"{CALLS}/c-{n}/start", start)
    with reading(service.ledger) as db:
        first = reads.usage_logs(db, CallFilter(), None, 10)
        assert (first.items, first.next_cursor is None) == ([], False)
        assert [line.id for line in reads.usage_logs(db, CallFilter(), first.next_cursor, 10).items] == ["oldest"]
