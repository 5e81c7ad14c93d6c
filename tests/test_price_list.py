"""Following a price list: what a sync sets, what it leaves alone, who may ask for it, and that it is on time."""

import asyncio
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, cast

import msgspec
import pytest
from litestar.testing import TestClient

from api import price_following
from api.app import create_app
from api.services import services_of
from ledger import journal
from ledger.database import open_writer, write
from ledger.decision import preview
from ledger.ledger import Ledger
from ledger.rate_acceptance import accept_rate
from ledger.rate_book import RateBook
from ledger.writer import Appended
from ops.price_list import installed
from projections import model_rate
from projections.engine import Engine
from projections.provider import registered
from schema.entry import Recorded, encode
from schema.event import type_of
from schema.model_rate import ModelRateSet, PriceBook, SetModelRate
from schema.price_list import PriceListSynced, SyncPriceList, SyncReport
from schema.provider import SOURCE, ProviderChanged, ProviderCreated
from schema.times import DAY_US, SECOND_US, format_time, parse_time
from tests.console import answer, run
from tests.price_lists import EPOCH, FakeList, listed, offered, offered_model, offered_rate, sync
from tests.serving import NOW_US, QUIET, Clock, Service, add_keys, reading, require

SYNC, LIST = "/v1/price-list/sync", "/v1/price-list"
LATER_US = NOW_US + DAY_US
DATE_US = parse_time("2026-11-01T00:00:00Z")


@pytest.fixture
def ledger(tmp_path: Path) -> Generator[Ledger, None, None]:
    ledger = Ledger(tmp_path, durability="os")
    ledger.open(NOW_US)
    try:
        yield ledger
    finally:
        ledger.close()


def done(ledger: Ledger, command: SyncPriceList) -> Appended:
    (outcome,) = ledger.execute_now([command])
    assert isinstance(outcome, Appended), outcome
    with reading(ledger) as db:
        assert preview(db, command).events == []  # whatever it did, the same again does nothing
    return outcome


def report_of(outcome: Appended) -> SyncReport:
    assert isinstance(outcome.report, SyncReport)
    return outcome.report


def counts(outcome: Appended) -> tuple[int, int, int, int]:
    report = report_of(outcome)
    return report.created, report.updated, report.skipped, report.missing


def actions(outcome: Appended) -> list[tuple[str, str]]:
    return [(item.model, item.action) for item in report_of(outcome).items]


def set_rate(ledger: Ledger, **fields: object) -> ModelRateSet:
    made = {"id": "mine", "provider": "acme", "model": "m", "effective_from": EPOCH, **fields}
    rate = msgspec.convert(made, ModelRateSet)
    accept_rate(rate)
    require(ledger.execute_now([SetModelRate(actor="test", received_at_us=NOW_US, rate=rate)]))
    return rate


def charged(ledger: Ledger, at_us: int, model: str = "m", tokens: int = 1_000_000) -> int | None:
    """What so many input tokens cost then."""
    book = RateBook()
    with reading(ledger) as db:
        book.refresh(db)
    rate = book.find("acme", model, "custom", at_us)
    used = {"input_tokens": tokens, "output_tokens": 0, "requests": 1}
    return None if rate is None else rate.charged.cost(used).cost_e10 // 10**10


def size(ledger: Ledger) -> int:
    with reading(ledger) as db:
        return db.execute("SELECT size FROM journal_head").get


def dates(ledger: Ledger, model: str = "m") -> list[str]:
    with reading(ledger) as db:
        rates = [row.rate for row in model_rate.rates_of(db, "acme") if row.rate.model == model]
    return [(rate.effective_from or "")[:10] for rate in rates]


