"""Holds from many sides on one balance, with two workers and with kills between: never more than there is."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from ledger.ledger import Ledger
from ops.verify import verify
from tests.accounts import create_account, credit
from tests.budgets import create_budget
from tests.histories import reading, select
from tests.server import started, wait_for
from tests.serving import APP, NOW_US, bearer, prepare, require

HOLDS, COVERED = 200, 60
ANSWERS_TIMEOUT_S = 60.0


def _account(ledger: Ledger) -> None:
    require(ledger.execute_now([create_account(owner=APP, at_us=NOW_US)]))
    require(ledger.execute_now([credit(str(COVERED), at_us=NOW_US)]))


def _hold(url: str, number: int, codes: dict[int, int]) -> None:
    """Place a hold; without an answer nothing is known of it."""
    body = {"id": f"h-{number}", "amount": "1", "expires_in_s": 86_400}
    try:
        response = httpx.post(f"{url}/v1/accounts/acc/holds", json=body, headers=bearer(APP), timeout=30)
    except httpx.TransportError:
        return
    if response.status_code != 503:
        codes[number] = response.status_code


def _answered(codes: dict[int, int], enough: int) -> bool:
    return len(codes) >= enough


def _budget(ledger: Ledger) -> None:
    """The account has more than enough; the hard budget of its app has not."""
    require(ledger.execute_now([create_account(owner=APP, at_us=NOW_US), credit("1000", at_us=NOW_US)]))
    hard = create_budget(str(COVERED), scope_id=APP, at_us=NOW_US, period="rolling", window_hours=1, enforcement="hard")
    require(ledger.execute_now([hard]))


@pytest.mark.parametrize(("kills", "set_up"), [(0, _account), (3, _account), (0, _budget), (2, _budget)])
def test_two_workers_hold_no_more_than_there_is(tmp_path: Path, kills: int, set_up: Callable[[Ledger], None]) -> None:
    """200 holds at once where 60 are covered: exactly 60, whichever worker takes them and whenever both die.

    Whoever got no answer asks again with the same id.
    """
    prepare(tmp_path, set_up)
    codes: dict[int, int] = {}
    for kill in range(kills + 1):
        enough = HOLDS if kill == kills else (kill + 1) * HOLDS // (kills + 2)
        with started(tmp_path, "--workers", "2") as server, ThreadPoolExecutor(16) as threads:
            for number in [number for number in range(HOLDS) if number not in codes]:
                threads.submit(_hold, f"http://127.0.0.1:{server.port}", number, codes)
            wait_for(partial(_answered, codes, enough), ANSWERS_TIMEOUT_S)
            server.kill()
    answered = Counter(codes.values())
    assert (answered[402], answered[200] + answered[201]) == (HOLDS - COVERED, COVERED)
    with reading(tmp_path / "ledger.db") as db:
        assert select(db, "SELECT balance_held_e10, holds FROM account_balances") == [(COVERED * 10**10, COVERED)]
    assert verify(tmp_path / "ledger.db").ok
