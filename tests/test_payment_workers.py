"""The same callbacks to two workers at once, with kills between: a payment credits once, a coupon goes to one."""

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.code_guesses import WRONG_A_MINUTE_MAX
from ledger.ledger import LEDGER_FILE
from ops.bootstrap import clock_us
from ops.verify import verify
from schema.order import OPEN_ORDERS_MAX
from tests.histories import reading, select
from tests.recharges import CALLBACKS, a_client, a_package, signed, told
from tests.server import Disconnected, Server, ask, started
from tests.serving import APP, Json, prepare

TORTURE_KILLS = int(os.environ.get("TORTURE_KILLS", "500"))
ORDERS, DELIVERIES = 25, 4
REDEMPTIONS = 200
JSON = {"Content-Type": "application/json"}


def posted(
    server: Server, path: str, body: bytes, headers: dict[str, str] | None = None, caller: str = "admin"
) -> tuple[int, Json]:
    """A status and an answer; 0 where there was none."""
    connection = server.connect()
    try:
        found = ask(connection, "POST", path, caller, body, headers or JSON)
        return found.status, found.json()
    except Disconnected:
        return 0, {}
    finally:
        connection.close()


def make(server: Server, orders: int) -> None:
    bodies: list[tuple[str, Json]] = [
        ("/v1/accounts", {"id": "acc", "owner": {"kind": "app", "id": APP}}),
        ("/v1/packages", a_package()),
        ("/v1/payment-clients", a_client()),
        ("/v1/coupons", {"id": "last", "credits": "5", "code": "LAST-ONE", "limit": 1, "limit_per_account": None}),
        *(("/v1/accounts/acc/orders", {"id": f"o-{n}", "package": "small"}) for n in range(orders)),
    ]
    for path, body in bodies:
        assert posted(server, path, json.dumps(body).encode())[0] == 201


def deliver(server: Server, number: int) -> int:
    """Tell of the payment of an order, with a signature of now."""
    body = told(f"pay_{number}", f"o-{number}")
    return posted(server, f"{CALLBACKS}/bank", body, signed(body, at_us=clock_us(), id_=f"msg_{number}"))[0]


def told_from_all_sides(data_dir: Path, kills: int, orders: int = ORDERS) -> None:
    """Each payment told four times at once; who gets no answer, as a vendor, tells it again."""
    prepare(data_dir)
    answered: set[int] = set()
    for kill in range(kills + 1):
        with started(data_dir, "--workers", "2") as server, ThreadPoolExecutor(16) as threads:
            if kill == 0:
                make(server, orders)
            missing = [n for n in range(orders) if n not in answered]
            futures = [(n, threads.submit(deliver, server, n)) for n in missing for _ in range(DELIVERIES)]
            if kill < kills:
                futures[DELIVERIES][1].result()  # all of the first order's were asked, and more are on their way
                server.kill()
            answered |= {n for n, future in futures if future.result() == 200}
    assert answered == set(range(orders))
    check(data_dir, 1_100 * orders)


@pytest.mark.parametrize("kills", [0, 1])
def test_two_workers_credit_a_payment_once(tmp_path: Path, kills: int) -> None:
    """However often and through whichever worker it is told, and whenever both die."""
    told_from_all_sides(tmp_path / "data", kills)


@pytest.mark.torture
def test_workers_killed_all_day_credit_a_payment_once(tmp_path: Path) -> None:
    for lane in range(max(1, TORTURE_KILLS // 20)):
        told_from_all_sides(tmp_path / f"data-{lane}", 10, OPEN_ORDERS_MAX)


def test_two_workers_give_the_last_coupon_once(tmp_path: Path) -> None:
    """Two hundred ask both workers at the same time: one of them gets it. Who guesses gets twenty tries of both."""
    data_dir = tmp_path / "data"
    prepare(data_dir)
    with started(data_dir, "--workers", "2") as server, ThreadPoolExecutor(32) as threads:
        make(server, 0)

        def redeem(number: int) -> int:
            body = json.dumps({"id": f"r-{number}", "code": "LASTONE"}).encode()
            return posted(server, "/v1/accounts/acc/coupon-redemptions", body)[0]

        answers = Counter(threads.map(redeem, range(REDEMPTIONS)))
        assert answers == {201: 1, 409: REDEMPTIONS - 1}

        def guess(number: int) -> int:
            body = json.dumps({"id": f"g-{number}", "code": f"WRONG-{number}"}).encode()
            return posted(server, "/v1/accounts/acc/coupon-redemptions", body, caller=APP)[0]

        assert Counter(threads.map(guess, range(60))) == {404: WRONG_A_MINUTE_MAX, 429: 60 - WRONG_A_MINUTE_MAX}
    check(data_dir, 5)


def check(data_dir: Path, given: int) -> None:
    """So much was given in all, and the tables are what the events say."""
    with reading(data_dir / LEDGER_FILE) as db:
        assert select(db, "SELECT issued_e10 FROM account_balances") == [(given * 10**10,)]
    report = verify(data_dir / LEDGER_FILE)
    assert report.ok, report.faults
