"""Rates over HTTP: set once, marked, read by role, their history, and many re-priced at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.commands.model_rate import MARKS_MAX, deprecate
from ledger.decision import WorkingSet
from schema.entry import Recorded
from schema.errors import InvalidInput
from schema.model_rate import SOURCE, DeprecateModelRate, ModelRateDeprecated, ModelRateSet
from schema.times import DAY_US, HOUR_US
from tests.serving import APP, NOW, NOW_US, Json, Service, at, serving

RATES, PRICES = "/v1/model-rates", "/v1/model-prices"
HISTORY, REPRICE = f"{RATES}/history", f"{RATES}/reprice"
JANUARY = "2026-01-01T00:00:00.000000Z"
NIGHT = {"start": "22:00", "end": "06:00"}
TIERS = [{"above": 9, "input": "3"}]
VENDOR = {"input": "0.000002", "output": "0.000008"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def a_rate(id_: str = "r-1", **fields: Any) -> Json:  # noqa: ANN401 - a rate's fields
    named = {
        "provider": "openai",
        "model": "gpt-4o",
        "effective_from": JANUARY,
        "input": "0.000003",
        "output": "0.00001",
    }
    return {"id": id_, **named, **fields}


def set_rates(service: Service, *rates: Json) -> None:
    for rate in rates:
        response = service.post(RATES, rate, "admin")
        assert response.status_code == 201, response.text


def ids(service: Service, query: str = "", caller: str = "admin") -> list[str]:
    response = service.get(f"{RATES}?{query}", caller)
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


# Setting


def test_a_rate_is_set_once(service: Service) -> None:
    """A receipt with the position of its event; the same again, in any spelling, gets the first one."""
    first = service.post(RATES, a_rate(), "admin")
    again = service.post(RATES, a_rate(input="0.0000030", effective_from="2026-01-01T01:00:00+01:00"), "admin")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "duplicate": True}
    assert first.json() == {
        "id": "r-1", "position": service.position(), "recorded_at": NOW, "effective_from": JANUARY, "duplicate": False,
    }  # fmt: skip
    [event] = service.get("/v1/events?type=model_rate.set.v1").text.splitlines()
    assert '"subject":"model_rate/r-1"' in event


def test_other_content_under_the_same_id_is_a_conflict(service: Service) -> None:
    set_rates(service, a_rate())
    response = service.post(RATES, a_rate(input="1", type="embedding"), "admin")
    assert (response.status_code, response.json()["code"]) == (409, "id_conflict")
    assert {error["path"] for error in response.json()["errors"]} == {"$.input", "$.type"}


def test_without_a_date_a_rate_holds_from_now_on(service: Service) -> None:
    """Posted again later it is still the same."""
    first = service.post(RATES, a_rate(effective_from=None), "admin").json()
    service.clock.now_us += HOUR_US
    again = service.post(RATES, a_rate(effective_from=None), "admin")
    assert first["effective_from"] == NOW
    assert (again.status_code, again.json()["effective_from"]) == (200, NOW)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$"), ([a_rate()], "$"), (a_rate(input=0.5), "$.input"), (a_rate(inputs="1"), "$"),
        (a_rate("a b"), "$.id"),
        (a_rate(input=None, output=None), "$.input"), (a_rate(mode="auto", markup="2"), "$.markup"),
        (a_rate(repriced={"before": 1}), "$"), (a_rate(effective_from="soon"), "$.effective_from"),
    ],
)  # fmt: skip
def test_a_bad_rate_is_refused(service: Service, body: object, path: str) -> None:
    response = service.post(RATES, body, "admin")
    assert response.status_code == 400
    assert [error["path"] for error in response.json()["errors"]] == [path]
    assert service.get(RATES).json()["items"] == []


def test_only_json_is_taken(service: Service) -> None:
    assert service.send(b"{}", "admin", path=RATES, content_type="application/x-ndjson").status_code == 415
    assert service.send(b"{", "admin", path=RATES).json()["code"] == "malformed_json"


@pytest.mark.parametrize("caller", ["auditor", "dashboard", APP])
def test_only_an_admin_changes_rates(service: Service, caller: str) -> None:
    for path in (RATES, REPRICE, f"{RATES}/r-1/deprecate"):
        assert service.post(path, {}, caller).status_code == 403


# Reading


def test_a_rate_is_read_as_it_was_set(service: Service) -> None:
    set_rates(service, a_rate(vendor=VENDOR, tiers=[{"above": 9, "input": "1"}], description="a\nb"))
    view = service.get(f"{RATES}/r-1").json()
    assert view["position"] == service.position()
    assert (view["input"], view["vendor"], view["tiers"]) == ("0.000003", VENDOR, [{"input": "1", "above": 9}])
    assert (view["deprecated"], view["type"], view["cache_read"], view["mode"]) == (False, None, None, "manual")
    assert service.get(f"{RATES}/r-2").status_code == 404
    assert service.get(f"{RATES}/r%202").status_code == 400


def test_an_app_does_not_see_what_the_vendor_asks(service: Service) -> None:
    """Nor what would tell it: the markup, the list, free data."""
    private: Json = {"vendor": VENDOR, "mode": "upstream", "markup": "1.5", "metadata": {"deal": "x"}}
    listed = {"source": "a", "version": "b", "hash": "c"}
    set_rates(service, a_rate(input=None, output=None, listed=listed, **private))
    for path in (RATES, f"{RATES}/r-1"):
        for caller in ("admin", "auditor", "dashboard", APP):
            answer = service.get(path, caller).json()
            view = answer["items"][0] if "items" in answer else answer
            hidden = caller == APP
            assert [view[name] is None for name in ("vendor", "markup", "listed", "metadata")] == [hidden] * 4
            assert view["input"] == "0.000003"
    assert service.get(f"{HISTORY}?provider=openai&model=gpt-4o", APP).status_code == 403


def test_lists_filter(service: Service) -> None:
    set_rates(
        service,
        a_rate("a"),
        a_rate("b", provider="anthropic"),
        a_rate("c", model="o1", type="embedding"),
        a_rate("d", mode="auto", effective_from="2026-02-01T00:00:00Z"),
    )
    service.post(f"{RATES}/b/deprecate", {"deprecated": True}, "admin")
    assert ids(service) == ["d", "c", "b", "a"]
    assert ids(service, "provider=anthropic") == ["b"]
    assert ids(service, "model=gpt-4o") == ["d", "b", "a"]
    assert ids(service, "type=embedding") == ["c"]
    assert ids(service, "mode=auto") == ["d"]
    assert ids(service, "deprecated=true") == ["b"]
    assert ids(service, "deprecated=false&current=true") == ["d", "c"]
    assert ids(service, "current=true") == ["d", "c", "b"]
    assert ids(service, "current=false&provider=openai") == ["d", "c", "a"]
    assert service.get(f"{RATES}?providers=x").status_code == 400


def test_current_is_the_one_that_holds_now(service: Service) -> None:
    """Not one from later on, not one outside its hours, and of equals the later posted."""
    window = {"start": "12:00", "end": "13:00"}
    set_rates(
        service,
        a_rate("base"),
        a_rate("equal"),
        a_rate("noon", daily_window=window, effective_from="2026-02-01T00:00:00Z"),
        a_rate("tomorrow", effective_from=at(NOW_US + DAY_US)),
        a_rate("any", type="video"),
    )
    assert ids(service, "current=true") == ["any", "noon"]
    service.clock.now_us = NOW_US + HOUR_US
    assert ids(service, "current=true") == ["any", "equal"]
    service.clock.now_us = NOW_US + DAY_US
    assert ids(service, "current=true") == ["any", "tomorrow"]


@pytest.mark.parametrize("query", ["", "&current=true"])
def test_pages_are_stable_under_inserts(service: Service, query: str) -> None:
    set_rates(service, *(a_rate(f"r-{n}", model=f"m-{n}") for n in range(5)))
    seen: list[str] = []
    following = ""
    for n in range(3):
        page = service.get(f"{RATES}?limit=2{query}{following}").json()
        seen += [item["id"] for item in page["items"]]
        set_rates(service, a_rate(f"new-{n}", model=f"new-{n}"))
        assert (page["next_cursor"] is None) == (n == 2)
        following = f"&cursor={page['next_cursor']}"
    assert seen == ["r-4", "r-3", "r-2", "r-1", "r-0"]
    assert service.get(f"{RATES}?cursor=x").status_code == 400


def test_public_prices_are_what_is_charged_now(service: Service) -> None:
    """For every role, by name, without anything of the vendor's."""
    set_rates(
        service,
        a_rate("old", vendor=VENDOR),
        a_rate("new", input="0.000004", effective_from="2026-02-01T00:00:00Z", vendor=VENDOR, metadata={"deal": 1}),
        a_rate("later", effective_from=at(NOW_US + 1)),
        a_rate("typed", type="embedding", lines={"web_searches": "0.01"}, display_name="GPT-4o"),
        a_rate("other", provider="anthropic", model="opus"),
    )
    for caller in ("admin", "auditor", "dashboard", APP):
        items = service.get(PRICES, caller).json()["items"]
        found = [(item["provider"], item["model"], item["type"], item["input"]) for item in items]
        assert found == [
            ("anthropic", "opus", None, "0.000003"), ("openai", "gpt-4o", None, "0.000004"),
            ("openai", "gpt-4o", "embedding", "0.000003"),
        ]  # fmt: skip
        assert all(not {"vendor", "markup", "metadata", "id", "position"} & item.keys() for item in items)
    assert [item["lines"] for item in items] == [None, None, {"web_searches": "0.01"}]
    assert [each["model"] for each in service.get(f"{PRICES}?provider=anthropic").json()["items"]] == ["opus"]
    assert len(service.get(f"{PRICES}?model=gpt-4o", APP).json()["items"]) == 2
    page = service.get(f"{PRICES}?limit=2", APP).json()
    rest = service.get(f"{PRICES}?limit=2&cursor={page['next_cursor']}", APP).json()
    assert page["items"] + rest["items"] == items
    assert rest["next_cursor"] is None


