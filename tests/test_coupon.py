"""Coupons: bearer codes that are shown once, limits that no race passes, times, scopes, bonuses of orders."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.code_guesses import WRONG_A_MINUTE_MAX
from ops.verify import verify
from schema.coupon import code_mask, code_of, digest
from schema.times import DAY_US, HOUR_US, MINUTE_US, format_time
from tests.recharges import a_package, call_back, order, stocked
from tests.serving import APP, NOW_US, OTHER_APP, Json, Service, captured_log, serving

COUPONS = "/v1/coupons"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        stocked(service)
        yield service


def make(service: Service, id_: str = "c-1", **fields: object) -> Json:
    body = {"id": id_, "credits": "5", "code": "SPRING-2026", **fields}
    response = service.post(COUPONS, body, "admin")
    return {"http": response.status_code, **response.json()}


def redeem(
    service: Service, id_: str = "r-1", code: str = "spring2026", account: str = "acc", caller: str = "admin"
) -> Json:
    body = {"id": id_, "code": code}
    response = service.post(f"/v1/accounts/{account}/coupon-redemptions", body, caller)
    return {"http": response.status_code, **response.json()}


def uses(service: Service, id_: str = "c-1") -> int:
    return service.get(f"{COUPONS}/{id_}").json()["uses"]


def test_a_coupon_gives_free_quota_once(service: Service) -> None:
    """As a gift with before and after; the same again gets the first answer; another time is refused."""
    made = make(service, credits_expire_in_days=30, kind="gift_referral")
    assert (made["http"], made["code"], made["uses"]) == (201, "SPRING-2026", 0)
    first = redeem(service, caller=APP)
    assert (first["http"], first["coupon"]) == (201, "c-1")
    credit = first["credit"]
    assert (credit["kind"], credit["amount"], credit["free"], credit["before"], credit["after"]) == (
        "gift_referral", "5", True, "0", "5",
    )  # fmt: skip
    assert credit["expires_at"] == format_time(NOW_US + 30 * DAY_US)
    again = redeem(service, caller=APP)
    assert again == {**first, "http": 200, "credit": {**credit, "duplicate": True}}
    assert redeem(service, "r-2")["code"] == "coupon_unusable"
    assert redeem(service, "r-1", "ANOTHERCODE")["code"] == "id_conflict"
    assert redeem(service, "r-3", account="other")["http"] == 201
    assert uses(service) == 2
    [line] = service.get("/v1/accounts/acc/transactions").json()["items"]
    assert (line["kind"], line["related"]) == ("gift_referral", "coupon:c-1")
    assert verify(service.ledger.path).ok


def test_two_hundred_want_the_last_one(service: Service) -> None:
    """Exactly one gets it, whoever asks and however they interleave."""
    make(service, limit=3, limit_per_account=None)
    for n in range(2):
        assert redeem(service, f"early-{n}")["http"] == 201
    accounts = ["acc", "other"]

    def attempt(n: int) -> int:
        return redeem(service, f"r-{n}", account=accounts[n % 2])["http"]

    with ThreadPoolExecutor(32) as threads:
        found = list(threads.map(attempt, range(200)))
    assert sorted(found) == [201] + [409] * 199
    assert uses(service) == 3
    total = [service.get(f"/v1/accounts/{id_}").json()["free_quota"] for id_ in accounts]
    assert sum(map(int, total)) == 15
    assert verify(service.ledger.path).ok


def test_a_coupon_has_its_time(service: Service) -> None:
    """From its first moment on, up to and without its last."""
    make(service, valid_from=format_time(NOW_US + HOUR_US), valid_until=format_time(NOW_US + 2 * HOUR_US))
    make(service, "never", code="NEVER-EVER", active=False)
    for past_us, http in ((HOUR_US - 1, 409), (HOUR_US, 201), (2 * HOUR_US - 1, 409), (2 * HOUR_US, 409)):
        service.clock.now_us = NOW_US + past_us
        assert redeem(service, f"r-{past_us}")["http"] == http
    service.clock.now_us = NOW_US + 2 * HOUR_US - 1
    assert redeem(service, "r", account="other")["http"] == 201
    assert "not offered" in redeem(service, "n", "NEVEREVER")["detail"]


def test_a_coupon_is_for_whom_it_says(service: Service) -> None:
    """Accounts of its apps; an app redeems only on accounts that it may use."""
    make(service, apps=[OTHER_APP])
    assert redeem(service)["code"] == "coupon_unusable"
    assert redeem(service, caller=OTHER_APP)["code"] == "forbidden"
    assert redeem(service, account="other", caller=OTHER_APP)["http"] == 201
    assert redeem(service, code="NOSUCHCODE")["code"] == "unknown_code"
    assert redeem(service, account="nobody")["code"] == "not_found"


def test_who_guesses_codes_is_made_to_wait(service: Service) -> None:
    """Twenty wrong ones a minute, by redeeming or ordering; others are not kept waiting."""
    make(service)
    for n in range(WRONG_A_MINUTE_MAX):
        wrong = redeem(service, code=f"WRONG-{n}", caller=APP) if n % 2 else order(service, caller=APP, coupon="WRONG")
        assert wrong["code"] == "unknown_code"
    assert redeem(service, caller=APP)["code"] == "too_many_requests"
    assert order(service, caller=APP, coupon="SPRING2026")["code"] == "too_many_requests"
    assert redeem(service, account="other", caller=OTHER_APP)["http"] == 201
    assert service.read("SELECT actor FROM code_guesses") == [(f"key:{APP}",)]
    service.clock.now_us += MINUTE_US
    assert redeem(service, caller=APP)["http"] == 201
    assert redeem(service, "r-2", "WRONG", account="other", caller=OTHER_APP)["code"] == "unknown_code"
    assert service.read("SELECT actor FROM code_guesses") == [(f"key:{OTHER_APP}",)]


def test_no_race_gives_a_guess_more(service: Service) -> None:
    """Sixty wrong codes at once, and then the right one: twenty are answered."""
    make(service)

    def guess(number: int) -> str:
        code: str = redeem(service, f"r-{number}", code=f"WRONG-{number}", caller=APP)["code"]
        return code

    with ThreadPoolExecutor(16) as threads:
        told = Counter(threads.map(guess, range(60)))
    assert told == {"unknown_code": WRONG_A_MINUTE_MAX, "too_many_requests": 60 - WRONG_A_MINUTE_MAX}
    assert redeem(service, caller=APP)["code"] == "too_many_requests"
    assert verify(service.ledger.path).ok


def test_a_clock_that_was_set_back_keeps_nobody_waiting_long(service: Service) -> None:
    """Guesses of a time that is yet to come count for a minute at most."""
    make(service)
    for n in range(WRONG_A_MINUTE_MAX):
        redeem(service, code=f"WRONG-{n}", caller=APP)
    service.clock.now_us -= HOUR_US
    assert redeem(service, caller=APP)["http"] == 201


def test_codes_are_shown_once(service: Service) -> None:
    """In the answer that made it, never again: not in lists, histories, events, logs or the file; drawn ones differ."""
    with captured_log("json", "debug") as log:
        made = make(service, code=None)
        code = made["code"]
        assert len(code.replace("-", "")) == 16
        again = make(service, code=None)
        assert (again["http"], again["duplicate"], again["code"]) == (200, True, f"{code[:2]}****")
        assert make(service, "c-2", code=None)["code"] != code
        assert redeem(service, code=code.lower())["http"] == 201
        order(service, coupon=code)
        texts = [log()]
    paths = (COUPONS, f"{COUPONS}/c-1", f"{COUPONS}/c-1/history", "/v1/events?limit=1000", "/v1/orders")
    texts += [service.get(path).text for path in paths]
    texts += [path.read_bytes().decode("latin-1") for path in service.ledger.path.parent.glob("ledger.db*")]
    assert [text for text in texts if code in text or code.replace("-", "") in text] == []
    assert digest(code) not in service.get(f"{COUPONS}/c-1/history").text


def test_what_is_shown_of_a_code_does_not_give_it_away() -> None:
    """Two of sixteen characters, none of a shorter one."""
    assert code_of(bytes(range(12))) == "AAAQ-EAYE-AUDA-OCAJ"
    assert (code_mask(code_of(bytes(10))), code_mask("SPRING-2026"), code_mask("A-B-C-D-E-F-G-H-I")) == (
        "AA****", "****", "****",
    )  # fmt: skip


def test_a_code_is_one_coupons(service: Service) -> None:
    """However it is written; free again once that coupon is deleted."""
    make(service)
    assert make(service, "c-2", code="spring-20-26")["code"] == "name_taken"
    assert make(service, credits="6")["code"] == "id_conflict"
    etag = service.get(f"{COUPONS}/c-1").headers["etag"]
    assert service.request("DELETE", f"{COUPONS}/c-1", headers={"If-Match": etag}).json()["deleted"] is True
    assert redeem(service)["code"] == "unknown_code"
    assert make(service, "c-2")["http"] == 201
    assert redeem(service)["coupon"] == "c-2"


def test_limits_can_be_raised(service: Service) -> None:
    """By a change on a condition, with a history that says who."""
    make(service, limit=1)
    redeem(service)
    assert redeem(service, "r-2", account="other")["code"] == "coupon_unusable"
    etag = service.get(f"{COUPONS}/c-1").headers["etag"]
    changed = service.request("PATCH", f"{COUPONS}/c-1", json={"limit": 2}, headers={"If-Match": etag})
    assert (changed.json()["limit"], changed.json()["uses"]) == (2, 1)
    assert redeem(service, "r-2", account="other")["http"] == 201
    stale = service.request("PATCH", f"{COUPONS}/c-1", json={"limit": 3}, headers={"If-Match": etag})
    assert stale.status_code == 412


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"bonus_percent": "5"}, "$.credits"),
        ({"credits": None}, "$.credits"),
        ({"credits": "0"}, "$.credits"),
        ({"credits": None, "bonus_percent": "0"}, "$.bonus_percent"),
        ({"credits": None, "bonus_percent": "5", "credits_expire_in_days": 1}, "$.credits_expire_in_days"),
        ({"packages": ["small"]}, "$.packages"),
        ({"valid_from": "2026-11-22T12:00:00Z", "valid_until": "2026-11-22T12:00:00Z"}, "$.valid_until"),
        ({"code": "a-b-"}, "$.code"),
        ({"code": "a b c d"}, "$.code"),
        ({"limit": 0}, "$.limit"),
        ({"code_sha256": "0"}, "$"),
    ],
)
def test_what_makes_no_coupon_is_refused(service: Service, fields: Json, path: str) -> None:
    """With the place."""
    refused = make(service, **fields)
    assert (refused["http"], refused["errors"][0]["path"]) == (400, path)


def test_an_orders_coupon_gives_a_percentage_more(service: Service) -> None:
    """Of the credits without the package's bonus, at the same price; it is used when it is placed."""
    make(service, credits=None, bonus_percent="12.5", packages=["small"])
    placed = order(service, coupon="SPRING2026")
    assert (placed["amount_minor"], placed["coupon"], placed["coupon_credits"]) == (999, "c-1", "125")
    assert uses(service) == 1
    assert order(service, coupon="SPRING-2026")["duplicate"] is True
    assert order(service)["code"] == "id_conflict"
    assert order(service, "o-2", coupon="SPRING2026")["code"] == "coupon_unusable"
    call_back(service, "pay_1", "o-1")
    assert service.get("/v1/accounts/acc").json()["balance"] == "1225"
    assert uses(service) == 1
    assert redeem(service, account="other")["code"] == "coupon_unusable"
    service.post("/v1/packages", a_package("big"), "admin")
    assert order(service, "o-3", package="big", account="other", coupon="SPRING2026")["code"] == "coupon_unusable"
    make(service, "gift", code="GIFT-GIFT")
    assert order(service, "o-4", coupon="GIFTGIFT")["code"] == "coupon_unusable"
    assert verify(service.ledger.path).ok


