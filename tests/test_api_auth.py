"""Who may do what: every route by every role, and keys that are known only by their digest."""

import hmac
import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
from litestar import Litestar, get
from litestar.routes import HTTPRoute

import api.auth
from api.app import create_app
from api.settings import ApiSettings
from ledger.ledger import Ledger
from schema.key import CreateKey, KeyCreated
from tests.serving import (
    APP,
    CALLERS,
    CALLS,
    NOW_US,
    OTHER_APP,
    Clock,
    Json,
    Service,
    a_call,
    bearer,
    captured_log,
    key_text,
    require,
    serving,
)  # fmt: skip

ROLES = ("admin", "auditor", "dashboard", "app")
ALL = frozenset(ROLES)
ADMINS = frozenset({"admin"})
AUDITORS = frozenset({"admin", "auditor"})
OPERATORS = ALL - {"app"}
POSTERS = frozenset({"admin", "app"})
ANYONE = frozenset({*ROLES, "nobody"})

# The public surface and who may use it; a route that is missing here fails a test.
MATRIX: dict[tuple[str, str], frozenset[str]] = {
    ("POST", "/v1/model-calls"): POSTERS,
    ("POST", "/v1/model-calls/{call_id}/start"): POSTERS,
    ("POST", "/v1/model-calls/{call_id}/complete"): POSTERS,
    ("POST", "/v1/model-calls/{call_id}/fail"): POSTERS,
    ("GET", "/v1/model-calls"): ALL,
    ("GET", "/v1/model-calls/{call_id}"): ALL,
    ("GET", "/v1/model-calls/{call_id}/events"): ALL - {"dashboard"},
    ("GET", "/v1/model-call-stats"): ALL,
    ("POST", "/v1/model-calls/{call_id}/corrections"): POSTERS,
    ("POST", "/v1/rerates"): ADMINS,
    ("GET", "/v1/rerates"): OPERATORS,
    ("GET", "/v1/rerates/{rerate_id}"): OPERATORS,
    ("POST", "/v1/rerates/{rerate_id}/revert"): ADMINS,
    ("POST", "/v1/model-rates"): ADMINS,
    ("POST", "/v1/model-rates/reprice"): ADMINS,
    ("POST", "/v1/model-rates/{rate_id}/deprecate"): ADMINS,
    ("GET", "/v1/model-rates"): ALL,
    ("GET", "/v1/model-rates/history"): OPERATORS,
    ("GET", "/v1/model-rates/{rate_id}"): ALL,
    ("GET", "/v1/model-prices"): ALL,
    ("POST", "/v1/providers"): ADMINS,
    ("GET", "/v1/providers"): OPERATORS,
    ("GET", "/v1/providers/{provider_id}"): OPERATORS,
    ("PATCH", "/v1/providers/{provider_id}"): ADMINS,
    ("DELETE", "/v1/providers/{provider_id}"): ADMINS,
    ("GET", "/v1/providers/{provider_id}/history"): OPERATORS,
    ("POST", "/v1/providers/{provider_id}/credentials"): ADMINS,
    ("GET", "/v1/providers/{provider_id}/credentials"): OPERATORS,
    ("GET", "/v1/credentials"): OPERATORS,
    ("GET", "/v1/credentials/{credential_id}"): OPERATORS,
    ("PATCH", "/v1/credentials/{credential_id}"): ADMINS,
    ("DELETE", "/v1/credentials/{credential_id}"): ADMINS,
    ("POST", "/v1/credentials/{credential_id}/erase"): ADMINS,
    ("GET", "/v1/credentials/{credential_id}/history"): OPERATORS,
    ("POST", "/v1/credentials/lease"): POSTERS,
    ("POST", "/v1/credentials/{credential_id}/reset"): ADMINS,
    ("GET", "/v1/leases"): frozenset({"admin", "auditor"}),
    ("GET", "/v1/leases/{lease_id}"): ALL - {"dashboard"},
    ("POST", "/v1/leases/{lease_id}/report"): POSTERS,
    ("POST", "/v1/providers/{provider_id}/test"): ADMINS,
    ("POST", "/v1/providers/{provider_id}/models/sync"): ADMINS,
    ("GET", "/v1/providers/{provider_id}/models/sync"): OPERATORS,
    ("GET", "/v1/model-status"): ALL,
    ("POST", "/v1/models"): ADMINS,
    ("GET", "/v1/models"): ALL,
    ("GET", "/v1/model-groups"): ALL,
    ("GET", "/v1/models/{model_id}"): ALL,
    ("PATCH", "/v1/models/{model_id}"): ADMINS,
    ("DELETE", "/v1/models/{model_id}"): ADMINS,
    ("GET", "/v1/models/{model_id}/history"): ALL,
    ("GET", "/v1/price-list"): ALL - {"app"},
    ("POST", "/v1/price-list/sync"): frozenset({"admin"}),
    ("GET", "/v1/usage-logs"): ALL,
    ("POST", "/v1/accounts"): ADMINS,
    ("GET", "/v1/accounts"): ALL,
    ("GET", "/v1/accounts/{account_id}"): ALL,
    ("PATCH", "/v1/accounts/{account_id}"): ADMINS,
    ("GET", "/v1/accounts/{account_id}/history"): OPERATORS,
    ("GET", "/v1/accounts/{account_id}/transactions"): ALL,
    ("GET", "/v1/accounts/{account_id}/forecast"): ALL,
    ("POST", "/v1/accounts/{account_id}/credits"): ADMINS,
    ("POST", "/v1/accounts/{account_id}/holds"): POSTERS,
    ("POST", "/v1/holds/{hold_id}/settle"): POSTERS,
    ("POST", "/v1/holds/{hold_id}/release"): POSTERS,
    ("GET", "/v1/holds/{hold_id}"): ALL,
    ("POST", "/v1/budgets"): ADMINS,
    ("GET", "/v1/budgets"): OPERATORS,
    ("GET", "/v1/budgets/{budget_id}"): OPERATORS,
    ("PATCH", "/v1/budgets/{budget_id}"): ADMINS,
    ("DELETE", "/v1/budgets/{budget_id}"): ADMINS,
    ("GET", "/v1/budgets/{budget_id}/history"): OPERATORS,
    ("POST", "/v1/conversions"): ADMINS,
    ("GET", "/v1/conversions"): ALL,
    ("GET", "/v1/conversions/{currency}"): ALL,
    ("PATCH", "/v1/conversions/{currency}"): ADMINS,
    ("GET", "/v1/conversions/{currency}/history"): OPERATORS,
    ("POST", "/v1/packages"): ADMINS,
    ("GET", "/v1/packages"): ALL,
    ("GET", "/v1/packages/{package_id}"): ALL,
    ("PATCH", "/v1/packages/{package_id}"): ADMINS,
    ("DELETE", "/v1/packages/{package_id}"): ADMINS,
    ("GET", "/v1/packages/{package_id}/history"): OPERATORS,
    ("POST", "/v1/coupons"): ADMINS,
    ("GET", "/v1/coupons"): OPERATORS,
    ("GET", "/v1/coupons/{coupon_id}"): OPERATORS,
    ("PATCH", "/v1/coupons/{coupon_id}"): ADMINS,
    ("DELETE", "/v1/coupons/{coupon_id}"): ADMINS,
    ("GET", "/v1/coupons/{coupon_id}/history"): OPERATORS,
    ("POST", "/v1/accounts/{account_id}/coupon-redemptions"): POSTERS,
    ("POST", "/v1/accounts/{account_id}/orders"): POSTERS,
    ("GET", "/v1/accounts/{account_id}/orders"): ALL,
    ("GET", "/v1/orders"): OPERATORS,
    ("GET", "/v1/orders/{order_id}"): ALL,
    ("POST", "/v1/orders/{order_id}/cancel"): POSTERS,
    ("POST", "/v1/orders/{order_id}/refunds"): ADMINS,
    ("POST", "/v1/payment-clients"): ADMINS,
    ("GET", "/v1/payment-clients"): OPERATORS,
    ("GET", "/v1/payment-clients/{payment_client_id}"): OPERATORS,
    ("PATCH", "/v1/payment-clients/{payment_client_id}"): ADMINS,
    ("DELETE", "/v1/payment-clients/{payment_client_id}"): ADMINS,
    ("GET", "/v1/payment-clients/{payment_client_id}/history"): OPERATORS,
    ("POST", "/v1/payment-callbacks/{payment_client_id}"): ANYONE,
    ("GET", "/v1/payments"): OPERATORS,
    ("GET", "/v1/payments/{payment_id}"): OPERATORS,
    ("POST", "/v1/payments/{payment_id}/resolve"): ADMINS,
    ("GET", "/v1/usage-reports"): AUDITORS,
    ("GET", "/v1/usage-reports/status"): AUDITORS,
    ("GET", "/v1/usage-reports/reconciliation"): AUDITORS,
    ("GET", "/v1/usage-reports/{report_id}"): AUDITORS,
    ("POST", "/v1/usage-reports/{report_id}/retry"): ADMINS,
    ("POST", "/v1/usage-reports/pause"): ADMINS,
    ("POST", "/v1/usage-reports/resume"): ADMINS,
    ("POST", "/v1/webhooks"): ADMINS,
    ("GET", "/v1/webhooks"): AUDITORS,
    ("GET", "/v1/webhooks/{webhook_id}"): AUDITORS,
    ("PATCH", "/v1/webhooks/{webhook_id}"): ADMINS,
    ("DELETE", "/v1/webhooks/{webhook_id}"): ADMINS,
    ("GET", "/v1/webhooks/{webhook_id}/history"): AUDITORS,
    ("POST", "/v1/webhooks/{webhook_id}/replay"): ADMINS,
    ("GET", "/v1/webhooks/{webhook_id}/dead-letters"): AUDITORS,
    ("POST", "/v1/webhooks/{webhook_id}/dead-letters/{event_position}/retry"): ADMINS,
    ("POST", "/v1/estimate"): ALL,
    ("GET", "/v1/events"): frozenset({"admin", "auditor"}),
    ("GET", "/v1/events/stream"): frozenset({"admin", "auditor"}),
    ("GET", "/v1/model-call-errors"): ALL,
    ("GET", "/v1/model-calls.csv"): ALL,
    ("GET", "/v1/model-calls.csv/manifest"): ALL,
    ("GET", "/v1/model-calls.parquet"): ALL,
    ("GET", "/v1/model-calls.parquet/manifest"): ALL,
    ("GET", "/v1/focus.csv"): ALL,
    ("GET", "/v1/focus.csv/manifest"): ALL,
    ("GET", "/v1/focus.parquet"): ALL,
    ("GET", "/v1/focus.parquet/manifest"): ALL,
    ("GET", "/v1/model-call-stats.csv"): ALL,
    ("GET", "/v1/live-calls/stream"): ALL,
    ("POST", "/session"): ANYONE,
    ("GET", "/session"): ANYONE,
    ("DELETE", "/session"): ANYONE,
    ("GET", "/"): ANYONE,
    ("GET", "/assets/{version}/{name}"): ANYONE,
    ("GET", "/health/live"): ANYONE,
    ("GET", "/health/ready"): ANYONE,
    ("GET", "/metrics"): ALL - {"app"},
    ("GET", "/schema"): ALL,
}
# No stream is admitted, so that a test of the stream's door does not stay inside.
SETTINGS = ApiSettings(sweep_interval_s=86_400.0, sse_streams_max=0)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, settings=SETTINGS) as service:
        yield service


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("auth"), settings=SETTINGS) as service:
        yield service


