"""Holds from many sides on one balance, with two workers and with kills between: never more than there is."""

import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from ledger.ledger import LEDGER_FILE, Ledger
from ops.verify import verify
from tests.accounts import create_account, credit
from tests.budgets import create_budget
from tests.histories import reading, select
from tests.server import Disconnected, Server, ask, started, wait_for
from tests.serving import APP, NOW_US, prepare, require

TORTURE_KILLS = int(os.environ.get("TORTURE_KILLS", "500"))
HOLDS, COVERED = 200, 60
ANSWERS_TIMEOUT_S = 60.0


def _account(ledger: Ledger) -> None:
    require(ledger.execute_now([create_account(owner=APP, at_us=NOW_US)]))
    require(ledger.execute_now([credit(str(COVERED), at_us=NOW_US)]))


def _hold(server: Server, number: int, codes: dict[int, int]) -> None:
    """Place a hold; without an answer nothing is known of it."""
    body = json.dumps({"id": f"h-{number}", "amount": "1", "expires_in_s": 86_400}).encode()
    connection = server.connect()
    try:
        path, headers = "/v1/accounts/acc/holds", {"Content-Type": "application/json"}
        status = ask(connection, "POST", path, APP, body, headers).status
    except Disconnected:
        return
    finally:
        connection.close()
    if status != 503:
        codes[number] = status


def _answered(codes: dict[int, int], enough: int) -> bool:
    return len(codes) >= enough


def _budget(ledger: Ledger) -> None:
    """The account has more than enough; the hard budget of its app has not."""
    require(ledger.execute_now([create_account(owner=APP, at_us=NOW_US), credit("1000", at_us=NOW_US)]))
    hard = create_budget(str(COVERED), scope_id=APP, at_us=NOW_US, period="rolling", window_hours=1, enforcement="hard")
    require(ledger.execute_now([hard]))


def hold_from_all_sides(data_dir: Path, kills: int, set_up: Callable[[Ledger], None]) -> None:
    """200 at once; whoever got no answer asks again with the same id."""
    prepare(data_dir, set_up)
    codes: dict[int, int] = {}
    for kill in range(kills + 1):
        enough = HOLDS if kill == kills else (kill + 1) * HOLDS // (kills + 2)
        with started(data_dir, "--workers", "2") as server, ThreadPoolExecutor(16) as threads:
            for number in [number for number in range(HOLDS) if number not in codes]:
                threads.submit(_hold, server, number, codes)
            wait_for(partial(_answered, codes, enough), ANSWERS_TIMEOUT_S)
            server.kill()
    answered = Counter(codes.values())
    assert (answered[402], answered[200] + answered[201]) == (HOLDS - COVERED, COVERED)
    with reading(data_dir / LEDGER_FILE) as db:
        assert select(db, "SELECT balance_held_e10, holds FROM account_balances") == [(COVERED * 10**10, COVERED)]
    assert verify(data_dir / LEDGER_FILE).ok


@pytest.mark.parametrize(("kills", "set_up"), [(1, _account), (1, _budget)])
def test_two_workers_hold_no_more_than_there_is(tmp_path: Path, kills: int, set_up: Callable[[Ledger], None]) -> None:
    """Where 60 are covered exactly 60 are placed, whichever worker takes them and whenever both die."""
    hold_from_all_sides(tmp_path / "data", kills, set_up)


@pytest.mark.torture
@pytest.mark.parametrize("set_up", [_account, _budget])
def test_workers_killed_all_day_hold_no_more_than_there_is(tmp_path: Path, set_up: Callable[[Ledger], None]) -> None:
    for lane in range(max(1, TORTURE_KILLS // 20)):
        hold_from_all_sides(tmp_path / f"data-{lane}", 10, set_up)
