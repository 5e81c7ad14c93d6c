"""Accounts, budgets, credentials and deliveries on the dashboard: what the API says, to whom it says it."""

import csv
import io
import time
from collections.abc import Callable, Iterator
from itertools import product, zip_longest
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from axe_playwright_python import sync_playwright as axe  # pyright: ignore[reportMissingTypeStubs]
from playwright.sync_api import Browser, expect

from schema.times import format_time
from tests.browser import Window, browsing
from tests.payment import SECRET, payment
from tests.receiver import receiving
from tests.serving import APP, CALLS, OTHER_APP, Json, LiveServer, a_call, bearer, key_text, live_server, prepare

VIEWS = (
    "accounts",
    "accounts&account=team-a",
    "budgets",
    "credentials",
    "deliveries",
    "deliveries&webhook=broken",
    "health",
)
LOOKS = [*product(VIEWS, ("light", "dark"), ("en",)), *product(VIEWS, ("light",), ("zh",))]
CLOSED = {"dashboard": {"deliveries"}, APP: {"budgets", "credentials", "deliveries"}}
RATE = {"id": "r", "provider": "openai", "model": "gpt-4o", "effective_from": "2020-01-01T00:00:00Z",
        "input": "0.0001", "output": "0.0003"}  # fmt: skip
NOW_US = time.time_ns() // 1_000
WAIT_S = 20
SPACES = str.maketrans("", "", "\u2007,")


def asked(server: LiveServer, path: str, caller: str = "admin") -> Json:
    response = httpx.get(f"{server.url}{path}", headers=bearer(caller))
    response.raise_for_status()
    return response.json()


def post(server: LiveServer, path: str, body: object) -> None:
    httpx.post(f"{server.url}{path}", json=body, headers=bearer("admin")).raise_for_status()


