"""The dashboard in a real browser over real calls: it shows what the API says, and nothing else."""

import csv
import io
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from arro3.io import read_parquet
from axe_playwright_python import sync_playwright as axe  # pyright: ignore[reportMissingTypeStubs]
from playwright.sync_api import Browser, Route, expect

from ledger.ledger import Ledger
from ops import settings, sign_in
from schema.times import HOUR_US, QUARTER_US, SECOND_US, format_time, parse_time
from tests.browser import Window, browsing
from tests.serving import APP, CALLS, OTHER_APP, Json, LiveServer, a_call, bearer, key_text, live_server, prepare

STATS = "/v1/model-call-stats"
VIEWS = ("overview", "series", "tokens", "errors", "cost", "speed", "calls", "live", "health")
CALLS_MADE = 120
MODELS = ("gpt-4o", "claude", '=1+2,"x"')
RATE = {"id": "r", "provider": "openai", "model": "gpt-4o", "effective_from": "2020-01-01T00:00:00Z",
        "input": "0.0000025", "output": "0.00001", "vendor": {"input": "0.000002", "output": "0.000009"}}  # fmt: skip
NOW_US = time.time_ns() // 1_000
END_US = NOW_US // HOUR_US * HOUR_US
START_US = END_US - 12 * HOUR_US
RANGE = f"from={format_time(START_US)}&to={format_time(END_US)}&zone=Europe/Berlin"


def history() -> list[Json]:
    """Ten calls an hour, of two apps, three models and five users; every eighth failed."""
    return [_call(n) for n in range(CALLS_MADE)]


def _call(n: int) -> Json:
    failed = n % 8 == 7
    return a_call(
        f"call-{n}",
        app=APP if n % 3 else OTHER_APP,
        model=MODELS[n % 5 % 3],
        user_id=f"u-{n % 5}",
        started_at=format_time(START_US + n * (END_US - START_US) // CALLS_MADE),
        status="failed" if failed else "success",
        error={"code": "rate_limited" if n % 16 == 7 else "timeout"} if failed else None,
        duration_ms=90 + n * n % 4_000,
        ttfb_ms=40 + 3 * n if n % 4 else None,
        usage={"input_tokens": 1_000 + n, "output_tokens": 100, "cache_read_tokens": 500, "reasoning_tokens": 40},
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    data_dir = tmp_path_factory.mktemp("dashboard")
    prepare(data_dir)
    with live_server(data_dir) as server:
        httpx.post(f"{server.url}/v1/model-rates", json=RATE, headers=bearer("admin")).raise_for_status()
        httpx.post(f"{server.url}{CALLS}", json=history(), headers=bearer("admin")).raise_for_status()
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def open_window(browser: Browser, server: LiveServer, **options: Any) -> Window:  # noqa: ANN401 - playwright's own
    context = browser.new_context(locale="en-GB", timezone_id="Europe/Berlin", **options)
    return Window(context, server.url)


@pytest.fixture(scope="module")
def admins(browser: Browser, server: LiveServer) -> Iterator[Window]:
    window = open_window(browser, server)
    window.sign_in(key_text("admin"))
    yield window
    window.context.close()


@pytest.fixture
def window(admins: Window) -> Window:
    admins.complaints.clear()
    return admins


def asked(server: LiveServer, path: str, caller: str = "admin") -> Json:
    response = httpx.get(f"{server.url}{path}", headers=bearer(caller))
    response.raise_for_status()
    return response.json()


def totals(server: LiveServer, more: str = "") -> Json:
    times = f"from={format_time(START_US)}&to={format_time(END_US)}"
    return asked(server, f"{STATS}?{times}{more}")["totals"]


def parameters(window: Window) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(window.page.url).query).items()}


