"""A call that begins with a hold: one request, one decision; its end settles it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ops.verify import verify
from tests.serving import APP, CALLS, NOW, OTHER_APP, Json, Service, a_call, serving
from tests.test_api_account import credit, hold, make, priced, sums
from tests.test_api_budget import budget


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A token costs a hundredth of a credit, and the app has ten."""
    with serving(tmp_path) as service:
        priced(service)
        make(service)
        credit(service, "10")
        yield service


def begin(
    service: Service, id_: str = "c-1", caller: str = APP, wanted: Json | None = None, **fields: object
) -> httpx.Response:
    body = {
        "provider": "openai", "model": "gpt-4o", "type": "chat_completion", "started_at": NOW,
        "hold": {"amount": "6"} if wanted is None else wanted, **fields,
    }  # fmt: skip
    return service.post(f"{CALLS}/{id_}/start", body, caller)


def end(service: Service, id_: str = "c-1", tokens: int = 250, verb: str = "complete") -> httpx.Response:
    return service.post(f"{CALLS}/{id_}/{verb}", {"usage": {"input_tokens": tokens, "output_tokens": 0}})


def test_one_request_holds_and_starts_and_the_end_settles(service: Service) -> None:
    """Each again gets its first answer; the rest of the hold is free again."""
    first = begin(service)
    assert first.status_code == 201
    again = begin(service)
    assert (again.status_code, again.json()) == (200, {**first.json(), "duplicate": True})
    assert sums(service)[:4] == ("10", "0", "6", "4")
    held = service.get("/v1/holds/c-1").json()
    assert (held["status"], held["call_id"], held["amount"]) == ("open", "c-1", "6")
    done = end(service)
    assert (done.status_code, done.json()["cost"]) == (201, "2.5")
    assert end(service).json() == {**done.json(), "duplicate": True}
    assert sums(service) == ("7.5", "0", "0", "7.5", "0", "2.5")
    assert begin(service).json() == again.json()
    held = service.get("/v1/holds/c-1").json()
    assert (held["status"], held["settled"]) == ("settled", "2.5")
    assert verify(service.ledger.path).ok


@pytest.mark.parametrize(
    ("tokens", "verb", "after"),
    [
        (600, "complete", ("4", "0", "0", "4", "0", "6")),
        (0, "fail", ("10", "0", "0", "10", "0", "0")),
        (900, "complete", ("1", "0", "0", "1", "0", "9")),
        (1200, "complete", ("0", "0", "0", "0", "2", "12")),  # more than there is: kept, and owed
    ],
)
def test_an_end_settles_all_of_it_nothing_or_more(
    service: Service, tokens: int, verb: str, after: tuple[str, ...]
) -> None:
    """What exceeds the hold is charged by the account's policy."""
    begin(service)
    assert end(service, tokens=tokens, verb=verb).status_code == 201
    assert sums(service) == after


def test_a_decline_starts_nothing_and_is_final(service: Service) -> None:
    """402 says what is missing; the call that was made anyway is kept."""
    declined = begin(service, wanted={"amount": "12"})
    assert (declined.status_code, declined.json()["code"], declined.json()["missing"]) == (
        402, "insufficient_credit", "2",
    )  # fmt: skip
    assert service.get(f"{CALLS}/c-1").status_code == 404
    assert end(service).status_code == 404
    credit(service, "90", "cr-2")
    assert begin(service, wanted={"amount": "12"}).json() == declined.json()
    other = begin(service, wanted={"amount": "12"}, user_id="ann")
    assert (other.status_code, other.json()["errors"][0]["path"]) == (409, "$.user_id")
    assert begin(service, wanted={"amount": "13"}).json()["errors"][0]["path"] == "$.hold"
    assert service.post(CALLS, a_call("c-1")).status_code == 201
    assert service.get(f"{CALLS}/c-1").json()["status"] == "success"
    assert len(service.get(f"{CALLS}/c-1/events").json()["items"]) == 1
    assert verify(service.ledger.path).ok


def test_a_hard_budget_declines_a_start(service: Service) -> None:
    """By tags of the call's metadata too; what is not theirs begins."""
    budget(service, "5", "b-1", enforcement="hard", scope={"kind": "tag", "key": "feature", "id": "search"})
    tagged: Json = {"metadata": {"feature": "search"}}
    assert begin(service, "c-1", wanted={"amount": "4"}, **tagged).status_code == 201
    declined = begin(service, "c-2", wanted={"amount": "4"}, **tagged).json()
    assert (declined["code"], declined["missing"], declined["budget"]) == ("budget_exceeded", "3", "b-1")
    assert begin(service, "c-3", wanted={"amount": "4"}, metadata={"feature": "chat"}).status_code == 201
    end(service, "c-1", 100)
    found = service.get("/v1/budgets/b-1", "admin").json()
    assert (found["spent"], found["held"]) == ("1", "0")


def test_an_estimate_is_held_at_the_price_that_holds(service: Service) -> None:
    """What cannot be priced names no amount; either of the two is given."""
    usage = {"input_tokens": 200, "output_tokens": 100}
    assert begin(service, wanted={"estimate": usage}).status_code == 201
    assert sums(service)[2] == "3"
    unpriced = begin(service, "c-2", wanted={"estimate": usage}, model="unheard-of")
    assert (unpriced.status_code, unpriced.json()["code"]) == (400, "no_price")
    for wanted in ({}, {"amount": "1", "estimate": usage}, {"estimate": {"cache_read_tokens": 1}}, {"amount": "0"}):
        refused = begin(service, "c-3", wanted=wanted)
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["path"].startswith("$.hold")


def test_whose_account_it_is(service: Service) -> None:
    """The named one if it may be used, else who pays for the call; without either it says so."""
    make(service, "other", {"kind": "app", "id": OTHER_APP})
    assert begin(service, wanted={"amount": "1", "account": "other"}).status_code == 403
    assert begin(service, wanted={"amount": "1", "account": "nobody"}).status_code == 404
    by_admin = begin(service, caller="admin", wanted={"amount": "1", "account": "other"}, app=APP)
    assert (by_admin.status_code, by_admin.json()["missing"]) == (402, "1")
    lonely = begin(service, "c-9", caller="admin", wanted={"amount": "1"}, app="lonely")
    assert (lonely.status_code, lonely.json()["errors"][0]["path"]) == (400, "$.hold.account")


def test_a_hold_that_is_there_is_not_taken_over(service: Service) -> None:
    """Neither one of its id, nor one that is for this call: 409, and nothing begins."""
    assert hold(service, "1", "c-1")["http"] == 201
    assert begin(service).json()["errors"][0]["path"] == "$.id"
    assert hold(service, "1", "h-2", call_id="c-2")["http"] == 201
    assert begin(service, "c-2").json()["errors"][0]["path"] == "$.call_id"
    assert begin(service, "c-3", wanted={"amount": "6", "expires_in_s": 60}).status_code == 201
    assert service.get("/v1/holds/c-3").json()["expires_at"] == "2026-11-22T12:01:00.000000Z"


def test_parallel_starts_never_take_more_than_there_is(service: Service) -> None:
    """100 at once on a balance for 10: exactly 10 begin."""

    def start(number: int) -> int:
        return begin(service, f"c-{number}", wanted={"amount": "1"}).status_code

    with ThreadPoolExecutor(32) as threads:
        codes = list(threads.map(start, range(100)))
    assert (codes.count(201), codes.count(402)) == (10, 90)
    assert sums(service)[:4] == ("10", "0", "10", "0")