def wait_for(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fill(server: LiveServer, hook: str, broken: str) -> None:
    """Accounts in every state, budgets crossed and not, credentials of each status, webhooks that take and refuse."""
    post(server, "/v1/model-rates", RATE)
    for id_, url in (("audit-log", hook), ("broken", broken)):
        post(server, "/v1/webhooks", {"id": id_, "url": url, "events": ["model_call.*"], "secret": SECRET})
    post(server, "/v1/accounts", {"id": "team-a", "owner": {"kind": "app", "id": APP}, "low_balance": "2"})
    post(
        server, "/v1/accounts", {"id": "u-7", "owner": {"kind": "user", "id": "u-7", "app": APP}, "overdraft": "unheld"}
    )
    post(server, "/v1/accounts", {"id": "reserve", "owner": {"kind": "team", "id": "finance"}})
    post(server, "/v1/accounts", {"id": "other", "owner": {"kind": "app", "id": OTHER_APP}})
    post(server, "/v1/accounts/team-a/credits", {"id": "c-1", "kind": "recharge", "amount": "3.25"})
    post(server, "/v1/accounts/team-a/credits", {"id": "c-2", "kind": "gift_register", "amount": "0.5", "free": True})
    post(server, "/v1/accounts/reserve/credits", {"id": "c-3", "kind": "recharge", "amount": "1250"})
    post(server, "/v1/accounts/team-a/holds", {"id": "h-1", "amount": "0.75", "app": APP})
    post(server, "/v1/budgets", {"id": "shop-day", "scope": {"kind": "app", "id": APP}, "amount": "2", "period": "day"})
    post(server, "/v1/budgets", {"id": "ide-month", "scope": {"kind": "app", "id": OTHER_APP}, "amount": "40.5",
                                 "period": "month", "enforcement": "hard"})  # fmt: skip
    post(server, "/v1/providers", {"id": "openai", "name": "OpenAI", "type": "openai"})
    for id_, more in (("main", {"daily_limit": 10}), ("spare", {"enabled": False}), ("full", {"monthly_limit": 1})):
        body = {"id": id_, "secret": {"api_key": f"sk-{id_}-0123456789"}, **more}
        post(server, "/v1/providers/openai/credentials", body)
    for n in range(10):
        post(server, "/v1/credentials/lease", {"provider": "openai", "id": f"l-{n}"})
    calls = [_call(n) for n in range(30)]
    post(server, CALLS, calls)
    wait_for(lambda: asked(server, "/v1/webhooks/broken")["delivery"]["dead_letters"] > 0)
    wait_for(lambda: asked(server, "/v1/webhooks/audit-log")["delivery"]["delivered"] >= len(calls))
    wait_for(lambda: asked(server, "/v1/usage-reports/status")["batches"].get("dead", 0) > 0)


def _call(n: int) -> Json:
    return a_call(
        f"call-{n}", app=OTHER_APP if n % 3 == 2 else APP, user_id="u-7" if n % 3 == 1 else None,
        credential_id="main", started_at=format_time(NOW_US - n * 1_000_000),
        usage={"input_tokens": 1_000 + n, "output_tokens": 50},
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    data_dir = tmp_path_factory.mktemp("lists")
    prepare(data_dir)
    with receiving() as hook, receiving() as broken, payment() as system:
        hook.secrets, broken.chance, system.chance = [SECRET], 1.0, 0.0
        system.faults = ["refuse"]
        settings = {"payment_system": "webhook", "payment_url": system.url, "payment_secret": SECRET,
                    "report_interval_s": 0.1, "webhook_attempts_max": 1}  # fmt: skip
        with live_server(data_dir, **settings) as server:
            fill(server, hook.url, broken.url)
            yield server


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    data_dir = tmp_path_factory.mktemp("empty")
    prepare(data_dir)
    with live_server(data_dir) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def signed_in(browser: Browser, server: LiveServer, caller: str) -> Window:
    window = Window(browser.new_context(locale="en-GB", timezone_id="Europe/Berlin"), server.url)
    window.sign_in(key_text(caller))
    return window


@pytest.fixture(scope="module")
def admins(browser: Browser, server: LiveServer) -> Iterator[Window]:
    window = signed_in(browser, server, "admin")
    yield window
    window.context.close()


@pytest.fixture
def window(admins: Window) -> Window:
    admins.complaints.clear()
    return admins


def serious(window: Window) -> list[object]:
    found: list[Json] = cast("Any", axe).Axe().run(window.page).response["violations"]
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found
            if each["impact"] in {"serious", "critical"}]  # fmt: skip


def shown(window: Window, panel: str) -> dict[str, dict[str, str]]:
    """A panel's table by the first column; figures without their spacing."""
    place = f"section[aria-label='{panel}']"
    names = window.texts(f"{place} thead th")
    lines = [row.split("\t") for row in window.texts(f"{place} tbody tr")]
    return {line[0].strip(): dict(zip_longest(names, (each.strip() for each in line), fillvalue="")) for line in lines}


def figure(text: str) -> str:
    """As the API has it: no separators, no filled-up decimals."""
    plain = text.translate(SPACES).replace("−", "-")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


@pytest.mark.parametrize(("view", "scheme", "locale"), LOOKS)
def test_each_view_is_whole_silent_and_accessible(window: Window, view: str, scheme: Any, locale: str) -> None:  # noqa: ANN401
    """It draws what it has, logs no error, asks nobody else, leaves no word untranslated, and axe finds nothing."""
    window.page.emulate_media(color_scheme=scheme)
    window.open(f"/?view={view}")
    window.page.select_option("select[name=language]", locale)
    window.settled()
    assert window.page.locator("tbody tr").count() > 0
    words = [*window.texts("thead th"), *window.texts(".card dt"), *window.texts("h2"), *window.texts("nav a")]
    assert [word for word in words if "_" in word or not word] == []
    assert serious(window) == []
    assert (window.complaints, window.strangers) == ([], [])
    window.page.select_option("select[name=language]", "en")


def test_accounts_say_what_the_api_says(window: Window, server: LiveServer) -> None:
    window.open("/?view=accounts")
    rows = shown(window, "Accounts")
    items = asked(server, "/v1/accounts?figures=true")["items"]
    expect(window.page.get_by_role("button", name="More")).to_be_hidden()
    assert set(rows) == {item["id"] for item in items} == {"team-a", "u-7", "reserve", "other"}
    columns = {"Balance": "balance", "Free quota": "free_quota", "Held": "held", "Available": "available",
               "Owed": "owed", "Spent": "spent"}  # fmt: skip
    for item in items:
        one = asked(server, f"/v1/accounts/{item['id']}")
        assert {name: figure(rows[item["id"]][name]) for name in columns} == {
            name: one[field] for name, field in columns.items()
        }
    assert rows["team-a"]["Days left"] == str(asked(server, "/v1/accounts/team-a/forecast")["days_left"])
    assert rows["reserve"]["Days left"] == "–"
    assert {id_: row["State"] for id_, row in rows.items()} == {
        "other": "Low",
        "reserve": "",
        "team-a": "",
        "u-7": "Low",
    }
    assert figure(rows["u-7"]["Balance"]).startswith("-")


def test_an_account_shows_its_statement_and_its_file(window: Window, server: LiveServer) -> None:
    """By keyboard alone; the file has what the API has."""
    window.open("/?view=accounts")
    link = window.page.get_by_role("link", name="team-a")
    link.focus()
    window.page.keyboard.press("Enter")
    window.page.wait_for_url("**account=team-a**")
    window.settled()
    lines = asked(server, "/v1/accounts/team-a/transactions?limit=1000")["items"]
    assert window.page.locator("section[aria-label=Statement] tbody tr").count() == len(lines) > 2
    with window.page.expect_download() as download:
        window.page.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))
    assert [(row["No."], row["Amount"], row["After"]) for row in rows] == [
        (str(line["sequence"]), line["amount"], line["after"]) for line in lines
    ]
    assert any(row["Amount"].startswith("-") for row in rows)
    window.page.get_by_role("link", name="Back").click()
    window.settled()
    assert "account" not in parse_qs(urlsplit(window.page.url).query)


