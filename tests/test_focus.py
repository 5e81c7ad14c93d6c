"""Costs in FOCUS's columns: one charge a finished call, exact, whole, and the same by its manifest."""

import csv
import io
import json
from hashlib import sha256
from pathlib import Path

from schema.focus import COLUMNS
from schema.money import parse_scaled
from tests.serving import APP, CALLS, OTHER_APP, Service, a_call, serving

FILE, MANIFEST = "/v1/focus.csv", "/v1/focus.csv/manifest"
RATE = {"id": "r", "provider": "openai", "model": "gpt-4o", "input": "0.0000025", "output": "0.00001",
        "effective_from": "2020-01-01T00:00:00Z", "vendor": {"input": "0.000001"}}  # fmt: skip
# What FOCUS 1.2 wants in every file of costs, whoever makes it.
MANDATORY = {
    "BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "BillingCurrency", "BillingAccountId",
    "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ChargeClass",
    "ChargeDescription", "InvoiceIssuerName", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName",
}  # fmt: skip


def rows(service: Service, more: str = "", caller: str = "admin") -> dict[str, dict[str, str]]:
    text = service.get(f"{FILE}{more}", caller).text
    return {row["x_CallId"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}


def filled(service: Service) -> None:
    service.post("/v1/model-rates", RATE, "admin")
    service.post(CALLS, [
        a_call("tokens", metadata={"feature": "search", "n": 1}, credential_id="k-1"),
        a_call("pictures", model="draw", usage={"images": 2}, started_at="2026-11-01T00:00:00Z"),
        a_call("sound", model="hear", usage={"seconds": "7.25"}, duration_ms=None),
        a_call("failed", model="mute", usage=None, status="failed", started_at="2025-12-31T23:59:59.9999Z"),
        a_call("void"),
    ])  # fmt: skip
    service.post(CALLS, a_call("other"), OTHER_APP)
    service.post(f"{CALLS}/void/corrections", {"id": "v", "reason": "twice", "void": True})
    started = {name: value for name, value in a_call("late").items() if name not in {"status", "usage"}}
    for name in ("duration_ms", "ttfb_ms", "id"):
        started.pop(name)
    assert service.post(f"{CALLS}/late/start", started).status_code == 201


def test_a_finished_call_is_a_charge(tmp_path: Path) -> None:
    """With its cost to the last digit, whose and where; what is under way or void is none."""
    with serving(tmp_path) as service:
        filled(service)
        found = rows(service)
        calls = {call["id"]: call for call in service.get(f"{CALLS}?limit=100").json()["items"]}
        assert set(found) == {"tokens", "pictures", "sound", "failed", "other"}
        assert MANDATORY <= set(COLUMNS) == set(found["tokens"])
        one = found["tokens"]
        assert one["BilledCost"] == one["EffectiveCost"] == one["ListCost"] == calls["tokens"]["cost"] == "0.001375"
        assert (one["x_VendorCost"], one["x_CostStatus"]) == (calls["tokens"]["vendor_cost"], "priced")
        assert (one["SubAccountId"], one["ProviderName"], one["ResourceId"]) == (APP, "openai", "openai/gpt-4o")
        assert (one["ConsumedQuantity"], one["ConsumedUnit"]) == ("418", "Tokens")
        assert json.loads(one["Tags"]) == {"feature": "search", "user_id": "u-1", "credential_id": "k-1"}
        assert (found["pictures"]["ConsumedQuantity"], found["pictures"]["ConsumedUnit"]) == ("2", "Images")
        assert (found["sound"]["ConsumedQuantity"], found["sound"]["ConsumedUnit"]) == ("7.25", "Seconds")
        assert (found["failed"]["ConsumedQuantity"], found["failed"]["ConsumedUnit"]) == ("1", "Requests")
        assert (found["pictures"]["BilledCost"], found["pictures"]["x_CostReason"]) == ("0", "no_price")


def test_periods_are_half_open(tmp_path: Path) -> None:
    """A charge ends after it begins, in the month that it begins in, the last of a year too."""
    with serving(tmp_path) as service:
        filled(service)
        found = rows(service)
        assert all(row["ChargePeriodStart"] < row["ChargePeriodEnd"] for row in found.values())
        assert all(
            row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["BillingPeriodEnd"] for row in found.values()
        )
        last = found["failed"]
        assert (last["BillingPeriodStart"], last["BillingPeriodEnd"]) == (
            "2025-12-01T00:00:00.000000Z", "2026-01-01T00:00:00.000000Z",
        )  # fmt: skip
        assert found["sound"]["ChargePeriodEnd"] == "2026-11-22T10:00:00.124456Z"


def test_the_manifest_is_of_the_file(tmp_path: Path) -> None:
    """Its sum is that of the rows and of the statistics of the same filter; an app's own knows no vendor's cost."""
    with serving(tmp_path) as service:
        filled(service)
        for caller in ("admin", APP):
            answer = service.get(f"{FILE}?currency=EUR", caller)
            position = answer.headers["export-position"]
            manifest = service.get(f"{MANIFEST}?currency=EUR&as_of={position}", caller).json()
            assert (manifest["sha256"], manifest["bytes"]) == (sha256(answer.content).hexdigest(), len(answer.content))
            found = rows(service, "?currency=EUR", caller)
            assert manifest["rows"] == len(found) == (5 if caller == "admin" else 4)
            total = sum(parse_scaled(row["BilledCost"], 10) for row in found.values())
            stats = service.get("/v1/model-call-stats", caller).json()["totals"]["cost"]
            assert parse_scaled(manifest["totals"]["cost"], 10) == total == parse_scaled(stats, 10) > 0
            assert {row["BillingCurrency"] for row in found.values()} == {"EUR"}
        assert {row["x_VendorCost"] for row in found.values()} == {""}
        assert {row["BillingCurrency"] for row in rows(service).values()} == {"Credits"}
        assert service.get(f"{FILE}?currency=credits").status_code == 400