def test_a_first_sync_creates_the_provider_and_its_rates(ledger: Ledger) -> None:
    """The undated begins in 1970; the list is named in the rates; models are not registered."""
    provider = offered(offered_model("m", "0.000001", (format_time(DATE_US), "0.000002")), fallback_providers=["other"])
    outcome = done(ledger, sync(provider, NOW_US))
    assert counts(outcome) == (1, 0, 0, 0)
    assert dates(ledger) == ["1970-01-01", "2026-11-01"]
    with reading(ledger) as db:
        types = [type_ for (type_,) in db.execute("SELECT type FROM events ORDER BY position")]
        [row, _] = model_rate.rates_of(db, "acme")
        made = registered(db)["acme"]
    assert types == ["provider.created.v1", *["model_rate.set.v1"] * 2, "price_list.synced.v1"]
    assert (row.rate.mode, row.rate.listed, row.rate.vendor and row.rate.vendor.input) == (
        "auto", listed(), "0.000001",
    )  # fmt: skip
    assert made is not None
    assert (made.auto_sync, made.price_list_id, made.fallback_providers) == (False, "acme", ["other"])
    assert isinstance(outcome.recorded and outcome.recorded.data, PriceListSynced)
    assert (charged(ledger, DATE_US - 1), charged(ledger, DATE_US)) == (1, 2)
    assert charged(ledger, 0, "m-2026") == 1


def test_a_second_sync_with_the_same_prices_appends_nothing(ledger: Ledger) -> None:
    """Nor does another version of the list that has the same prices."""
    provider = offered(offered_model("m", "0.000001"), offered_model("n", "0.000003"))
    done(ledger, sync(provider, NOW_US))
    before = size(ledger)
    assert counts(done(ledger, sync(provider, LATER_US, "2"))) == (0, 0, 2, 0)
    assert size(ledger) == before


def test_a_changed_price_holds_from_the_sync_or_from_the_lists_date(ledger: Ledger) -> None:
    done(ledger, sync(offered(offered_model("m", "0.000001"), offered_model("n", "0.000001")), NOW_US))
    changed = offered(
        offered_model("m", "0.000002"),
        offered_model("n", "0.000001", (format_time(DATE_US), "0.000003")),
    )
    outcome = done(ledger, sync(changed, LATER_US, "2"))
    assert counts(outcome) == (0, 2, 0, 0)
    moved = [(item.before, item.after) for item in report_of(outcome).items]
    assert moved == [
        (PriceBook(input="0.000001"), PriceBook(input="0.000002")),
        (PriceBook(input="0.000001"), PriceBook(input="0.000003")),
    ]
    assert (charged(ledger, LATER_US - 1), charged(ledger, LATER_US)) == (1, 2)
    assert (charged(ledger, DATE_US - 1, "n"), charged(ledger, DATE_US, "n")) == (1, 3)


def test_a_price_that_is_still_to_come_moves_with_the_list(ledger: Ledger) -> None:
    """A date that the list puts off does not come in force, and the one that it names does."""
    soon, late = NOW_US + DAY_US, NOW_US + 3 * DAY_US
    done(ledger, sync(offered(offered_model("m", "0.000001", (format_time(soon), "0.000005"))), NOW_US))
    assert charged(ledger, soon) == 5
    moved = offered(offered_model("m", "0.000001", (format_time(late), "0.000005")))
    done(ledger, sync(moved, NOW_US + SECOND_US, "2"))
    assert (charged(ledger, soon), charged(ledger, late)) == (1, 5)


