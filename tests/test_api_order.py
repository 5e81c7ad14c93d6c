"""Orders over HTTP: placed, paid by signed callbacks, expired, cancelled, refunded; money that came is never lost."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.settings import ApiSettings
from ledger.ledger import Ledger
from ops.verify import verify
from schema.order import LIFETIME_S_DEFAULT, OPEN_ORDERS_MAX, SweepOrders
from schema.times import SECOND_US, format_time
from tests.recharges import OTHER_SECRET, a_client, a_package, call_back, order, refund, stocked
from tests.serving import APP, NOW_US, OTHER_APP, QUIET, Clock, Json, Service, a_keyring, serving

LIFETIME_US = LIFETIME_S_DEFAULT * SECOND_US


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        stocked(service)
        yield service


@contextmanager
def serving_again(data_dir: Path) -> Generator[Service, None, None]:
    """The service over a ledger that has its keys."""
    clock, ledger = Clock(), Ledger(data_dir, durability="os", keyring=a_keyring())
    with TestClient(create_app(ledger, QUIET, clock), raise_server_exceptions=False) as client:
        yield Service(ledger, client, clock)


def balance(service: Service, account: str = "acc") -> str:
    return service.get(f"/v1/accounts/{account}").json()["balance"]


def lines(service: Service, account: str = "acc") -> list[tuple[object, ...]]:
    items = service.get(f"/v1/accounts/{account}/transactions").json()["items"]
    return [(each["kind"], each["amount"], each["before"], each["after"], each["related"]) for each in items]


def status(service: Service, id_: str = "o-1") -> str:
    return service.get(f"/v1/orders/{id_}").json()["status"]


def sweep(service: Service) -> int:
    return service.ledger.execute_one_now(SweepOrders(service.clock(), 100)).events


def test_a_paid_order_is_credited_once(service: Service) -> None:
    """Price and credits are those of the package; the callback again gets the first answer and moves nothing."""
    placed = order(service, caller=APP, metadata={"cart": 7})
    assert (placed["http"], placed["status"], placed["duplicate"]) == (201, "pending", False)
    assert (placed["amount_minor"], placed["currency"], placed["credits"], placed["bonus_credits"]) == (
        999, "USD", "1000", "100",
    )  # fmt: skip
    assert placed["expires_at"] == format_time(NOW_US + LIFETIME_US)
    first = call_back(service, "pay_1", "o-1")
    assert (first.status_code, first.json()["status"], first.json()["duplicate"]) == (200, "credited", False)
    again = call_back(service, "pay_1", "o-1")
    assert again.json() == {**first.json(), "duplicate": True}
    found = service.get("/v1/orders/o-1", APP).json()
    assert (found["status"], found["payment"], found["credited"], found["late"]) == (
        "paid",
        "bank:pay_1",
        "1100",
        False,
    )
    assert found["metadata"] == {"cart": 7}
    assert lines(service) == [("recharge", "1100", "0", "1100", "order:o-1")]
    repeated = order(service, caller=APP, metadata={"cart": 7})
    assert (repeated["http"], repeated["duplicate"], repeated["status"]) == (200, True, "paid")
    assert order(service, metadata={"cart": 8})["code"] == "id_conflict"
    assert order(service, account="other", metadata={"cart": 7})["code"] == "id_conflict"
    assert verify(service.ledger.path).ok


def test_an_order_keeps_its_price(service: Service) -> None:
    """A package that is changed or deleted afterwards changes nothing of it; a new order is refused."""
    order(service)
    etag = service.get("/v1/packages/small").headers["etag"]
    changed = service.request("PATCH", "/v1/packages/small", json={"price_minor": 1}, headers={"If-Match": etag})
    assert changed.status_code == 200
    gone = service.request("DELETE", "/v1/packages/small?reason=old", headers={"If-Match": changed.headers["etag"]})
    assert gone.json()["deleted"] is True
    assert order(service, "o-2")["code"] == "not_for_sale"
    assert call_back(service, "pay_1", "o-1", 999).json()["status"] == "credited"
    types = [item["type"] for item in service.get("/v1/packages/small/history").json()["items"]]
    assert types == ["package.created.v1", "package.changed.v1", "package.deleted.v1"]
    assert service.get("/v1/packages").json()["items"] == []
    assert [item["id"] for item in service.get("/v1/packages?deleted=true").json()["items"]] == ["small"]


@pytest.mark.parametrize(
    ("amount", "credits"), [(2, "0.6666666667"), (3, "1"), (100, "33.3333333333"), (100_000, "33333.3333333333")]
)
def test_a_free_amount_is_converted_exactly(service: Service, amount: int, credits: str) -> None:
    """A third of a credit a cent, rounded once, half up, to ten decimals."""
    placed = order(service, amount_minor=amount, currency="USD")
    assert (placed["http"], placed["credits"], placed["package"]) == (201, credits, None)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"amount_minor": 1, "currency": "USD"}, "out_of_range"),
        ({"amount_minor": 100_001, "currency": "USD"}, "out_of_range"),
        ({"amount_minor": 5, "currency": "EUR"}, "not_for_sale"),
        ({"amount_minor": 5}, "invalid_input"),
        ({"amount_minor": 5, "currency": "usd"}, "invalid_input"),
        ({"amount_minor": 5.5, "currency": "USD"}, "invalid_input"),
        ({"amount_minor": 0, "currency": "USD"}, "out_of_range"),
        ({"package": "small", "amount_minor": 5, "currency": "USD"}, "invalid_input"),
        ({"package": "none"}, "not_for_sale"),
        ({"client": "nobody"}, "not_for_sale"),
        ({"coupon": "NOSUCHCODE"}, "unknown_code"),
        ({"colour": "red"}, "invalid_input"),
    ],
)
def test_what_cannot_be_bought_is_refused(service: Service, fields: Json, code: str) -> None:
    """With a reason, and without a trace."""
    before = service.position()
    assert order(service, **fields)["code"] == code
    assert service.position() == before


def test_inactive_things_are_not_sold(service: Service) -> None:
    """A package that is not active, a conversion that is not active."""
    assert service.post("/v1/packages", a_package("off", active=False), "admin").status_code == 201
    assert order(service, package="off")["code"] == "not_for_sale"
    etag = service.get("/v1/conversions/USD").headers["etag"]
    off = service.request("PATCH", "/v1/conversions/USD", json={"active": False}, headers={"If-Match": etag})
    assert (off.status_code, off.json()["active"]) == (200, False)
    assert order(service, amount_minor=5, currency="USD")["code"] == "not_for_sale"
    history = service.get("/v1/conversions/USD/history").json()["items"]
    assert [each["field"] for each in history[1]["changes"]] == ["active"]


@pytest.mark.parametrize(
    ("amount", "currency", "why"), [(998, "USD", "amount_differs"), (999, "EUR", "currency_differs")]
)
def test_another_amount_is_refused_and_seen(service: Service, amount: int, currency: str, why: str) -> None:
    """409, again and again; nothing is credited; the payment is listed until somebody says what became of it."""
    order(service)
    for _ in range(2):
        answer = call_back(service, "pay_1", "o-1", amount, currency)
        assert (answer.status_code, answer.json()["code"]) == (409, "payment_mismatch")
    assert (balance(service), status(service)) == ("0", "pending")
    [item] = service.get("/v1/payments?status=refused").json()["items"]
    assert (item["id"], item["why"], item["amount_minor"], item["account"]) == ("bank:pay_1", why, amount, "acc")
    assert call_back(service, "pay_2", "o-1").json()["status"] == "credited"
    said = {"resolution": "returned", "reason": "sent back by transfer"}
    resolved = service.post("/v1/payments/bank:pay_1/resolve", said, "admin").json()
    assert (resolved["status"], resolved["resolution"]) == ("resolved", "returned")
    assert service.post("/v1/payments/bank:pay_1/resolve", said, "admin").status_code == 200
    other = service.post("/v1/payments/bank:pay_1/resolve", {**said, "resolution": "credited"}, "admin")
    assert other.json()["code"] == "id_conflict"
    assert service.post("/v1/payments/bank:pay_2/resolve", said, "admin").json()["code"] == "id_conflict"
    assert service.get("/v1/payments?status=refused").json()["items"] == []
    assert [each["id"] for each in service.get("/v1/payments?limit=1").json()["items"]] == ["bank:pay_2"]
    assert verify(service.ledger.path).ok


def test_an_order_of_a_client_is_not_paid_by_another(service: Service) -> None:
    """Who is trusted for one order is not trusted for all."""
    service.post("/v1/payment-clients", a_client("test-bank", OTHER_SECRET), "admin")
    assert order(service, client="test-bank")["http"] == 201
    answer = call_back(service, "pay_1", "o-1")
    assert answer.json()["code"] == "payment_mismatch"
    assert service.get("/v1/payments/bank:pay_1").json()["why"] == "client_differs"


def test_an_order_expires_by_the_clock(service: Service) -> None:
    """Read as expired to the microsecond, recorded by the sweep once; it cannot be cancelled any more."""
    order(service)
    service.clock.now_us += LIFETIME_US - 1
    assert status(service) == "pending"
    assert sweep(service) == 0
    service.clock.now_us += 1
    assert status(service) == "expired"
    assert [each["id"] for each in service.get("/v1/orders?status=expired").json()["items"]] == ["o-1"]
    assert service.get("/v1/orders?status=pending").json()["items"] == []
    assert service.post("/v1/orders/o-1/cancel", {}, APP).json()["code"] == "order_closed"
    assert sweep(service) == 1
    assert sweep(service) == 0
    assert status(service) == "expired"


@pytest.mark.parametrize("swept", ["swept", "not yet"])
def test_late_money_is_credited(service: Service, swept: str) -> None:
    """Whether or not the sweep came first, the order that expired is paid late, and both are events."""
    order(service)
    service.clock.now_us += LIFETIME_US
    if swept == "swept":
        sweep(service)
    assert call_back(service, "pay_1", "o-1").json()["status"] == "credited"
    found = service.get("/v1/orders/o-1").json()
    assert (found["status"], found["late"], balance(service)) == ("paid", True, "1100")
    types = [row[0] for row in service.read("SELECT type FROM events WHERE source = '/ledger/order' ORDER BY position")]
    assert types == ["order.placed.v1", "order.expired.v1", "order.paid.v1"]
    assert sweep(service) == 0
    assert verify(service.ledger.path).ok


def test_money_that_nothing_can_be_credited_for_is_flagged(service: Service) -> None:
    """For an order that was cancelled, paid before, or that there is not: kept, listed, and told as such."""
    order(service)
    order(service, "o-2")
    cancelled = service.post("/v1/orders/o-1/cancel", {"reason": "changed my mind"}, APP)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert service.post("/v1/orders/o-1/cancel", None, APP).status_code == 200
    call_back(service, "pay_2", "o-2")
    for payment, id_, why in (
        ("pay_1", "o-1", "order_cancelled"), ("pay_3", "o-2", "order_paid_before"), ("pay_4", "o-9", "unknown_order"),
        ("pay_5", "no order/at all", "unknown_order"),
    ):  # fmt: skip
        answer = call_back(service, payment, id_).json()
        assert (answer["status"], answer["why"]) == ("flagged", why)
    assert len(service.get("/v1/payments?status=flagged").json()["items"]) == 4
    assert balance(service) == "1100"
    assert verify(service.ledger.path).ok


def test_a_payment_is_of_one_order(service: Service) -> None:
    """Told again for another order it credits nothing: that is no repetition."""
    order(service)
    order(service, "o-2")
    call_back(service, "pay_1", "o-1")
    assert call_back(service, "pay_1", "o-2").json()["code"] == "id_conflict"
    assert (balance(service), status(service, "o-2")) == ("1100", "pending")


def test_refunds_are_at_most_what_was_paid(service: Service) -> None:
    """In parts, each with its share of the credits; the shares add up to all; one more cent is refused."""
    order(service)
    assert refund(service, 1)["code"] == "order_closed"
    call_back(service, "pay_1", "o-1")
    first = refund(service, 333)
    assert (first["http"], first["credits"], first["duplicate"]) == (201, "366.6666666667", False)
    assert refund(service, 333) == {**first, "http": 200, "duplicate": True}
    assert refund(service, 334)["code"] == "id_conflict"
    assert status(service) == "partly_refunded"
    assert refund(service, 667, "r-2")["code"] == "refund_exceeds_paid"
    assert refund(service, 333, "r-2")["credits"] == "366.6666666666"
    assert refund(service, 333, "r-3")["credits"] == "366.6666666667"
    found = service.get("/v1/orders/o-1").json()
    assert (found["status"], found["refunded_minor"], found["refunded_credits"]) == ("refunded", 999, "1100")
    assert balance(service) == "0"
    assert refund(service, 1, "r-4")["code"] == "refund_exceeds_paid"
    assert [line[:2] for line in lines(service)] == [
        ("recharge", "1100"), ("refund", "-366.6666666667"), ("refund", "-366.6666666666"),
        ("refund", "-366.6666666667"),
    ]  # fmt: skip
    assert verify(service.ledger.path).ok


def test_a_refund_of_credits_that_were_spent_is_declined_for_good(service: Service) -> None:
    """402 with what is missing; held credits are not there either; with `credits` it says how many it takes."""
    order(service)
    call_back(service, "pay_1", "o-1")
    service.post("/v1/accounts/acc/holds", {"id": "h", "amount": "1000"}, "admin")
    declined = refund(service, 999)
    assert (declined["http"], declined["code"], declined["missing"]) == (402, "insufficient_credit", "1000")
    service.post("/v1/holds/h/release", None, "admin")
    assert refund(service, 999) == declined
    assert refund(service, 500, "r-2", credits="1101")["code"] == "out_of_range"
    kind = refund(service, 500, "r-2", credits="0")
    assert (kind["http"], kind["credits"], balance(service)) == (201, "0", "1100")
    rest = refund(service, 499, "r-3", credits="100.5")
    assert (rest["credits"], balance(service), status(service)) == ("100.5", "999.5", "refunded")
    assert refund(service, 1, "r-4", order_id="nope")["code"] == "not_found"
    assert verify(service.ledger.path).ok


def test_a_refund_takes_its_own_share_and_no_other_refunds(service: Service) -> None:
    """Whatever those before it took, because somebody decided that; and never more than is left."""
    order(service)
    call_back(service, "pay_1", "o-1")
    assert refund(service, 333, credits="0")["credits"] == "0"
    assert refund(service, 333, "r-2")["credits"] == "366.6666666666"
    assert refund(service, 100, "r-3", credits="700")["credits"] == "700"
    assert refund(service, 233, "r-4")["credits"] == "33.3333333334"
    assert (balance(service), status(service)) == ("0", "refunded")
    assert verify(service.ledger.path).ok


def test_an_app_orders_for_accounts_it_may_use(service: Service) -> None:
    """Neither places, reads, lists nor cancels others'; payments and refunds are not its business."""
    assert order(service, "o-2", OTHER_APP)["code"] == "forbidden"
    order(service)
    for method, path in (
        ("GET", "/v1/orders/o-1"), ("POST", "/v1/orders/o-1/cancel"), ("GET", "/v1/accounts/acc/orders"),
    ):  # fmt: skip
        assert service.request(method, path, OTHER_APP, **({"json": {}} if method == "POST" else {})).status_code == 403
        assert service.request(method, path, APP, **({"json": {}} if method == "POST" else {})).status_code == 200
    assert service.get("/v1/orders", APP).status_code == 403
    assert order(service, account="nobody")["code"] == "not_found"