# History and marks


def test_history_is_in_the_order_of_effect(service: Service) -> None:
    """Who, when, and by how many percent each price moved from the one before of the same type."""
    set_rates(service, a_rate("march", effective_from="2026-03-01T00:00:00Z", input="0.000002", cache_read="0"))
    service.clock.now_us += HOUR_US
    set_rates(service, a_rate("january"), a_rate("video", type="video", effective_from="2026-02-01T00:00:00Z"))
    set_rates(service, a_rate("april", effective_from="2026-04-01T00:00:00Z", input="0.000003", cache_read="1"))
    items = service.get(f"{HISTORY}?provider=openai&model=gpt-4o", "auditor").json()["items"]
    assert [item["id"] for item in items] == ["january", "video", "march", "april"]
    assert [item["moved"] for item in items] == [
        {"input": None, "output": None},
        {"input": None, "output": None},
        {"input": "-33.3333", "output": "0", "cache_read": None},
        {"input": "50", "output": "0", "cache_read": None},
    ]
    assert {item["actor"] for item in items} == {"key:admin"}
    assert [item["recorded_at"] == NOW for item in items] == [False, False, True, False]
    [video] = service.get(f"{HISTORY}?provider=openai&model=gpt-4o&type=video").json()["items"]
    assert video["id"] == "video"