def test_budgets_say_what_the_api_says(window: Window, server: LiveServer) -> None:
    window.open("/?view=budgets")
    rows = shown(window, "Budgets")
    items = {item["id"]: item for item in asked(server, "/v1/budgets")["items"]}
    assert set(rows) == set(items) == {"shop-day", "ide-month"}
    for id_, item in items.items():
        assert [figure(rows[id_][name]) for name in ("Amount", "Spent", "Held", "Remaining")] == [
            item[name] for name in ("amount", "spent", "held", "remaining")
        ]
    assert rows["shop-day"]["Crossed"] == "80 %, 100 %"
    assert (rows["ide-month"]["Crossed"], rows["ide-month"]["Thresholds"]) == ("–", "80 %, 100 %")
    spent = items["shop-day"]["spent"]
    assert rows["shop-day"]["Used"] == f"{float(spent) * 50:.1f} %"
    window.page.select_option("select[name=enforcement]", "hard")
    window.page.wait_for_url("**enforcement=hard**")
    window.settled()
    assert set(shown(window, "Budgets")) == {"ide-month"}
    window.page.reload()
    window.settled()
    assert window.page.input_value("select[name=enforcement]") == "hard"


def test_credentials_say_how_they_stand(window: Window, server: LiveServer) -> None:
    """Status, how much of which quota is lent and when it begins anew; no secret, masked or not."""
    window.open("/?view=credentials")
    rows = shown(window, "Credentials")
    items = {item["id"]: item for item in asked(server, "/v1/credentials")["items"]}
    assert {id_: row["Status"] for id_, row in rows.items()} == {
        "main": "normal", "spare": "disabled", "full": "monthly limit",
    }  # fmt: skip
    daily = items["main"]["usage"]["daily"]
    assert rows["main"]["Today"] == f"{daily['used']} / 10 · {daily['percent']} %"
    assert rows["main"]["Near its limit"] == ("Near its limit" if items["main"]["near_limit"] else "")
    assert rows["full"]["Near its limit"] == "Near its limit"
    assert rows["main"]["Calls"] == str(items["main"]["calls"]) == "30"
    assert rows["main"]["Day resets"] != "–"
    assert "sk-" not in window.page.content()
    window.page.fill("input[name=q]", "spa")
    window.page.click("form.filters button")
    window.page.wait_for_url("**q=spa**")
    window.settled()
    assert set(shown(window, "Credentials")) == {"spare"}