def test_lists_page_newest_first(service: Service) -> None:
    """Orders keep their place while more come in."""
    for n in range(5):
        order(service, f"o-{n}")
    first = service.get("/v1/accounts/acc/orders?limit=2", APP).json()
    order(service, "o-9")
    found = [each["id"] for each in first["items"]]
    cursor = first["next_cursor"]
    while cursor:
        page = service.get(f"/v1/accounts/acc/orders?limit=2&cursor={cursor}", APP).json()
        found += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
    assert found == ["o-4", "o-3", "o-2", "o-1", "o-0"]
    assert service.get("/v1/orders?account=other").json()["items"] == []


def test_expired_orders_page_in_order_whether_recorded_or_not(service: Service) -> None:
    """Some that the sweep has met, some that it has not, between some that were paid."""
    for n in range(6):
        order(service, f"o-{n}")
        if n == 3:
            service.clock.now_us += LIFETIME_US
            sweep(service)
            service.clock.now_us += LIFETIME_US
    call_back(service, "pay_1", "o-1")
    service.clock.now_us += LIFETIME_US
    found, cursor = list[str](), ""
    while cursor is not None:
        page = service.get(f"/v1/orders?status=expired&limit=2{cursor and '&cursor='}{cursor}").json()
        found += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
    assert found == ["o-5", "o-4", "o-3", "o-2", "o-0"]


