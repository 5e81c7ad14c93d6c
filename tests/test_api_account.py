"""Accounts over HTTP: credits, holds, charges, statements as of any position, and who may do what."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from ops.verify import verify
from schema.credit import SweepAccounts
from schema.model_call import DEFAULT_POLICY, SweepModelCalls
from schema.rerate import AdvanceRerate
from schema.times import SECOND_US, format_time
from tests.accounts import change_account
from tests.changes import a_rate
from tests.serving import APP, CALLS, NOW_US, OTHER_APP, Json, Service, a_call, require, serving

ACCOUNTS = "/v1/accounts"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def make(service: Service, id_: str = "acc", owner: Json | None = None, **fields: object) -> None:
    body = {"id": id_, "owner": owner or {"kind": "app", "id": APP}, **fields}
    assert service.post(ACCOUNTS, body, "admin").status_code == 201


def credit(service: Service, amount: str, id_: str = "cr-1", account: str = "acc", **fields: object) -> Json:
    body = {"id": id_, "kind": "recharge", "amount": amount, **fields}
    response = service.post(f"{ACCOUNTS}/{account}/credits", body, "admin")
    assert response.status_code == 201, response.text
    return response.json()


def sums(service: Service, account: str = "acc", as_of: object = None) -> tuple[str, ...]:
    found = service.get(f"{ACCOUNTS}/{account}", params={} if as_of is None else {"as_of": as_of}).json()
    return tuple(found[name] for name in ("balance", "free_quota", "held", "available", "owed", "spent"))


def hold(service: Service, amount: str, id_: str = "h-1", caller: str = APP, **fields: object) -> Json:
    response = service.post(f"{ACCOUNTS}/acc/holds", {"id": id_, "amount": amount, **fields}, caller)
    return {"http": response.status_code, **response.json()}


def priced(service: Service, price: str = "0.01") -> None:
    require(service.ledger.execute_now([a_rate("r-1", price)]))


def test_a_hold_is_settled_in_part_and_the_rest_is_free_again(service: Service) -> None:
    """Reserve, settle less, and the statement tells one consumption; each again gets the first answer."""
    make(service)
    credit(service, "10")
    first = hold(service, "6")
    assert (first["http"], first["status"]) == (201, "open")
    assert sums(service) == ("10", "0", "6", "4", "0", "0")
    settled = service.post("/v1/holds/h-1/settle", {"amount": "2.50"})
    assert (settled.status_code, settled.json()["settled"]) == (200, "2.5")
    assert sums(service) == ("7.5", "0", "0", "7.5", "0", "2.5")
    again = service.post("/v1/holds/h-1/settle", {"amount": "2.5"})
    assert (again.status_code, again.json()["duplicate"], again.json()["position"]) == (
        200, True, settled.json()["position"],
    )  # fmt: skip
    assert service.post("/v1/holds/h-1/settle", {"amount": "3"}).json()["code"] == "hold_closed"
    assert service.post("/v1/holds/h-1/release", None).json()["code"] == "hold_closed"
    repeated = hold(service, "6")
    assert repeated == {**first, "http": 200, "duplicate": True}
    lines = service.get(f"{ACCOUNTS}/acc/transactions").json()["items"]
    assert [(each["sequence"], each["kind"], each["amount"], each["before"], each["after"]) for each in lines] == [
        (1, "recharge", "10", "0", "10"),
        (2, "consumption", "-2.5", "10", "7.5"),
    ]
    assert lines[1]["related"] == f"hold/{APP}/h-1"


def test_a_decline_is_final_for_its_id(service: Service) -> None:
    """402 says what is missing; the same id gets the same answer when there is enough, another id does not."""
    make(service)
    credit(service, "1")
    first = hold(service, "3.5")
    assert (first["http"], first["code"], first["missing"]) == (402, "insufficient_credit", "2.5")
    credit(service, "100", "cr-2")
    assert hold(service, "3.5") == first
    assert hold(service, "3.5", "h-2")["http"] == 201
    assert hold(service, "4", "h-2")["code"] == "id_conflict"
    assert service.get("/v1/holds/h-1").json()["status"] == "declined"


def test_a_hold_stops_binding_at_its_time(service: Service) -> None:
    """Before anything is recorded of it; the sweep records it once; what is settled after that is unheld."""
    make(service)
    credit(service, "5")
    hold(service, "5", expires_in_s=60)
    assert hold(service, "1", "h-2")["http"] == 402
    service.clock.now_us += 60 * SECOND_US
    assert sums(service)[2:4] == ("0", "5")
    assert service.get("/v1/holds/h-1").json()["status"] == "expired"
    assert service.ledger.execute_one_now(SweepAccounts(service.clock(), 10)).events == 1
    assert service.ledger.execute_one_now(SweepAccounts(service.clock(), 10)).events == 0
    assert hold(service, "5", "h-3")["http"] == 201
    assert service.post("/v1/holds/h-1/settle", {"amount": "2"}).status_code == 200
    assert sums(service) == ("5", "0", "5", "0", "2", "2")


def test_calls_are_charged_free_quota_first(service: Service) -> None:
    """What ends first goes first; then the balance; what nobody can pay is owed, and paid by the next recharge."""
    make(service)
    priced(service)
    credit(service, "1", "g-late", kind="gift_register")
    credit(service, "1", "g-soon", kind="gift_signin", expires_at=format_time(NOW_US + 3600 * SECOND_US))
    credit(service, "1")
    service.post(CALLS, a_call("c-1", usage={"input_tokens": 150, "output_tokens": 0}))
    assert sums(service) == ("1", "0.5", "0", "1.5", "0", "1.5")
    grants = dict(service.read("SELECT id, remaining_e10 FROM grants"))
    assert grants == {"g-late": 5 * 10**9, "g-soon": 0}
    service.post(CALLS, a_call("c-2", usage={"input_tokens": 300, "output_tokens": 0}))
    assert sums(service) == ("0", "0", "0", "0", "1.5", "4.5")
    credit(service, "10", "cr-2")
    assert sums(service) == ("8.5", "0", "0", "8.5", "0", "4.5")
    assert service.post(CALLS, a_call("c-2", usage={"input_tokens": 300, "output_tokens": 0})).json()["duplicate"]
    assert sums(service)[0] == "8.5"


def test_a_call_settles_the_hold_that_is_for_it(service: Service) -> None:
    """One post charges and frees; an account that may overdraw does so only without a hold."""
    make(service, overdraft="unheld")
    priced(service)
    credit(service, "1")
    hold(service, "1", call_id="c-1")
    service.post(CALLS, a_call("c-1", usage={"input_tokens": 40, "output_tokens": 0}))
    assert sums(service) == ("0.6", "0", "0", "0.6", "0", "0.4")
    assert service.get("/v1/holds/h-1").json()["status"] == "settled"
    service.post(CALLS, a_call("c-2", usage={"input_tokens": 100, "output_tokens": 0}))
    assert sums(service) == ("-0.4", "0", "0", "-0.4", "0", "1.4")
    assert hold(service, "0.1", "h-2")["missing"] == "0.5"


def test_a_call_that_came_after_its_holds_time_is_charged_once(service: Service) -> None:
    """It is charged like any; the hold that was for it cannot be settled by hand on top of that."""
    make(service)
    priced(service)
    credit(service, "5")
    hold(service, "1", call_id="c-1", expires_in_s=60)
    service.clock.now_us += 60 * SECOND_US
    service.post(CALLS, a_call("c-1", usage={"input_tokens": 100, "output_tokens": 0}))
    charged = sums(service)
    assert charged[5] == "1"
    answer = service.post("/v1/holds/h-1/settle", {"amount": "1"})
    assert (answer.status_code, answer.json()["code"]) == (409, "hold_closed")
    assert sums(service) == charged


def test_a_void_gives_back_and_both_are_seen(service: Service) -> None:
    """The refund is a transaction of its own; the net is nothing."""
    make(service)
    priced(service)
    credit(service, "5")
    service.post(CALLS, a_call("c-1", usage={"input_tokens": 100, "output_tokens": 0}))
    service.post(f"{CALLS}/c-1/corrections", {"id": "v", "reason": "not ours", "void": True})
    found = service.get(f"{ACCOUNTS}/acc").json()
    assert (found["balance"], found["spent"], found["tokens"]) == ("5", "0", 0)
    lines = service.get(f"{ACCOUNTS}/acc/transactions").json()["items"]
    assert [(each["kind"], each["amount"]) for each in lines] == [
        ("recharge", "5"), ("consumption", "-1"), ("refund", "1"),
    ]  # fmt: skip


@pytest.mark.parametrize("change", [{"void": True}, {"set": {"attempt": 2}}])
def test_what_has_not_ended_cannot_be_changed_where_accounts_are_charged(service: Service, change: Json) -> None:
    """Neither while it is open nor after its time-out, and it is charged when it ends all the same."""
    make(service)
    credit(service, "10")
    priced(service)
    begun = {n: v for n, v in a_call().items() if n in {"provider", "model", "type", "started_at"}}
    service.post(f"{CALLS}/c-1/start", begun)
    body = {"id": "x", "reason": "a test", **change}
    assert service.post(f"{CALLS}/c-1/corrections", body).json()["code"] == "not_finished"
    service.clock.now_us += 10**12
    service.ledger.execute_now([SweepModelCalls(service.clock(), 10)])
    assert service.post(f"{CALLS}/c-1/corrections", body).json()["code"] == "not_finished"
    assert service.post(f"{CALLS}/c-1/complete", {"usage": {"input_tokens": 100}}).status_code == 201
    assert sums(service)[-1] == "1"


def test_a_rerate_charges_and_gives_back_the_difference(service: Service) -> None:
    """Calls that had no price are charged when they get one, dearer ones once more; taken back, all is as before."""
    make(service)
    credit(service, "5")
    for n in range(3):
        service.post(CALLS, a_call(f"c-{n}", usage={"input_tokens": 50, "output_tokens": 0}))
    assert sums(service) == ("5", "0", "0", "5", "0", "0")
    priced(service)
    run = {"id": "late", "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    assert service.post("/v1/rerates", run, "admin").status_code == 201
    _finish(service, "late")
    assert sums(service) == ("3.5", "0", "0", "3.5", "0", "1.5")
    service.post(f"{CALLS}/c-1/corrections", {"id": "v", "reason": "not ours", "void": True})
    assert sums(service) == ("4", "0", "0", "4", "0", "1")
    service.post("/v1/rerates/late/revert", {}, "admin")
    _finish(service, "late")
    assert sums(service) == ("5", "0", "0", "5", "0", "0")
    assert verify(service.ledger.path).ok


def _finish(service: Service, id_: str) -> None:
    while service.ledger.execute_one_now(
        AdvanceRerate(received_at_us=service.clock(), id=id_, policy=DEFAULT_POLICY)
    ).events:
        pass


def test_a_statement_as_of_any_position_is_the_fold_of_its_transactions(service: Service) -> None:
    """Whatever moved between, balance and free quota there are what the transactions to there add up to."""
    make(service)
    priced(service)
    credit(service, "5")
    credit(service, "2", "g-1", kind="gift_referral")
    hold(service, "3")
    for n in range(4):
        service.post(CALLS, a_call(f"c-{n}", usage={"input_tokens": 90, "output_tokens": 0}))
    service.post("/v1/holds/h-1/settle", {"amount": "1"})
    lines = service.get(f"{ACCOUNTS}/acc/transactions").json()["items"]
    made = service.get(f"{ACCOUNTS}/acc/history").json()["items"][0]["position"]
    for position in range(made, service.position() + 1):
        found = service.get(f"{ACCOUNTS}/acc", params={"as_of": position}).json()
        folded = sum((Decimal(each["amount"]) for each in lines if each["position"] <= position), Decimal(0))
        assert Decimal(found["balance"]) + Decimal(found["free_quota"]) == folded
    assert service.get(f"{ACCOUNTS}/acc", params={"as_of": made - 1}).status_code == 404
    assert sums(service, as_of=service.position()) == sums(service)
    assert sums(service, as_of=format_time(NOW_US + 1)) == sums(service)
    assert verify(service.ledger.path).ok


def test_a_statement_has_the_rules_that_were_in_force(service: Service) -> None:
    """However often they were changed before."""
    make(service, low_balance="0")
    changes = [change_account("acc", at_us=NOW_US, low_balance=str(n)) for n in range(1, 1_102)]
    require(service.ledger.execute_now(changes))
    head = service.position()
    told = {at: service.get(f"{ACCOUNTS}/acc", params={"as_of": at}).json()["low_balance"] for at in (head, head - 100)}
    assert told == {head: "1101", head - 100: "1001"}


def test_an_app_may_use_its_own_accounts_and_granted_ones(service: Service) -> None:
    """Its own, its users', a team's when granted; nothing else, neither to hold nor to read."""
    make(service, "acc", {"kind": "team", "id": "t"}, apps=[APP])
    credit(service, "5")
    assert hold(service, "1")["http"] == 201
    assert hold(service, "1", "h-2", OTHER_APP)["code"] == "forbidden"
    assert service.get(f"{ACCOUNTS}/acc", OTHER_APP).status_code == 403
    assert service.get(f"{ACCOUNTS}/acc/transactions", OTHER_APP).status_code == 403
    assert service.get(f"{ACCOUNTS}/acc", APP).status_code == 200
    assert service.post("/v1/holds/h-1/settle", {"amount": "1"}, OTHER_APP).status_code == 404
    assert service.post("/v1/holds/h-1/settle", {"amount": "1"}, "admin").status_code == 200


def test_whose_account_pays(service: Service) -> None:
    """The one that is named, else the user's, else the app's; one that the app may not use is passed over."""
    priced(service, "1")
    make(service, "app")
    make(service, "ann", {"kind": "user", "id": "ann"})
    make(service, "bob", {"kind": "user", "id": "bob", "app": OTHER_APP})
    calls: list[Json] = [
        {"user_id": "ann"}, {"user_id": "bob"}, {"account": "bob"}, {"account": "app", "user_id": "ann"}, {},
    ]  # fmt: skip
    one = {"input_tokens": 1, "output_tokens": 0}
    posted = [a_call(f"c-{n}", usage=one, **{"user_id": None, **fields}) for n, fields in enumerate(calls)]
    assert service.post(CALLS, posted).json()["accepted"] == 5
    found = {id_: sums(service, id_)[4] for id_ in ("app", "ann", "bob")}
    assert found == {"app": "4", "ann": "1", "bob": "0"}


def test_rules_change_on_a_condition_and_history_tells_it(service: Service) -> None:
    """PATCH wants the ETag; an owner has one account; a wrong credit is refused with its path."""
    make(service)
    read = service.get(f"{ACCOUNTS}/acc")
    patch = {"If-Match": read.headers["etag"]}
    changed = service.request("PATCH", f"{ACCOUNTS}/acc", json={"overdraft": "unheld"}, headers=patch)
    assert (changed.status_code, changed.json()["overdraft"]) == (200, "unheld")
    assert service.request("PATCH", f"{ACCOUNTS}/acc", json={"name": "x"}, headers=patch).status_code == 412
    items = service.get(f"{ACCOUNTS}/acc/history").json()["items"]
    assert [each["type"] for each in items] == ["account.created.v1", "account.changed.v1"]
    taken = service.post(ACCOUNTS, {"id": "b", "owner": {"kind": "app", "id": APP}}, "admin")
    assert taken.json()["code"] == "name_taken"
    bad = {"id": "x", "kind": "recharge", "amount": "1", "expires_at": "2030-01-01T00:00:00Z"}
    refused = service.post(f"{ACCOUNTS}/acc/credits", bad, "admin")
    assert refused.json()["errors"][0]["path"] == "$.expires_at"
    adjusted = service.post(
        f"{ACCOUNTS}/acc/credits", {"id": "y", "kind": "adjustment", "amount": "-1", "reason": "wrong"}, "admin"
    )
    assert (adjusted.status_code, adjusted.json()["missing"]) == (402, "1")


def test_parallel_holds_never_take_more_than_there_is(service: Service) -> None:
    """200 at once on a balance for 60: exactly 60 are placed, in whatever order they come."""
    make(service)
    credit(service, "60")

    def place(number: int) -> int:
        status: int = hold(service, "1", f"h-{number}")["http"]
        return status

    with ThreadPoolExecutor(32) as threads:
        codes = list(threads.map(place, range(200)))
    assert (codes.count(201), codes.count(402)) == (60, 140)
    assert sums(service)[:4] == ("60", "0", "60", "0")


def test_a_list_with_figures_says_what_each_account_says(service: Service) -> None:
    """Of holds, grants, debts and use, as of now; a page of them is bounded."""
    priced(service)
    for n, owner in enumerate(({"kind": "app", "id": APP}, {"kind": "user", "id": "u-9", "app": APP})):
        make(service, f"acc-{n}", owner)
        credit(service, "0.5", f"cr-{n}", f"acc-{n}")
    credit(service, "3", "free", "acc-1", kind="gift_register", free=True)
    service.post(f"{ACCOUNTS}/acc-0/holds", {"id": "h", "amount": "0.25"})
    service.post(CALLS, [a_call("c-1", user_id=None), a_call("c-2", user_id="u-9")])
    page = service.get(f"{ACCOUNTS}?figures=true&limit=1").json()
    rest = service.get(f"{ACCOUNTS}?figures=true&cursor={page['next_cursor']}").json()
    items = page["items"] + rest["items"]
    assert [each["id"] for each in items] == ["acc-0", "acc-1"]
    for item in items:
        one = service.get(f"{ACCOUNTS}/{item['id']}").json()
        lasts = service.get(f"{ACCOUNTS}/{item['id']}/forecast").json()
        expected = {**one, **lasts, "spent": one["spent"]}
        assert item["figures"] == {name: expected[name] for name in item["figures"]}
        assert item["figures"]["spent"] != "0"
    assert items[0]["figures"]["held"] == "0.25"
    assert service.get(ACCOUNTS).json()["items"][0]["figures"] is None


def test_an_app_lists_its_own_accounts(service: Service) -> None:
    """Its own, its users' and those granted to it; of global users and of other apps it is told nothing."""
    make(service, "own")
    make(service, "users", {"kind": "user", "id": "u-1", "app": APP})
    make(service, "granted", {"kind": "team", "id": "t-1"}, apps=[APP])
    make(service, "global", {"kind": "user", "id": "u-1"})
    make(service, "others", {"kind": "app", "id": OTHER_APP})
    make(service, "alike", {"kind": "user", "id": "u-1", "app": f"{APP}2"})
    for more in ("", "?figures=true"):
        seen = [each["id"] for each in service.get(f"{ACCOUNTS}{more}", APP).json()["items"]]
        assert seen == ["granted", "own", "users"]
    assert [each["id"] for each in service.get(f"{ACCOUNTS}?q=t-1", APP).json()["items"]] == ["granted"]
    assert [each["id"] for each in service.get(ACCOUNTS, OTHER_APP).json()["items"]] == ["others"]
    assert len(service.get(ACCOUNTS, "dashboard").json()["items"]) == 6


@pytest.mark.parametrize("id_", ["%00", "a%00", "%00shop", "%C2%85"])
def test_an_account_that_no_id_can_name_is_not_there(service: Service, id_: str) -> None:
    """Whatever a path says: an answer that says so, in a group whose other commands land."""
    make(service)
    for path, body in (
        ("holds", {"id": "h-1", "amount": "1"}),
        ("credits", {"id": "c-1", "kind": "recharge", "amount": "1"}),
        ("orders", {"id": "o-1", "package": "none"}),
        ("coupon-redemptions", {"id": "r-1", "code": "abcdefgh"}),
    ):
        assert service.post(f"/v1/accounts/{id_}/{path}", body, "admin").status_code == 404, path
    for path in ("", "/transactions", "/orders", "/history", "/forecast"):
        assert service.get(f"/v1/accounts/{id_}{path}").status_code == 404, path


def test_a_correction_to_an_account_that_no_id_can_name_is_refused(service: Service) -> None:
    make(service)
    service.post(CALLS, a_call("c-1"))
    wanted = {"id": "fix-1", "reason": "r", "set": {"account": "\x00"}}
    answer = service.post(f"{CALLS}/c-1/corrections?app={APP}", wanted)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "$.set.account")