def dead_letters(server: LiveServer) -> int:
    """So far: the webhook goes on failing while tests run."""
    return asked(server, "/v1/webhooks/broken")["delivery"]["dead_letters"]


def test_deliveries_show_what_waits_and_what_was_given_up(window: Window, server: LiveServer) -> None:
    given_up = dead_letters(server)
    window.open("/?view=deliveries")
    cards = dict(zip(window.texts(".card dt"), window.texts(".card dd"), strict=True))
    known = asked(server, "/v1/usage-reports/status")
    assert cards["Given up"] == str(known["batches"]["dead"]) == "1"
    assert cards["Payment system"] == "webhook"
    batches = asked(server, "/v1/usage-reports")["items"]
    assert window.page.locator("section[aria-label=Batches] tbody tr").count() == len(batches)
    hooks = shown(window, "Webhooks")
    assert hooks["broken"]["Status"] == "failing"
    assert given_up <= int(hooks["broken"]["Dead letters"]) <= dead_letters(server)
    assert (hooks["audit-log"]["Status"], hooks["audit-log"]["Dead letters"]) == ("in order", "0")
    letters = len(asked(server, "/v1/webhooks/broken/dead-letters")["items"])
    window.page.locator("section[aria-label=Webhooks] a").click()
    window.page.wait_for_url("**webhook=broken**")
    window.settled()
    shown_letters = window.page.locator("tbody tr").count()
    assert 0 < letters <= shown_letters <= len(asked(server, "/v1/webhooks/broken/dead-letters")["items"])
    window.open("/?view=deliveries&report_status=dead")
    assert window.page.locator("section[aria-label=Batches] tbody tr").count() == 1


@pytest.mark.parametrize("caller", ["auditor", "dashboard", APP])
def test_a_role_sees_what_its_key_may_read(browser: Browser, server: LiveServer, caller: str) -> None:
    """What is closed to it is no tab, and says so where an address names it; nothing closed is asked for."""
    window = signed_in(browser, server, caller)
    closed = CLOSED.get(caller, set())
    tabs = {name.lower() for name in window.texts("nav a")}
    for view in ("accounts", "budgets", "credentials", "deliveries"):
        assert (view in tabs) == (view not in closed)
        window.open(f"/?view={view}")
        if view in closed:
            expect(window.page.get_by_role("alert")).to_have_text("This key's role may not see this.")
        else:
            assert window.page.locator("tbody tr").count() > 0
    window.open("/?view=accounts")
    expected = {"team-a", "u-7"} if caller == APP else {"team-a", "u-7", "reserve", "other"}
    assert set(shown(window, "Accounts")) == expected
    assert (window.complaints, window.strangers) == ([], [])
    window.context.close()


def test_it_says_so_when_nothing_is_there_and_when_nobody_answers(browser: Browser, empty: LiveServer) -> None:
    """And an account that is not there is told as the API tells it."""
    window = signed_in(browser, empty, "admin")
    for view, said in (("accounts", "No accounts."), ("budgets", "No budgets."), ("credentials", "No credentials.")):
        window.open(f"/?view={view}")
        expect(window.page.locator("p.empty")).to_have_text(said)
    window.open("/?view=deliveries")
    assert window.texts("p.empty") == ["No batches.", "No webhooks."]
    assert "not in use" in window.texts(".card dd")
    assert serious(window) == []
    window.context.set_offline(True)
    window.page.locator("nav a", has_text="Budgets").click()
    expect(window.page.locator("#notice")).to_contain_text("Disconnected")
    window.context.set_offline(False)
    window.open("/?view=accounts&account=nobody")
    expect(window.page.get_by_role("alert")).to_contain_text("nobody")
    window.context.close()