def test_lists_and_sweeps_seek_what_they_want(service: Service) -> None:
    """No query about orders or payments looks at all of them, or sorts."""
    queries = [
        "orders WHERE placed_position < 9 AND account = 'a' ORDER BY placed_position DESC",
        "orders WHERE placed_position < 9 AND account = 'a' AND status = 'paid' ORDER BY placed_position DESC",
        "orders WHERE placed_position < 9 AND status = 'expired' ORDER BY placed_position DESC",
        "orders WHERE placed_position < 9 AND status = 'pending' AND +expires_at_us <= 9 ORDER BY placed_position DESC",
        "orders WHERE status = 'pending' AND expires_at_us <= 9 ORDER BY expires_at_us, id",
        "orders WHERE account = 'a' AND status = 'pending' AND expires_at_us > 9",
        "payments WHERE received_position < 9 AND status = 'flagged' ORDER BY received_position DESC",
        "payments WHERE received_position < 9 AND order_id = 'o' ORDER BY received_position DESC",
    ]
    for query in queries:
        plan = [row[3] for row in service.read(f"EXPLAIN QUERY PLAN SELECT * FROM {query} LIMIT 9")]
        assert len(plan) == 1, (query, plan)
        assert plan[0].startswith("SEARCH"), (query, plan)