def test_history_pages_and_names_what_it_needs(service: Service) -> None:
    set_rates(
        service, *(a_rate(f"r-{n}", input=f"{n + 1}", effective_from=f"2026-01-0{n + 1}T00:00:00Z") for n in range(3))
    )
    first = service.get(f"{HISTORY}?provider=openai&model=gpt-4o&limit=2").json()
    second = service.get(f"{HISTORY}?provider=openai&model=gpt-4o&cursor={first['next_cursor']}").json()
    assert [item["moved"]["input"] for item in first["items"] + second["items"]] == [None, "100", "50"]
    assert second["next_cursor"] is None
    missing = service.get(HISTORY)
    assert missing.status_code == 400
    assert [error["path"] for error in missing.json()["errors"]] == ["$.provider", "$.model"]


def test_a_rate_is_marked_and_offered_again(service: Service) -> None:
    """Marking it the same again changes nothing; it prices as before."""
    set_rates(service, a_rate())
    path = f"{RATES}/r-1/deprecate"
    first = service.post(path, {"deprecated": True, "reason": "replaced"}, "admin")
    again = service.post(path, {"deprecated": True, "reason": "replaced"}, "admin")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "duplicate": True}
    view = service.get(f"{RATES}/r-1").json()
    assert (view["deprecated"], view["deprecated_reason"], view["position"]) == (
        True,
        "replaced",
        service.position() - 1,
    )
    assert ids(service, "current=true") == ["r-1"]
    assert service.get(PRICES, APP).json()["items"][0]["deprecated"] is True
    assert service.post(path, {"deprecated": False}, "admin").status_code == 201
    assert service.get(f"{RATES}/r-1").json()["deprecated"] is False
    assert service.post(f"{RATES}/r-2/deprecate", {}, "admin").status_code == 404
    assert service.post(path, {"reason": "a\nb"}, "admin").status_code == 400