@pytest.mark.parametrize(("view", "scheme"), list(product(VIEWS, ("light", "dark"))))
def test_each_view_is_whole_silent_and_accessible(window: Window, view: str, scheme: Any) -> None:  # noqa: ANN401
    """It draws what it has, logs no error, asks nobody else, and axe-core finds nothing serious."""
    window.page.emulate_media(color_scheme=scheme)
    window.open(f"/?view={view}&{RANGE}")
    if view not in {"calls", "live", "health"}:
        assert window.page.locator(".chart .main-svg").count() > 0
        assert window.page.locator(".chart path").count() > 0
    if view != "live":
        assert window.page.locator("tbody tr").count() > 0
    found: list[Json] = cast("Any", axe).Axe().run(window.page).response["violations"]
    serious = [each for each in found if each["impact"] in {"serious", "critical"}]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious] == []
    assert (window.complaints, window.strangers) == ([], [])


def test_the_overview_says_what_the_api_says(window: Window, server: LiveServer) -> None:
    """To the last digit of the cost."""
    window.open(f"/?{RANGE}")
    expected = totals(server)
    shown = dict(zip(window.texts(".card dt"), window.texts(".card .figure"), strict=True))
    assert expected["calls"] == CALLS_MADE
    assert shown["Calls"] == str(expected["calls"])
    assert shown["Failed"] == str(expected["failed"])
    assert shown["Input tokens"] == f"{expected['input_tokens']:,}"
    assert shown["Cost (credits)"] == expected["cost"]
    assert shown["Distinct users"] == str(totals(server, "&distinct=user_id")["distinct"]["user_id"]) == "5"
    rows = [row.split("\t") for row in window.texts("section[aria-label='By app'] tbody tr")]
    assert {row[0]: int(row[1]) for row in rows} == {
        app: totals(server, f"&app={app}")["calls"] for app in (APP, OTHER_APP)
    }


LINES = {"Duration": ("duration_ms", ("p50", "p95", "p99")), "First byte": ("ttfb_ms", ("p50", "p95"))}
MEANS = {"Mean duration": ("duration_ms_sum", "calls"), "Mean time to first byte": ("ttfb_ms_sum", "ttfb_calls")}


def milliseconds(value: int | None) -> str:
    return "–" if value is None else f"{value:,} ms"


def speeds(sums: Json) -> dict[str, str]:
    """Means and percentiles as the dashboard writes them."""
    means = {name: f"{(2 * sums[a] + sums[b]) // (2 * sums[b]):,} ms" for name, (a, b) in MEANS.items()}
    return means | {
        f"{word} {each}": milliseconds(sums[f"{measure}_{each}"])
        for word, (measure, names) in LINES.items()
        for each in names
    }


def behind(window: Window, panel: str) -> list[list[str]]:
    """The rows behind a chart, without their start."""
    place = window.page.locator(f"section[aria-label='{panel}']")
    place.get_by_role("button", name="Table").click()
    return [row.split("\t")[1:] for row in place.locator("tbody tr").all_inner_texts()]


@pytest.mark.parametrize("more", ["", "&user_id=u-2", f"&app={APP}"])
def test_speed_says_what_the_api_says(window: Window, server: LiveServer, more: str) -> None:
    """In cards, over time, by model, and in the file; from histograms that are kept, or counted from calls."""
    window.open(f"/?view=speed&{RANGE}{more}")
    times = f"from={format_time(START_US)}&to={format_time(END_US)}{more}"
    found = asked(server, f"{STATS}?{times}&granularity=hour&fill=true&timezone=Europe/Berlin")
    assert found["percentiles"]["source"] == ("calls" if "user_id" in more else "histograms")
    assert dict(zip(window.texts(".card dt"), window.texts(".card .figure"), strict=True)) == speeds(found["totals"])
    for panel, (measure, names) in zip(("Duration", "Time to first byte"), LINES.values(), strict=True):
        values = [[bucket[f"{measure}_{name}"] for name in names] for bucket in found["buckets"]]
        assert behind(window, f"{panel} over time") == [[milliseconds(value) for value in row] for row in values]
    assert "0.78125 %" in window.texts("section[aria-label='Duration over time'] .note")[0]
    names = window.texts("section[aria-label='By model'] thead th")
    rows = [row.split("\t") for row in window.texts("section[aria-label='By model'] tbody tr")]
    by_model = asked(server, f"{STATS}?{times}&group_by=model")["buckets"]
    assert {row[0]: dict(zip(names[2:], row[2:], strict=True)) for row in rows} == {
        bucket["group"]["model"]: speeds(bucket) for bucket in by_model
    }
    with window.page.expect_download() as download:
        window.page.get_by_role("link", name="CSV").first.click()
    file = csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8")))
    kept = [bucket for bucket in found["buckets"] if bucket["calls"]]
    assert [(row["start"], row["duration_ms_p99"], row["ttfb_ms_p95"]) for row in file] == [
        (bucket["start"], str(bucket["duration_ms_p99"]), str(bucket["ttfb_ms_p95"])) for bucket in kept
    ]


