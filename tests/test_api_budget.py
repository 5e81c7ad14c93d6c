"""Budgets over HTTP: rules and sums, declines that say what is missing, alerts, metrics."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ops.verify import verify
from tests.serving import APP, CALLS, OTHER_APP, Json, Service, a_call, a_keyring, serving
from tests.test_api_account import credit, hold, make, priced
from tests.test_api_lease import lease, with_credentials
from tests.test_metrics import samples

BUDGETS = "/v1/budgets"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, keyring=a_keyring()) as service:
        yield service


def budget(service: Service, amount: str = "10", id_: str = "b-1", **fields: object) -> httpx.Response:
    body = {"id": id_, "scope": {"kind": "app", "id": APP}, "amount": amount, "period": "day", **fields}
    return service.post(BUDGETS, body, "admin")


def spend(service: Service, id_: str, tokens: int, **fields: object) -> None:
    usage = {"input_tokens": tokens, "output_tokens": 0}
    assert service.post(CALLS, a_call(id_, usage=usage, **fields)).status_code == 201


def events(service: Service, type_: str) -> list[Json]:
    lines = service.get("/v1/events", "admin", params={"type": type_}).text.splitlines()
    return [httpx.Response(200, text=line).json() for line in lines]


def test_a_budget_is_made_read_changed_and_retired(service: Service) -> None:
    """Idempotent by its id, changed under a condition, each change in its history, sums as they are now."""
    priced(service)
    spend(service, "c-1", 300)
    first = budget(service, thresholds=[90], name="Shop", timezone="Europe/Berlin")
    assert (first.status_code, first.json()["spent"], first.json()["remaining"]) == (201, "3", "7")
    assert (first.json()["period_start"], first.json()["counts_from"]) == ("2026-11-21T23:00:00.000000Z",) * 2
    again = budget(service, "10.0", thresholds=[90], name="Shop", timezone="Europe/Berlin")
    assert (again.status_code, again.json()) == (200, first.json())
    other = budget(service, "11", thresholds=[90], name="Shop", timezone="Europe/Berlin")
    assert (other.status_code, other.json()["errors"][0]["path"]) == (409, "$.amount")
    path, tag = f"{BUDGETS}/b-1", first.headers["ETag"]
    assert service.request("PATCH", path, "admin", json={"amount": "3"}).status_code == 428
    changed = service.request("PATCH", path, "admin", json={"amount": "3"}, headers={"If-Match": tag})
    assert (changed.status_code, changed.json()["amount"]) == (200, "3")
    assert service.request("PATCH", path, "admin", json={"amount": "4"}, headers={"If-Match": tag}).status_code == 412
    found = service.get(path, "dashboard").json()
    assert [each["threshold"] for each in found["crossed"]] == [90]
    (told,) = events(service, "budget.crossed.v1")
    assert (int(told["sequence"]), told["data"]["spent"]) == (found["crossed"][0]["position"], "3")
    now = {"If-Match": service.get(path, "admin").headers["ETag"]}
    retired = service.request("DELETE", path, "admin", params={"reason": "over"}, headers=now)
    assert (retired.status_code, retired.json()["retired"]) == (200, True)
    assert budget(service, thresholds=[90], name="Shop", timezone="Europe/Berlin").status_code == 200
    history: list[Json] = []
    cursor: str | None = None
    while cursor is not None or not history:
        params: Json = {"limit": 1} if cursor is None else {"limit": 1, "cursor": cursor}
        page = service.get(f"{path}/history", "auditor", params=params).json()
        history, cursor = history + page["items"], page["next_cursor"]
    assert [item["type"] for item in history] == ["budget.created.v1", "budget.changed.v1", "budget.retired.v1"]
    assert history[1]["changes"] == [{"field": "amount", "before": "10", "after": "3"}]
    assert (history[2]["actor"], history[2]["reason"]) == ("key:admin", "over")


def test_budgets_are_listed_by_id_and_filter(service: Service) -> None:
    """Retired ones when asked for; a cursor goes on under inserts."""
    for n in range(5):
        budget(service, id_=f"b-{n}", enforcement="hard" if n == 3 else "soft")
    budget(service, id_="u", scope={"kind": "user", "id": "ann", "app": APP})
    page = service.get(BUDGETS, "auditor", params={"limit": 2}).json()
    assert [item["id"] for item in page["items"]] == ["b-0", "b-1"]
    budget(service, id_="a-0")
    rest = service.get(BUDGETS, "auditor", params={"limit": 9, "cursor": page["next_cursor"]}).json()
    assert [item["id"] for item in rest["items"]] == ["b-2", "b-3", "b-4", "u"]
    for params, wanted in (
        ({"kind": "user"}, ["u"]), ({"enforcement": "hard"}, ["b-3"]), ({"q": "ANN"}, ["u"]),
        ({"scope_id": "ann", "app": APP}, ["u"]), ({"app": OTHER_APP}, []),
    ):  # fmt: skip
        assert [item["id"] for item in service.get(BUDGETS, "admin", params=params).json()["items"]] == wanted
    service.request("DELETE", f"{BUDGETS}/u", "admin", headers={"If-Match": "*"})
    assert len(service.get(BUDGETS, "admin").json()["items"]) == 6
    assert len(service.get(BUDGETS, "admin", params={"retired": "true"}).json()["items"]) == 7
    assert service.get(BUDGETS, APP).status_code == 403
    assert budget(service, id_="z", timezone="Mars/Base").json()["errors"][0]["path"] == "$.timezone"
    assert service.get(f"{BUDGETS}/nobody", "admin").status_code == 404


def test_a_hard_budget_says_what_is_missing(service: Service) -> None:
    """402 `budget_exceeded`, final for the id; credit that is missing is told before it."""
    make(service)
    credit(service, "100")
    budget(service, enforcement="hard")
    assert hold(service, "8")["http"] == 201
    declined = hold(service, "3.5", "h-2")
    assert [declined[name] for name in ("http", "code", "missing", "budget")] == [402, "budget_exceeded", "1.5", "b-1"]
    assert declined["hint"]
    service.post("/v1/holds/h-1/release", None)
    assert hold(service, "3.5", "h-2") == declined
    assert hold(service, "3.5", "h-3")["http"] == 201
    poor = hold(service, "500", "h-4")
    assert [poor["http"], poor["code"], poor.get("budget")] == [402, "insufficient_credit", None]
    assert service.get("/v1/holds/h-2").json()["status"] == "declined"


def test_parallel_holds_never_overspend_a_budget(service: Service) -> None:
    """200 at once on a budget for 60: exactly 60 are placed."""
    make(service)
    credit(service, "1000")
    budget(service, "60", enforcement="hard")

    def place(number: int) -> int:
        status: int = hold(service, "1", f"h-{number}")["http"]
        return status

    with ThreadPoolExecutor(32) as threads:
        codes = list(threads.map(place, range(200)))
    assert (codes.count(201), codes.count(402)) == (60, 140)
    found = service.get(f"{BUDGETS}/b-1", "admin").json()
    assert (found["spent"], found["held"], found["remaining"]) == ("0", "60", "0")


def test_a_credential_is_not_lent_where_a_hard_budget_is_used_up(service: Service) -> None:
    """A lease comes before a call; another app's goes on, and so does what happened anyway."""
    priced(service)
    with_credentials(service)
    budget(service, "3", enforcement="hard")
    assert lease(service).status_code == 201
    spend(service, "c-1", 300)
    declined = lease(service)
    assert (declined.status_code, declined.json()["code"], declined.json()["budget"]) == (402, "budget_exceeded", "b-1")
    assert lease(service, OTHER_APP).status_code == 201
    spend(service, "c-2", 300)