def test_a_rate_is_marked_a_bounded_number_of_times() -> None:
    """At the limit the same mark is still a repetition, another one is refused."""
    ws = WorkingSet()

    def known(id_: str, data: ModelRateSet | ModelRateDeprecated) -> None:
        ws.evolve(Recorded(1, 0, SOURCE, id_, "t", "s", 0, "a", data))

    known("r", ModelRateSet(id="r", provider="p", model="m"))
    for n in range(MARKS_MAX):
        known(f"r/mark/{n}", ModelRateDeprecated(id="r", deprecated=n % 2 == 0))
    same = DeprecateModelRate(actor="a", received_at_us=0, data=ModelRateDeprecated(id="r", deprecated=False))
    assert deprecate(ws, same).first is not None
    other = DeprecateModelRate(actor="a", received_at_us=0, data=ModelRateDeprecated(id="r", deprecated=True))
    with pytest.raises(InvalidInput):
        deprecate(ws, other)


# Re-pricing


def stock(service: Service) -> None:
    """Rates with vendor prices, without, of two providers, with a window, deprecated, and too small."""
    set_rates(
        service,
        a_rate("superseded", vendor={"input": "9"}),
        a_rate("base", effective_from="2026-02-01T00:00:00Z", vendor=VENDOR, metadata={"kept": 1}),
        a_rate("night", effective_from="2026-03-01T00:00:00Z", vendor=VENDOR, daily_window=NIGHT),
        a_rate("auto", model="o1", mode="auto", input="0.0000015", output="0.000006", tiers=TIERS),
        a_rate("plain", model="o2"),
        a_rate("small", model="o3", vendor={"input": "0.00000000001"}),
        a_rate("gone", model="o4", vendor=VENDOR),
        a_rate("future", model="o1", effective_from=at(NOW_US + DAY_US), vendor=VENDOR),
        a_rate("other", provider="anthropic", model="opus", vendor={"input": "0.0000033333", "per_call": "0.1"}),
    )  # fmt: skip
    service.post(f"{RATES}/gone/deprecate", {}, "admin")


def reprice(service: Service, status: int, **fields: Any) -> Json:  # noqa: ANN401 - a request's fields
    response = service.post(REPRICE, {"id": "q", "margin_percent": "20", **fields}, "admin")
    assert response.status_code == status, response.text
    return response.json()


def told(result: Json) -> Json:
    return {name: result[name] for name in ("id", "effective_from", "items", "skipped")}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"provider": "openai", "credit_price": "0.01"},
        {"models": ["opus", "o1", "o1", "unknown"], "margin_percent": "12.345678", "credit_price": "7.3"},
        {"effective_from": at(NOW_US + DAY_US)},
        {"effective_from": "2026-01-15T00:00:00Z", "margin_percent": "0"},
    ],
)
def test_a_dry_run_is_what_is_done(service: Service, fields: Json) -> None:
    """The preview, the application and its repetition tell the same; the stored rates are what was told."""
    stock(service)
    head = service.position()
    preview = reprice(service, 200, dry_run=True, **fields)
    assert service.position() == head
    done = reprice(service, 201, **fields)
    assert (preview["dry_run"], done["dry_run"], done["duplicate"]) == (True, False, False)
    assert told(done) == told(preview)
    assert done["items"]
    for item in done["items"]:
        view = service.get(f"{RATES}/{item['id']}").json()
        assert {name: view[name] for name in item["after"]} == item["after"]
        assert (view["mode"], view["effective_from"]) == ("manual", done["effective_from"])
    assert service.position() == head + len(done["items"])
    service.clock.now_us += HOUR_US
    service.post(f"{RATES}/plain/deprecate", {}, "admin")
    service.post(f"{RATES}/{done['items'][0]['id']}/deprecate", {}, "admin")
    head = service.position()
    again = reprice(service, 200, **fields)
    assert told(again) == told(done)
    assert again["duplicate"] is True
    assert service.position() == head


def test_new_prices_are_the_vendors_with_the_margin_in_credits(service: Service) -> None:
    """.0000033333 × 1.2 / .3 = .0000133332, .1 × 1.2 / .3 = .4; of .000002 × 1.2 / .3 the charged price is .000008."""
    stock(service)
    result = reprice(service, 201, credit_price="0.3", models=["opus", "gpt-4o", "o1"])
    found = [(item["provider"], item["model"], item["before"], item["after"]) for item in result["items"]]
    old = {"input": "0.000003", "output": "0.00001"}
    new = {"input": "0.000008", "output": "0.000032"}
    assert found == [
        ("anthropic", "opus", old, {"input": "0.0000133332", "per_call": "0.4"}),
        ("openai", "gpt-4o", old, new),
        ("openai", "gpt-4o", old, new),
        (
            "openai", "o1",
            {"input": "0.0000015", "output": "0.000006", "tiers": [{"input": "3", "above": 9}]},
            {"input": "0.000006", "output": "0.000024", "tiers": [{"input": "12", "above": 9}]},
        ),
    ]  # fmt: skip
    assert result["items"][3]["margin"] == {"input": "20", "output": "20", "above 9: input": "20"}