def routes(app: Litestar) -> set[tuple[str, str]]:
    """What the application really answers, the automatic OPTIONS aside."""
    return {
        (str(method), route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS"
    }


def test_the_public_surface_is_the_reviewed_list(tmp_path: Path) -> None:
    """No route comes or goes unnoticed."""
    app = create_app(Ledger(tmp_path), SETTINGS, Clock())
    assert routes(app) == set(MATRIX)
    assert all(isinstance(route, HTTPRoute) for route in app.routes)


@pytest.mark.parametrize(("route", "role"), list(product(MATRIX, (*ROLES, "nobody"))), ids=str)
def test_each_route_lets_in_exactly_its_roles(shared: Service, route: tuple[str, str], role: str) -> None:
    """Whoever is not listed gets 401 without a key and 403 with one; whoever is gets past the door."""
    method, path = route
    caller = None if role == "nobody" else APP if role == "app" else role
    body: Json | None = {} if method in {"POST", "PATCH"} else None
    response = shared.request(method, re.sub(r"\{\w+\}", "c-0", path), caller, json=body)
    if role in MATRIX[route]:
        assert response.status_code not in {401, 403}
    else:
        assert response.status_code == (401 if role == "nobody" else 403)
        assert response.json()["code"] == ("unauthenticated" if role == "nobody" else "forbidden")


def test_a_route_that_names_no_roles_is_closed(service: Service) -> None:
    """Forgetting to say who may come in lets nobody in, not even an admin."""

    @get("/forgotten")
    async def forgotten() -> dict[str, str]:
        return {"secret": "x"}

    cast("Any", service.client).app.register(forgotten)
    for caller in (None, *CALLERS):
        response = service.request("GET", "/forgotten", caller)
        assert response.status_code == 403
        assert "secret" not in response.text


def test_the_frameworks_own_routes_are_closed(shared: Service) -> None:
    """Its documentation pages and its answers to OPTIONS tell nothing to who has no key."""
    for path in ("/openapi-internal", "/openapi-internal/openapi.json", "/schema/openapi.json", "/schema/swagger"):
        assert shared.request("GET", path, None).status_code in {401, 403, 404}
    assert shared.request("OPTIONS", CALLS, None).status_code == 403


MALFORMED = (
    "", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer{key}", "Bearer {key}x", "Bearer x{key}", "Bearer {half}",
    "Bearer {key},{key}", "Bearer {key} {key}", "Token {key}", "Bearer ulk__", "Bearer ulk_admin_", "Bearer ulk_admin",
    "Bearer ULK_admin_{secret}", "Bearer ulk_shop_{secret}", "Bearer _admin_{secret}", "Bearer ulk_%_{secret}",
    "Bearer ulk_admin_{digest}", "Bearer ulk_' OR 1=1 --_x", "Bearer " + "a" * 10_000, "Bearer ulk_" + "_" * 100,
    "Bearer ulk_admin_\u00e9",
)  # fmt: skip


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_authorization_is_nobody(shared: Service, header: str) -> None:
    """401, whatever is wrong with it, and never more."""
    key = key_text("admin")
    text = header.format(key=key, half=key[:-1], secret=key.rpartition("_")[2], digest=sha256(key.encode()).hexdigest())
    response = shared.request("GET", CALLS, None, headers={"Authorization": text.encode("latin-1")})
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


def test_the_scheme_is_case_insensitive(shared: Service) -> None:
    """As HTTP has it."""
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {key_text('admin')}"}
        assert shared.request("GET", CALLS, None, headers=headers).status_code == 200


def test_a_revoked_key_fails_at_the_next_request_in_every_worker(tmp_path: Path) -> None:
    """Also in a process that has just let it in; other keys go on, and a made key works at once everywhere."""
    with serving(tmp_path, settings=SETTINGS) as one, serving(tmp_path, settings=SETTINGS) as two:
        for worker in (one, two):
            assert worker.get(CALLS, APP).status_code == 200
        one.revoke(APP)
        for worker in (one, two):
            assert worker.get(CALLS, APP).status_code == 401
            assert worker.post(CALLS, a_call()).status_code == 401
            assert worker.get(CALLS, OTHER_APP).status_code == 200
        _add_key(two, "late", role="dashboard")
        assert one.get(CALLS, "late").status_code == 200


def _add_key(service: Service, name: str, **fields: Any) -> None:  # noqa: ANN401 - a key's fields
    key = KeyCreated(id=name, sha256=sha256(key_text(name).encode()).hexdigest(), **fields)
    require(service.ledger.execute_now([CreateKey("test", NOW_US, key)]))


def test_an_app_key_without_an_app_reads_nothing(service: Service) -> None:
    """Belonging to no app must not mean seeing them all."""
    _add_key(service, "stray", role="app")
    service.post(CALLS, a_call())
    for path in (CALLS, f"{CALLS}/c-1", f"{CALLS}/c-1/events", "/v1/model-call-stats", "/v1/usage-logs"):
        assert service.get(path, "stray").status_code == 403
    assert service.post(CALLS, a_call(app=APP), "stray").status_code == 403
    assert service.post(CALLS, a_call(), "stray").status_code == 403


def test_keys_are_compared_in_constant_time(shared: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of equal length, also where there is no such key, so that time tells nothing about ids."""
    compared: list[tuple[str, str]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    class Spy:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(api.auth, "hmac", Spy)
    assert shared.get(CALLS, "admin").status_code == 200
    assert shared.request("GET", CALLS, None, headers=bearer("nobody-at-all")).status_code == 401
    assert len(compared) == 2
    assert all(len(a) == len(b) == 64 for a, b in compared)
    assert compared[0][0] == compared[0][1]


def test_readiness_tells_details_to_operators_only(shared: Service) -> None:
    """Anyone learns whether it is ready; positions and hashes need a key that may see them."""
    for caller in (None, APP):
        assert shared.request("GET", "/health/ready", caller).json() == {"status": "ready"}
    headers = {"Authorization": "Bearer nonsense"}
    assert shared.request("GET", "/health/ready", None, headers=headers).json() == {"status": "ready"}
    for caller in ("admin", "auditor", "dashboard"):
        details = shared.get("/health/ready", caller).json()["details"]
        assert details["position"] == shared.position()
        assert all(projection["lag"] == 0 and projection["state_hash"] for projection in details["projections"])


def test_a_key_is_nowhere_but_with_its_owner(tmp_path: Path) -> None:
    """Its text is in no answer, no log line and no file; the ledger has its SHA-256."""
    with captured_log("json") as log, serving(tmp_path, settings=SETTINGS) as service:
        answers = [service.get(path.replace("{call_id}", "c-1")).text for method, path in MATRIX if method == "GET"]
        answers += [service.post(CALLS, a_call(), caller).text for caller in CALLERS]
        answers += [service.request("GET", f"/{key_text('admin')}x", None, headers=bearer("admin")).text]
        keys = [key_text(name) for name in CALLERS]
        assert [key for key in keys if any(f'"{key}"' in answer or f" {key}" in answer for answer in answers)] == []
        assert [key for key in keys if key in log()] == []
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert [key for key in keys if key.encode() in content or key.rpartition("_")[2].encode() in content] == []
    assert all(sha256(key.encode()).hexdigest().encode() in content for key in keys)