def test_an_order_that_is_given_up_frees_its_coupon(service: Service) -> None:
    """Cancelled or expired, another may use it; a late payment gets the bonus only if a use is left."""
    make(service, credits=None, bonus_percent="10", limit=1, limit_per_account=None)
    order(service, "o-1", coupon="SPRING2026")
    service.post("/v1/orders/o-1/cancel", {}, APP)
    assert uses(service) == 0
    expires_at = order(service, "o-2", coupon="SPRING2026")["expires_at"]
    service.clock.now_us += HOUR_US
    assert expires_at < format_time(service.clock())
    call_back(service, "pay_2", "o-2")
    assert (service.get("/v1/accounts/acc").json()["balance"], uses(service)) == ("1200", 1)
    etag = service.get(f"{COUPONS}/c-1").headers["etag"]
    service.request("PATCH", f"{COUPONS}/c-1", json={"limit": 2}, headers={"If-Match": etag})
    order(service, "o-3", coupon="SPRING2026")
    service.clock.now_us += HOUR_US
    etag = service.get(f"{COUPONS}/c-1").headers["etag"]
    service.request("PATCH", f"{COUPONS}/c-1", json={"active": False}, headers={"If-Match": etag})
    call_back(service, "pay_3", "o-3")
    assert (service.get("/v1/accounts/acc").json()["balance"], uses(service)) == ("2300", 1)
    assert verify(service.ledger.path).ok