@pytest.mark.parametrize(
    ("vendor", "margin", "credit", "after", "real"),
    [
        ("0.0000000001", "50", "1", "0.0000000002", "100"),  # 1.5e-10, half up
        ("0.0000000001", "49.999999", "1", "0.0000000001", "0"),
        ("0.000000000149", "0", "1", "0.0000000001", "-32.8859"),
        ("1", "0", "3", "0.3333333333", "0"),  # 99.99999999 % of the vendor's: 0 at four decimals
        ("2", "0", "3", "0.6666666667", "0"),
        ("1", "20", "0.000001", "1.2e6", None),
    ],
)
def test_prices_are_rounded_to_ten_decimals(
    service: Service, vendor: str, margin: str, credit: str, after: str, real: str | None
) -> None:
    set_rates(service, a_rate(vendor={"input": vendor}))
    if real is None:
        assert (
            reprice(service, 400, margin_percent=margin, credit_price=credit)["errors"][0]["path"] == "$.margin_percent"
        )
        return
    [item] = reprice(service, 201, margin_percent=margin, credit_price=credit)["items"]
    assert (item["after"], item["margin"]) == ({"input": after}, {"input": real})


def test_what_is_left_alone_is_reported(service: Service) -> None:
    stock(service)
    skipped = reprice(service, 201, provider="openai")["skipped"]
    assert [(each["id"], each["reason"]) for each in skipped] == [
        ("plain", "no_vendor_prices"), ("small", "rounds_to_zero"), ("gone", "deprecated"),
    ]  # fmt: skip


def test_conditions_stay_as_they_were(service: Service) -> None:
    """The rate of the night still holds at night, that of the day by day."""
    stock(service)
    result = reprice(service, 201, models=["gpt-4o"])
    views = [service.get(f"{RATES}/{item['id']}").json() for item in result["items"]]
    assert [view["daily_window"] for view in views] == [None, NIGHT]
    assert [view["metadata"] for view in views] == [{"kept": 1}, None]
    assert [view["vendor"] for view in views] == [VENDOR, VENDOR]
    assert ids(service, "current=true&model=gpt-4o") == ["q:1"]
    service.clock.now_us += 11 * HOUR_US
    assert ids(service, "current=true&model=gpt-4o") == ["q:2"]


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"margin_percent": "21"}, "$.margin_percent"),
        ({"credit_price": "2"}, "$.credit_price"),
        ({"provider": "openai"}, "$.provider"),
        ({"models": ["gpt-4o"]}, "$.models"),
        ({"effective_from": JANUARY}, "$.effective_from"),
    ],
)
def test_another_request_under_the_same_id_is_a_conflict(service: Service, changed: Json, path: str) -> None:
    stock(service)
    reprice(service, 201)
    answer = reprice(service, 409, **changed)
    assert (answer["code"], [error["path"] for error in answer["errors"]]) == ("id_conflict", [path])


def test_the_same_request_in_other_words_is_the_same(service: Service) -> None:
    stock(service)
    reprice(service, 201, models=["opus", "gpt-4o"], credit_price="1.0")
    assert reprice(service, 200, models=["gpt-4o", "opus", "opus"], margin_percent="20.00", effective_from=NOW)[
        "duplicate"
    ]


def test_all_of_it_or_none(service: Service) -> None:
    """A rate that was posted under an id that it needs stops it before anything is set."""
    stock(service)
    set_rates(service, a_rate("q:2", model="x"))
    head = service.position()
    assert reprice(service, 409)["code"] == "id_conflict"
    assert service.position() == head
    set_rates(service, a_rate("q:1", model="y"))
    assert reprice(service, 409)["code"] == "id_conflict"


def test_what_makes_no_rate_leaves_its_id_free(service: Service) -> None:
    set_rates(service, a_rate("plain"))
    assert reprice(service, 200)["items"] == []
    set_rates(service, a_rate("r-1", vendor=VENDOR))
    assert len(reprice(service, 201)["items"]) == 1


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"margin_percent": "-1"}, "$.margin_percent"), ({"margin_percent": 20}, "$.margin_percent"),
        ({"credit_price": "0"}, "$.credit_price"), ({"credit_price": "0.0"}, "$.credit_price"),
        ({"models": []}, "$.models"),
        ({"effective_from": "now"}, "$.effective_from"), ({"id": "x" * 121}, "$.id"), ({"dry": True}, "$"),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused(service: Service, fields: Json, path: str) -> None:
    assert [error["path"] for error in reprice(service, 400, **fields)["errors"]] == [path]