def test_hours_are_set_anew_with_the_price_of_the_day(ledger: Ledger) -> None:
    window = {"start": "16:30", "end": "00:30"}

    def with_hours(day: str, night: str) -> Any:  # noqa: ANN401
        rates = [offered_rate("m", day), offered_rate("m", night, daily_window=window)]
        return offered(offered_model("m", "0", rates=rates))

    evening = parse_time("2026-11-21T18:00:00Z")
    done(ledger, sync(with_hours("0.000004", "0.000002"), NOW_US))
    assert (charged(ledger, evening), charged(ledger, evening - 6 * 3600 * SECOND_US)) == (2, 4)
    done(ledger, sync(with_hours("0.000006", "0.000002"), NOW_US + SECOND_US, "2"))
    tomorrow = evening + 2 * DAY_US
    assert (charged(ledger, tomorrow), charged(ledger, tomorrow - 6 * 3600 * SECOND_US)) == (2, 6)
    assert charged(ledger, evening - 6 * 3600 * SECOND_US) == 4
    done(ledger, sync(offered(offered_model("m", "0.000006")), LATER_US, "3"))
    assert charged(ledger, LATER_US + DAY_US // 3) == 6


def test_a_manual_price_is_left_alone_and_its_drift_told(ledger: Ledger) -> None:
    """More than 2 % off is drift, and more than 2 % below what the vendor asks is told too."""
    for model, price in (("m", "0.00000103"), ("n", "0.00000098"), ("o", "0.00000097")):
        set_rate(ledger, id=model, model=model, input=price)
    models = [offered_model(model, "0.000001") for model in "mno"]
    outcome = done(ledger, sync(offered(*models), NOW_US))
    assert counts(outcome) == (0, 0, 3, 0)
    assert actions(outcome) == [("m", "drift"), ("o", "drift"), ("o", "below_cost")]
    [drift, *_] = report_of(outcome).items
    assert drift.reason == "input_tokens: 0.00000103 is charged, 0.000001 is asked"
    assert len(dates(ledger)) == 1


def test_an_upstream_price_follows_with_its_markup(ledger: Ledger) -> None:
    set_rate(ledger, mode="upstream", markup="1.5", vendor={"input": "0.000002"}, match={"starts_with": "m"})
    outcome = done(ledger, sync(offered(offered_model("m", "0.000002")), NOW_US))
    assert counts(outcome) == (0, 0, 1, 0)
    outcome = done(ledger, sync(offered(offered_model("m", "0.000004")), LATER_US, "2"))
    assert counts(outcome) == (0, 1, 0, 0)
    assert (charged(ledger, LATER_US - 1), charged(ledger, LATER_US)) == (3, 6)
    with reading(ledger) as db:
        newest = model_rate.rates_of(db, "acme")[-1].rate
    assert (newest.mode, newest.markup, newest.vendor and newest.vendor.input) == ("upstream", "1.5", "0.000004")


def test_an_upstream_price_below_cost_is_told(ledger: Ledger) -> None:
    set_rate(ledger, mode="upstream", markup="0.9", vendor={"input": "0.000002"}, match={"starts_with": "m"})
    outcome = done(ledger, sync(offered(offered_model("m", "0.000002")), NOW_US))
    assert actions(outcome) == [("m", "below_cost")]


def test_what_is_no_longer_listed_is_reported_and_stays(ledger: Ledger) -> None:
    set_rate(ledger, id="own", model="own", input="1")
    done(ledger, sync(offered(offered_model("m", "0.000001"), offered_model("n", "0.000001")), NOW_US))
    before = size(ledger)
    outcome = done(ledger, sync(offered(offered_model("n", "0.000001")), LATER_US, "2"))
    assert (counts(outcome), actions(outcome), size(ledger)) == ((0, 0, 1, 1), [("m", "missing")], before)
    assert charged(ledger, LATER_US) == 1


def test_a_problem_is_reported_with_its_reason(ledger: Ledger) -> None:
    outcome = done(ledger, sync(offered(offered_model("m", rates=[], problem="no_price")), NOW_US))
    assert [(item.action, item.reason) for item in report_of(outcome).items] == [("problem", "no_price")]
    assert counts(outcome) == (0, 0, 0, 0)


def test_two_syncs_at_once_set_each_price_once(ledger: Ledger) -> None:
    """Both decide under the write lock, so the second finds it done."""
    provider = offered(*(offered_model(f"m{n}", "0.000001") for n in range(50)))
    other = Ledger(ledger.data_dir, durability="os")
    other.open(NOW_US)
    try:
        threads = [Thread(target=each.execute_now, args=([sync(provider, NOW_US)],)) for each in (ledger, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        other.close()
    assert size(ledger) == 52


def test_fallbacks_are_those_of_the_newest_provider_event(ledger: Ledger) -> None:
    done(ledger, sync(offered(offered_model("m", "0.000001")), NOW_US))
    done(ledger, sync(offered(id_="cloud", fallback_providers=["acme"]), NOW_US))
    book = RateBook()

    def found() -> bool:
        with reading(ledger) as db:
            book.refresh(db)
        return book.find("cloud", "m-1", "custom", NOW_US) is not None

    assert found()
    change(ledger, ProviderChanged(id="cloud", name="Cloud", replaces=4))
    assert not found()


def change(ledger: Ledger, data: ProviderCreated | ProviderChanged) -> None:
    """Append a provider's event, past the commands that make such."""
    db = open_writer(ledger.path, "os")
    try:
        with write(db):
            head = journal.read_head(db)
            subject = f"provider/{data.id}"
            id_ = data.id if isinstance(data, ProviderCreated) else f"{data.id}/{head.size}"
            position, type_ = head.size + 1, type_of(data)
            event = Recorded(position, NOW_US, SOURCE, id_, type_, subject, NOW_US, "test", data)
            entry = encode(event, format_time(NOW_US), format_time(NOW_US))
            journal.append(db, head, [event], [entry])
            Engine(db).apply(position - 1, [event])
    finally:
        db.close()


# Over HTTP


@contextmanager
def serving(data_dir: Path, prices: FakeList | None) -> Generator[Service, None, None]:
    clock, ledger = Clock(), Ledger(data_dir, durability="os")
    with TestClient(create_app(ledger, QUIET, clock, prices), raise_server_exceptions=False) as client:
        add_keys(ledger)
        yield Service(ledger, client, clock)


def a_list() -> FakeList:
    models = [offered_model("m", "0.000001"), offered_model("n", rates=[], problem="no_price")]
    return FakeList(offered(*models), offered(offered_model("x", "1"), id_="empty"))


def test_a_dry_run_tells_what_a_sync_does_and_writes_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, a_list()) as service:
        before = service.position()
        tried = service.post(SYNC, {"dry_run": True, "providers": ["acme"]}, "admin")
        assert service.position() == before
        applied = service.post(SYNC, {"providers": ["acme"]}, "admin")
        assert (tried.status_code, tried.json()) == (200, applied.json())
        made, problem = applied.json().pop("items")
        assert applied.json() | {"items": None} == {
            "created": 1, "updated": 0, "skipped": 0, "missing": 0, "items_omitted": 0, "items": None,
        }  # fmt: skip
        of_acme = {"provider": "acme", "before": None, "reason": None}
        assert made == {**of_acme, "model": "m", "action": "created", "after": {"input": "0.000001"}}
        assert problem == {**of_acme, "model": "n", "action": "problem", "after": None, "reason": "no_price"}
        position = service.position()
        again = service.post(SYNC, {"providers": ["acme"]}, "admin").json()
        assert (again["created"], again["skipped"], service.position()) == (0, 1, position)


def test_all_providers_are_synced_unless_some_are_named(tmp_path: Path) -> None:
    with serving(tmp_path, a_list()) as service:
        assert service.post(SYNC, {}, "admin").json()["created"] == 2
        refused = service.post(SYNC, {"providers": ["acme", "nobody"]}, "admin")
        assert refused.status_code == 400
        assert [each["path"] for each in refused.json()["errors"]] == ["$.providers[1]"]
        assert service.post(SYNC, {"provider": "acme"}, "admin").status_code == 400


@pytest.mark.parametrize(
    ("caller", "may_sync", "may_read"),
    [("admin", 200, 200), ("auditor", 403, 200), ("dashboard", 403, 200), ("shop", 403, 403)],
)
def test_who_may_sync_and_who_may_read(tmp_path: Path, caller: str, may_sync: int, may_read: int) -> None:
    with serving(tmp_path, a_list()) as service:
        assert service.post(SYNC, {}, caller).status_code == may_sync
        assert service.get(LIST, caller).status_code == may_read


def test_a_service_without_a_list_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, None) as service:
        assert service.get(LIST).status_code == 404
        assert service.post(SYNC, {}, "admin").status_code == 404


def test_the_state_of_the_list_is_read(tmp_path: Path) -> None:
    with serving(tmp_path, a_list()) as service:
        service.post(SYNC, {"providers": ["acme"]}, "admin")
        position = service.position()
        view = service.get(LIST).json()
    [acme, empty] = view["providers"]
    assert (view["listed"]["version"], view["models"]) == ("1", 3)
    assert (acme["last_sync"]["position"], acme["last_sync"]["created"], acme["next_due"]) == (position, 1, None)
    assert (empty["last_sync"], empty["auto_sync"]) == (None, False)


# On time


def follow(service: Service, prices: FakeList) -> None:
    asyncio.run(price_following.follow(services_of(cast("Any", service.client).app), prices))


def auto(ledger: Ledger) -> None:
    change(ledger, ProviderCreated(id="acme", name="Acme", auto_sync=True, sync_interval_s=3600))


def newer(prices: FakeList, price: str) -> None:
    prices.change(offered(offered_model("m", price)))


def test_nobody_who_does_not_ask_is_synced(tmp_path: Path) -> None:
    """Nor is the list even loaded, which takes a second."""
    prices = a_list()
    with serving(tmp_path, prices) as service:
        before = service.position()
        follow(service, prices)
        assert (service.position(), prices.loads) == (before, 0)


def test_who_asks_is_synced_when_it_is_time(tmp_path: Path) -> None:
    prices = a_list()
    with serving(tmp_path, prices) as service:
        auto(service.ledger)
        follow(service, prices)
        assert charged(service.ledger, NOW_US) == 1
        newer(prices, "0.000002")
        synced, loads = service.position(), prices.loads
        service.clock.now_us += 3_599 * SECOND_US
        follow(service, prices)
        assert (service.position(), prices.loads) == (synced, loads)
        service.clock.now_us += SECOND_US
        follow(service, prices)
        assert charged(service.ledger, service.clock.now_us) == 2
        service.clock.now_us += 3_600 * SECOND_US
        synced = service.position()
        follow(service, prices)
        assert service.position() == synced
        due = service.get(LIST).json()["providers"][0]["next_due"]
        assert due == format_time(service.clock.now_us + 3_600 * SECOND_US)


def test_a_new_list_is_followed_at_the_start(tmp_path: Path) -> None:
    """Whether or not it is time; a list that is known waits for its time."""
    prices = a_list()
    with serving(tmp_path, prices) as service:
        auto(service.ledger)
        follow(service, prices)
    with serving(tmp_path, prices) as service:
        before = service.position()
        follow(service, prices)
        assert service.position() == before
    newer(prices, "0.000002")
    with serving(tmp_path, prices) as service:
        follow(service, prices)
        assert charged(service.ledger, NOW_US) == 2


def test_a_provider_may_follow_another_of_the_list(tmp_path: Path) -> None:
    prices = a_list()
    with serving(tmp_path, prices) as service:
        change(service.ledger, ProviderCreated(id="mirror", name="Mirror", price_list_id="acme"))
        assert service.post(SYNC, {"providers": ["mirror"]}, "admin").json()["created"] == 1
        with reading(service.ledger) as db:
            assert [row.rate.model for row in model_rate.rates_of(db, "mirror")] == ["m"]
            assert model_rate.rates_of(db, "acme") == []


# On the command line, with the list that is installed


def test_the_command_line_syncs_and_the_second_time_nothing(tmp_path: Path) -> None:
    assert run("init", "--data-dir", tmp_path).exit_code == 0
    arguments = ("sync-prices", "--data-dir", tmp_path, "--provider", "openai", "--provider", "groq")
    would: dict[str, Any] = answer(*arguments, "--dry-run")
    first: dict[str, Any] = answer(*arguments)
    assert would == first
    assert first["created"] > 100
    again = run(*arguments)
    assert again.exit_code == 0
    assert again.stdout.startswith(f"genai-prices {installed().load()[0].version}: created 0, updated 0, skipped ")
    assert run("sync-prices", "--data-dir", tmp_path, "--provider", "nobody").exit_code == 1
    assert json.loads(json.dumps(first))["missing"] == 0


def test_all_of_the_installed_list_is_synced_once(ledger: Ledger) -> None:
    """And what each provider's sync did is what a rebuild would have."""
    of_list, providers = installed().load()
    for each in providers:
        done(ledger, SyncPriceList(actor="test", received_at_us=NOW_US, listed=of_list, provider=each))
    before = size(ledger)
    for each in providers:
        done(ledger, SyncPriceList(actor="test", received_at_us=LATER_US, listed=of_list, provider=each))
    assert size(ledger) == before