def test_open_orders_have_a_bound(service: Service) -> None:
    """At the bound one more is refused, until one is over."""
    for n in range(OPEN_ORDERS_MAX):
        assert order(service, f"o-{n}")["http"] == 201
    assert order(service, "one-more")["code"] == "limit_reached"
    service.clock.now_us += LIFETIME_US
    assert order(service, "one-more")["http"] == 201


def test_an_account_that_is_full_has_its_money_flagged(service: Service) -> None:
    """What cannot be credited for the account's bound is not lost."""
    service.post("/v1/packages", a_package("huge", credits="100000000", bonus_credits="0"), "admin")
    for n in range(9):
        order(service, f"o-{n}", package="huge")
        call_back(service, f"pay_{n}", f"o-{n}")
    [item] = service.get("/v1/payments?status=flagged").json()["items"]
    assert (item["order"], item["why"]) == ("o-8", "account_full")
    assert (balance(service), status(service, "o-8")) == ("800000000", "pending")
    assert verify(service.ledger.path).ok


def test_the_lifetime_is_a_setting(tmp_path: Path) -> None:
    """Seconds from placing to expiry."""
    with serving(tmp_path, settings=ApiSettings(sweep_interval_s=86_400.0, order_lifetime_us=SECOND_US)) as service:
        stocked(service)
        assert order(service)["expires_at"] == format_time(NOW_US + SECOND_US)


def test_orders_live_through_a_restart(tmp_path: Path) -> None:
    """Placed before, paid after, told again after another; the clock goes on."""
    with serving(tmp_path) as service:
        stocked(service)
        order(service)
    with serving_again(tmp_path) as service:
        assert call_back(service, "pay_1", "o-1").json()["duplicate"] is False
    with serving_again(tmp_path) as service:
        assert call_back(service, "pay_1", "o-1").json()["duplicate"] is True
        assert balance(service) == "1100"
        assert verify(service.ledger.path).ok


def test_ids_of_credits_that_the_ledger_gives_are_its_own(service: Service) -> None:
    """Nobody takes the place of an order's credit."""
    body = {"id": "~order:o-1", "kind": "recharge", "amount": "1"}
    refused = service.post("/v1/accounts/acc/credits", body, "admin")
    assert refused.json()["errors"][0]["path"] == "$.id"