def test_percentiles_have_an_axis_by_powers_of_ten(window: Window) -> None:
    """From one of 1, 2, 5, 10 … to another; one of 0 ms is drawn at its foot, and one between gaps is a dot."""

    def far_apart(route: Route) -> None:
        response = route.fetch()
        answer = response.json()
        for n, bucket in enumerate(answer["buckets"]):
            values = (0 if n == 1 else 40, 1_500, 4_000_000) if n in {1, 2, 3, 6} else (None, None, None)
            bucket.update(zip(("duration_ms_p50", "duration_ms_p95", "duration_ms_p99"), values, strict=True))
            bucket.update(ttfb_ms_p50=300, ttfb_ms_p95=900)
        route.fulfill(response=response, json=answer)

    window.page.route(f"**{STATS}?*", far_apart)
    window.open(f"/?view=speed&{RANGE}")
    window.page.unroute(f"**{STATS}?*")
    charts = window.page.locator(".chart")
    tens = ["1 ms", "10 ms", "100 ms", "1k ms", "10k ms", "100k ms", "1000k ms"]
    assert charts.nth(0).locator(".ytick").all_text_contents() == tens
    assert charts.nth(1).locator(".ytick").all_text_contents() == ["200 ms", "500 ms", "1k ms"]
    line = charts.nth(0).locator(".scatterlayer .trace").first
    assert (line.locator("path.js-line").first.get_attribute("d") or "").count("L") == 2
    dots = line.locator(".points path").evaluate_all("each => each.map((one) => one.getBBox().width)")
    assert [width > 0 for width in dots] == [False, False, False, True]
    assert window.complaints == []


def test_percentiles_are_compared_with_the_period_before(window: Window, server: LiveServer) -> None:
    middle, end = format_time(START_US + 6 * HOUR_US), format_time(END_US)
    window.open(f"/?view=speed&from={middle}&to={end}&zone=Europe/Berlin")
    found = asked(server, f"{STATS}?from={middle}&to={end}&compare=previous")
    now, before = (found[name]["duration_ms_p95"] for name in ("totals", "previous"))
    card = window.page.locator(".card", has=window.page.get_by_text("Duration p95", exact=True))
    expect(card.locator(".growth")).to_have_text(f"{(now - before) * 100 / before:+.1f} %".replace("-", "−"))


def without_percentiles(route: Route) -> None:
    """The answer as it is where percentiles would take too many calls."""
    response = route.fetch()
    answer = response.json()
    for sums in (*answer["buckets"], answer["totals"], answer.get("previous", {})):
        sums.update(dict.fromkeys((name for name in sums if name[-4:-2] == "_p"), None))
    answer["percentiles"]["source"] = None
    route.fulfill(response=response, json=answer)


def test_speed_shows_means_where_percentiles_would_take_too_many_calls(window: Window, server: LiveServer) -> None:
    """And says so."""
    window.page.route(f"**{STATS}?*", without_percentiles)
    window.open(f"/?view=speed&{RANGE}")
    window.page.unroute(f"**{STATS}?*")
    means = {name: text for name, text in speeds(totals(server)).items() if name in MEANS}
    assert dict(zip(window.texts(".card dt"), window.texts(".card .figure"), strict=True)) == means
    assert window.texts("section.panel h2") == ["Speed over time", "By model"]
    assert window.texts("section[aria-label='By model'] thead th") == ["Model", "Calls", *means]
    assert [each.partition(":")[0] for each in window.texts("section.panel .note")] == [
        "The range is too long, or the filter too narrow, for percentiles"
    ] * 2
    assert window.page.locator(".chart .scatterlayer path.js-line").count() == 2
    assert window.complaints == []