def test_nothing_recovers_that_was_not_told_to_be_low(service: Service) -> None:
    """A new account is empty, which is nothing to tell: neither is its first credit, unless it is little."""
    make(service, low_balance="5")
    make(service, "acc-2", owner={"kind": "app", "id": OTHER_APP}, low_balance="5")
    credit(service, "10")
    assert samples(service)["usage_ledger_accounts_low",] == 0
    credit(service, "1", "cr-2", "acc-2")
    assert events(service, "account.balance_recovered.v1") == []
    [low] = events(service, "account.balance_low.v1")
    assert (low["id"], low["data"]["after"], samples(service)["usage_ledger_accounts_low",]) == ("acc-2/low/1", "1", 1)
    assert verify(service.ledger.path).ok


def test_a_low_balance_is_told_once_a_crossing(service: Service) -> None:
    """Armed again when the balance rises above; a threshold set where it is low already is told at once."""
    priced(service)
    make(service, low_balance="5")
    credit(service, "10")
    spend(service, "c-1", 400)
    assert events(service, "account.balance_low.v1") == []
    spend(service, "c-2", 100)
    spend(service, "c-3", 100)
    credit(service, "1", "cr-2")
    credit(service, "1", "cr-3")
    spend(service, "c-4", 200)
    low = [each["data"]["after"] for each in events(service, "account.balance_low.v1")]
    recovered = [each["data"]["after"] for each in events(service, "account.balance_recovered.v1")]
    assert (low, recovered) == (["5", "4"], ["6"])
    path = "/v1/accounts/acc"
    for threshold in ("3", "4", None, "20"):
        body = {"low_balance": threshold}
        changed = service.request("PATCH", path, "admin", json=body, headers={"If-Match": "*"})
        assert changed.json()["low_balance"] == threshold
    assert [each["id"] for each in events(service, "account.balance_low.v1")] == [f"acc/low/{n}" for n in (1, 2, 3, 4)]
    assert service.get(path, APP).json()["low_balance"] == "20"
    assert service.get(path, APP).json()["balance"] == "4"
    found = samples(service)
    names = ("budgets", "budget_crossings", "accounts_low")
    assert [found[f"usage_ledger_{name}",] for name in names] == [0, 0, 1]
    assert verify(service.ledger.path).ok