@pytest.mark.parametrize("view", ["overview", "series", "tokens", "errors", "cost", "speed"])
def test_only_the_view_that_shows_percentiles_asks_for_them(window: Window, view: str) -> None:
    """They cost the ledger work. Where it does, it asks for whole quarters of hours, which cost the least."""
    began_us = time.time_ns() // 1_000
    window.requests.clear()
    window.open(f"/?view={view}")
    queries = [parse_qs(urlsplit(url).query) for url in window.requests if urlsplit(url).path == STATS]
    assert {query["percentiles"][0] for query in queries} == {"true" if view == "speed" else "false"}
    ends = [parse_time(query["to"][0]) for query in queries]
    if view == "speed":
        assert [end % QUARTER_US for end in ends] == [0] * len(ends)
        assert began_us < min(ends) <= max(ends) < time.time_ns() // 1_000 + QUARTER_US + 2 * SECOND_US


def users_card(window: Window) -> list[str]:
    """The figure, and how it grew."""
    return window.texts(".card:has(dt:text-is('Distinct users')) dd")


def test_distinct_users_are_counted_anew_when_something_else_is_asked(window: Window, server: LiveServer) -> None:
    """Under filters, against the period before; and it says where they are too many to count."""
    half = f"from={format_time(START_US + 6 * HOUR_US)}&to={format_time(END_US)}"
    window.open(f"/?{half}&zone=Europe/Berlin")
    found = asked(server, f"{STATS}?{half}&compare=previous&distinct=user_id")
    assert users_card(window) == [str(found["totals"]["distinct"]["user_id"]), "+0.0 %"]
    assert found["previous"]["distinct"] == found["totals"]["distinct"]
    window.page.fill("input[name=user_id]", "u-2")
    window.page.click("form.filters button")
    window.page.wait_for_url("**user_id=u-2**")
    window.settled()
    assert users_card(window)[0] == "1"
    problem = {"code": "invalid_input", "detail": "", "errors": [{"path": "$.distinct", "message": ""}]}
    window.page.route("**distinct=user_id**", lambda route: route.fulfill(status=400, json=problem))
    window.open(f"/?{half}&zone=Europe/Berlin")
    assert users_card(window) == ["too many to count"]
    window.page.unroute("**distinct=user_id**")


def slowly(route: Route) -> None:
    time.sleep(0.4)
    route.continue_()


def test_a_slow_count_of_users_is_not_repeated_at_once(window: Window) -> None:
    """A view that draws itself anew every few seconds would else keep the ledger counting."""
    window.page.route("**distinct=user_id**", slowly)
    window.open(f"/?{RANGE}&model=gpt-4o")
    shown = users_card(window)
    window.requests.clear()
    window.page.locator("nav a", has_text="Overview").click()
    window.settled()
    window.page.unroute("**distinct=user_id**")
    assert [url for url in window.requests if "distinct" in url] == []
    assert any(STATS in url for url in window.requests)
    assert users_card(window) == shown


def test_the_table_behind_a_chart_and_its_file_are_the_buckets(window: Window, server: LiveServer) -> None:
    window.open(f"/?view=series&metric=cost&group=model&{RANGE}")
    panel = window.page.locator("section.panel").first
    panel.get_by_role("button", name="Table").click()
    assert panel.locator("tbody tr").count() == 12
    with window.page.expect_download() as download:
        panel.get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))
    assert {row["model"] for row in rows} == {"gpt-4o", "claude", f"'{MODELS[2]}"}
    assert sum(int(row["calls"]) for row in rows) == totals(server)["calls"]


def test_a_posted_call_shows_within_a_second(window: Window, server: LiveServer) -> None:
    window.open("/?view=live")
    expect(window.page.locator("#connection.connected")).to_be_visible()
    call = a_call("just-now", model="brand-new", started_at=format_time(time.time_ns() // 1_000 - SECOND_US))
    httpx.post(f"{server.url}{CALLS}", json=call, headers=bearer(APP)).raise_for_status()
    expect(window.page.get_by_role("cell", name="brand-new")).to_be_visible(timeout=1_000)


def test_filters_are_in_the_address_and_come_back_from_it(window: Window, server: LiveServer) -> None:
    window.open(f"/?view=errors&{RANGE}")
    window.page.fill("input[name=app]", APP)
    window.page.fill("input[name=user_id]", "u-2")
    window.page.click("form.filters button")
    window.page.wait_for_url("**user_id=u-2**")
    window.settled()
    assert {"app": APP, "user_id": "u-2", "view": "errors"}.items() <= parameters(window).items()
    shown = window.texts("section[aria-label=Reason] .note")
    window.page.reload()
    window.settled()
    assert window.page.input_value("input[name=user_id]") == "u-2"
    assert window.texts("section[aria-label=Reason] .note") == shown
    assert shown[0].startswith(f"Failed: {totals(server, f'&app={APP}&user_id=u-2')['failed']} ")
    window.page.go_back()
    window.settled()
    assert "user_id" not in parameters(window)


def test_a_drag_zooms_and_a_click_leads_to_the_calls(window: Window, server: LiveServer) -> None:
    """To whole buckets, and to the calls of the very bar."""
    window.open(f"/?view=series&{RANGE}")
    box = window.page.locator(".chart .nsewdrag").first.bounding_box()
    assert box is not None
    step = box["width"] / 12
    middle = box["y"] + box["height"] / 2
    window.page.mouse.move(box["x"] + step * 3.4, middle)
    window.page.mouse.down()
    window.page.mouse.move(box["x"] + step * 6.4, middle, steps=5)
    window.page.mouse.up()
    window.page.wait_for_url(lambda url: quote(format_time(START_US)) not in url)
    window.settled()
    zoomed = parameters(window)
    assert zoomed["from"] == format_time(START_US + 3 * HOUR_US)
    assert zoomed["to"] == format_time(START_US + 7 * HOUR_US)
    box = window.page.locator(".chart .nsewdrag").first.bounding_box()
    assert box is not None
    window.page.mouse.move(box["x"] + box["width"] / 8, box["y"] + box["height"] - 3)
    window.page.wait_for_timeout(300)
    window.page.mouse.click(box["x"] + box["width"] / 8, box["y"] + box["height"] - 3)
    window.page.wait_for_url("**view=calls**")
    window.settled()
    drilled = parameters(window)
    assert (drilled["from"], drilled["to"]) == (zoomed["from"], format_time(START_US + 4 * HOUR_US))
    more = f"from={drilled['from']}&to={drilled['to']}&model={drilled['model']}"
    assert window.page.locator("tbody tr").count() == len(asked(server, f"{CALLS}?{more}")["items"]) > 0


def test_a_call_shows_its_event_trail(window: Window) -> None:
    window.open(f"/?view=calls&{RANGE}")
    window.page.locator("tbody a").first.click()
    window.page.wait_for_url("**call=call-**")
    expect(window.page.locator(".trail li")).to_contain_text("model_call.recorded.v2")


def test_calls_are_files_in_every_form_under_the_same_filters(window: Window, server: LiveServer) -> None:
    """As many rows and as much cost in each as the API has."""
    window.open(f"/?view=calls&{RANGE}&model=gpt-4o&status=success")
    expected = totals(server, "&model=gpt-4o&status=success")
    tools = window.page.locator(".tools a")
    assert tools.all_inner_texts() == ["CSV", "Parquet", "FOCUS (CSV)", "FOCUS (Parquet)", "Manifest"]
    for name in ("CSV", "Parquet", "FOCUS (CSV)", "FOCUS (Parquet)"):
        with window.page.expect_download() as download:
            window.page.get_by_role("link", name=name, exact=True).click()
        costs = costs_of(
            Path(download.value.path()), "BilledCost" if "FOCUS" in name else "cost", parquet="Parquet" in name
        )
        assert (len(costs), sum(costs)) == (expected["calls"], Decimal(expected["cost"]))
    assert window.page.locator(".tools .note").count() == 0


def costs_of(path: Path, name: str, *, parquet: bool) -> list[Decimal]:
    if parquet:
        return cast("Any", read_parquet(path)).read_all().column(name).to_pylist()
    return [Decimal(row[name]) for row in csv.DictReader(io.StringIO(path.read_text("utf-8")))]


def test_what_is_not_installed_is_no_link(window: Window) -> None:
    def without(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=response.text().replace('data-forms="csv parquet"', 'data-forms="csv"'))

    page = re.compile(r"/\?view=calls")
    window.page.route(page, without)
    window.open(f"/?view=calls&{RANGE}")
    window.page.unroute(page)
    assert window.texts(".tools a") == ["CSV", "FOCUS (CSV)", "Manifest"]
    assert window.texts(".tools .note") == ["Parquet is an extra that is not installed here."]


def test_it_speaks_chinese_and_keeps_the_theme(browser: Browser, server: LiveServer) -> None:
    """By the browser's language; the switches outlast a reload."""
    context = browser.new_context(locale="zh-CN")
    window = Window(context, server.url)
    window.sign_in(key_text("dashboard"))
    assert "概览" in window.texts("nav a")
    window.open(f"/?view=speed&{RANGE}")
    assert window.texts(".card dt")[:4] == ["平均时长", "时长 p50", "时长 p95", "时长 p99"]
    shown = [*window.texts(".card dt"), *window.texts("h2"), *window.texts("thead th"), *window.texts("main .note")]
    assert [text for text in shown if "_" in text or text.isascii()] == []
    window.page.select_option("select[name=theme]", "dark")
    window.page.select_option("select[name=language]", "en")
    window.page.reload()
    window.settled()
    assert "Overview" in window.texts("nav a")
    assert window.page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    context.close()


def test_signing_in_by_key_and_out_again(browser: Browser, server: LiveServer) -> None:
    """An app's key sees its own calls; the cookie is out of scripts' reach; a wrong key is told."""
    window = open_window(browser, server)
    window.page.goto(server.url)
    window.page.fill("input[name=key]", "ulk_no_key")
    window.page.click(".sign-in button")
    expect(window.page.get_by_role("alert")).to_have_text("This key is not valid.")
    window.sign_in(key_text(APP))
    window.open(f"/?{RANGE}")
    assert window.texts(".card .figure")[0] == str(totals(server, f"&app={APP}")["calls"])
    (cookie,) = window.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite"), cookie.get("secure")) == (True, "Strict", False)
    assert window.page.evaluate("document.cookie") == ""
    assert key_text(APP).rpartition("_")[2] not in cookie.get("value", "")
    window.page.get_by_role("button", name="Sign out").click()
    expect(window.page.locator(".sign-in")).to_be_visible()
    assert window.context.cookies() == []
    window.context.close()


def test_a_link_signs_in_once(browser: Browser, server: LiveServer) -> None:
    loaded = settings.override(settings.load({}), data_dir=str(server.log.parent))
    ledger = Ledger(loaded.directory)
    ledger.open(NOW_US)
    link = sign_in.link(loaded, ledger, server.url, "admin", 60)
    ledger.close()
    first, second = open_window(browser, server), open_window(browser, server)
    first.page.goto(link)
    expect(first.page.locator("nav")).to_be_visible()
    assert "#" not in first.page.url
    second.page.goto(link)
    expect(second.page.locator("#notice")).to_contain_text("used before")
    expect(second.page.locator(".sign-in")).to_be_visible()
    first.context.close()
    second.context.close()


def test_it_says_so_when_nothing_is_there_and_when_nobody_answers(browser: Browser, server: LiveServer) -> None:
    window = open_window(browser, server)
    window.sign_in(key_text("admin"))
    window.open(f"/?model=nowhere&{RANGE}")
    expect(window.page.locator("p.empty")).to_have_text("No calls in this range with these filters.")
    window.context.set_offline(True)
    window.page.locator("nav a", has_text="Tokens").click()
    expect(window.page.locator("#notice")).to_contain_text("Disconnected")
    window.context.close()
