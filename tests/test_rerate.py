"""Re-rates: exact, in batches that resume anywhere, and taken back to the last digit."""

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from threading import Thread

import apsw
import pytest

from ledger import journal, reads, rebuild
from ledger.database import open_writer
from ledger.ledger import LEDGER_FILE, Ledger
from ledger.queue import CommandQueue
from ledger.rate_book import RateBook
from ledger.writer import Writer
from ops.verify import verify
from projections.engine import Engine, registry
from schema.correction import Basis
from schema.model_call import DEFAULT_POLICY
from schema.model_call_query import CallFilter, StatQuery
from schema.rerate import Progress, RerateStarted, RerateView
from tests.changes import a_rate, advance, carry_on, correction, listed, one, rerate, revert
from tests.histories import (
    APP,
    DAY_US,
    HOUR_US,
    NOON_US,
    Fields,
    Row,
    call,
    calls,
    entries,
    finish,
    kind_of,
    open_book,
    open_ledger,
    reading,
    replayed,
    select,
    start,
    sweep,
    tables,
)
from tests.server import Server, started, wait_for
from tests.serving import Service, a_call, prepare, record, serving

USED = {"input_tokens": 100, "output_tokens": 10}
COSTS = "id, cost_e10, input_cost_e10, vendor_cost_e10, cost_status, cost_reason, rate"
KILLS = int(os.environ.get("TORTURE_KILLS", "500")) // 20
MONTH_CALLS = 100_000


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Writer]:
    with open_book(tmp_path) as book:
        yield book


def run(book: Writer, id_: str) -> RerateView:
    with reading(book.path) as db:
        return reads.rerate(db, id_)


def costs(book: Writer) -> list[Row]:
    with reading(book.path) as db:
        return select(db, f"SELECT {COSTS} FROM model_calls ORDER BY position")


def totals(db: apsw.Connection, basis: Basis = "corrected") -> tuple[int, Decimal, Decimal, int]:
    found = reads.model_call_stats(db, StatQuery(filter=CallFilter(basis=basis))).totals
    return found.calls, Decimal(found.cost), Decimal(found.vendor_cost or "0"), found.unpriced_calls


def types(book: Writer) -> list[str]:
    with reading(book.path) as db:
        return [type_ for (type_,) in select(db, "SELECT type FROM events ORDER BY position")]


def previewed(book: Writer, started_: RerateStarted) -> Progress:
    progress: Progress | None = None
    with reading(book.path) as db:
        while progress is None or progress.next is not None:
            progress = reads.rerate_preview(db, RateBook(), started_, progress, DEFAULT_POLICY)
    return progress


def check_sound(path: Path) -> None:
    """The file verifies; replayed and rebuilt in any steps it has the very same rows."""
    report = verify(path)
    assert report.ok, report.faults
    db = open_writer(path, "os")
    try:
        live = tables(db)
        events = journal.read(db, 0, 10**6)
        for size in (1, 7, len(events)):
            assert replayed(events, size) == live
        for name in registry():
            rebuild.rebuild(db, Engine(db), registry()[name])
        assert tables(db) == live
        assert totals(db)[1] == sum((each.cost or 0 for each in listed(db, "corrected")), Decimal(0))
        assert totals(db, "billed")[1] == sum((each.cost or 0 for each in listed(db, "billed")), Decimal(0))
    finally:
        db.close()


def test_a_dry_run_tells_what_the_run_does_and_stores_nothing(book: Writer) -> None:
    book.write([*calls(7, usage=USED), call("other", model="sonnet", usage=USED), a_rate("r-1")])
    command = rerate("run")
    size = len(types(book))
    preview = previewed(book, command.rerate)
    assert len(types(book)) == size
    book.write([command])
    assert carry_on(book, "run", 3) == 3
    done = run(book, "run")
    assert (done.seen, done.changed, done.skipped) == (preview.seen, preview.changed, preview.skipped) == (8, 7, 0)
    assert (done.before, done.after) == (preview.before, preview.after)
    assert (done.before.unpriced, done.after.unpriced, done.after.cost) == (8, 1, "0.77")
    assert done.status == "completed"
    check_sound(book.path)


def test_only_calls_whose_rating_changes_get_an_event(book: Writer) -> None:
    book.write([a_rate("r-1", model="sonnet"), call("a", model="sonnet", usage=USED), call("b", usage=USED)])
    book.write([a_rate("r-2"), rerate("run")])
    carry_on(book, "run")
    with reading(book.path) as db:
        found = select(db, "SELECT subject FROM events WHERE type = 'model_call.rerated.v1'")
    assert found == [(f"model_call/{APP}/b",)]


@pytest.mark.parametrize(
    "filter_",
    [
        {"app": "b"}, {"provider": "vendor"}, {"model": "mini"}, {"type": "embedding"}, {"user_id": "u-9"},
        {"cost_status": "unpriced"}, {"app": "nobody"}, {"app": "b", "model": "mini"},
    ],
)  # fmt: skip
def test_a_filter_chooses_the_calls(book: Writer, filter_: Fields) -> None:
    other = {"app": "b", "provider": "vendor", "model": "mini", "type": "embedding", "user_id": "u-9"}
    rates = [
        a_rate(f"{p}-{m}", provider=p, model=m) for p in ("openai", "vendor") for m in ("gpt-4o", "mini")
    ]  # fmt: skip
    posted: dict[str, Fields] = {name: {"usage": USED, name: value} for name, value in other.items()}
    made = {name: call(name, **fields) for name, fields in posted.items()}
    book.write(
        [a_rate("early", model="mini"), *made.values(), call("plain", usage=USED), *rates, rerate("run", **filter_)]
    )
    carry_on(book, "run", 2)
    with reading(book.path) as db:
        found = {id_ for (id_,) in select(db, "SELECT id FROM model_calls WHERE revision > 0")}
    everything = {*made, "plain"}
    # What had the early rate changes as well: by its position, which the rating names.
    expected = {"cost_status": everything - {"model"}}.get(next(iter(filter_)), set())
    if "cost_status" not in filter_ and len(filter_) == 1 and filter_.get("app") != "nobody":
        expected = {next(iter(filter_))}
    assert found == expected


def test_the_edges_of_a_range_are_exact(book: Writer) -> None:
    """`from` is in it and `to` is not."""
    book.write([call(f"c{n}", started_us=NOON_US - HOUR_US + n, usage=USED) for n in range(5)])
    book.write([a_rate("r-1"), rerate("run", NOON_US - HOUR_US + 1, NOON_US - HOUR_US + 3)])
    carry_on(book, "run", 1)
    assert [row[0] for row in costs(book) if row[1] is not None] == ["c1", "c2"]
    assert run(book, "run").seen == 2


def test_equal_starts_are_paged_through_once(book: Writer) -> None:
    book.write([call(f"c{n}", started_us=NOON_US, usage=USED) for n in range(11)])
    book.write([a_rate("r-1"), rerate("run")])
    assert carry_on(book, "run", 2) == 6
    assert (run(book, "run").seen, run(book, "run").changed) == (11, 11)


def test_what_is_voided_open_or_timed_out_is_left_alone(book: Writer) -> None:
    book.write([call("void", usage=USED), start("open", timeout_us=10 * DAY_US), start("late", timeout_us=0)])
    book.write([sweep(NOON_US), correction("void", void=True), a_rate("r-1"), rerate("run")])
    carry_on(book, "run")
    assert run(book, "run").seen == 0
    book.write([finish("late", usage=USED)])
    check_sound(book.path)


def test_a_re_rate_is_begun_once(book: Writer) -> None:
    outcomes = book.write([rerate("run"), rerate("run"), rerate("run", to_us=NOON_US), revert("none")])
    assert [kind_of(each) for each in outcomes] == ["accepted", "duplicate", "id_conflict", "not_found"]
    assert kind_of(one(book, revert("run"))) == "rerate_unfinished"
    carry_on(book, "run")
    assert [kind_of(one(book, revert("run"))) for _ in range(2)] == ["accepted", "duplicate"]
    carry_on(book, "run")
    assert run(book, "run").status == "reverted"
    assert kind_of(one(book, revert("run"))) == "duplicate"


def test_a_revert_restores_everything_to_the_last_digit(book: Writer) -> None:
    book.write([a_rate("r-1", "0.000000000007"), *calls(9, usage=USED), call("none", model="sonnet", usage=USED)])
    before = costs(book)
    with reading(book.path) as db:
        billed = totals(db)
    book.write([a_rate("r-2", "0.000001234567"), a_rate("r-3", model="sonnet"), rerate("run")])
    carry_on(book, "run", 4)
    assert costs(book) != before
    book.write([revert("run")])
    assert carry_on(book, "run", 4) == 3
    assert costs(book) == before
    with reading(book.path) as db:
        assert totals(db) == billed == totals(db, "billed")
    assert (run(book, "run").status, run(book, "run").changed, run(book, "run").skipped) == ("reverted", 10, 0)
    check_sound(book.path)


def test_a_revert_leaves_alone_and_counts_what_has_changed_since(book: Writer) -> None:
    book.write([*calls(6, usage=USED), a_rate("r-1"), rerate("run")])
    carry_on(book, "run", 4)
    book.write([correction("c-0", user_id="u-7"), correction("c-1", void=True), a_rate("r-2", "0.002")])
    book.write([rerate("again", to_us=NOON_US + 3 * 10**6)])  # c-2, and c-0 once more
    carry_on(book, "again", 1)
    kept = costs(book)[:3]
    book.write([revert("run")])
    carry_on(book, "run", 2)
    found = run(book, "run")
    assert (found.seen, found.changed, found.skipped) == (6, 3, 3)
    assert costs(book)[:3] == kept
    assert [row[1] for row in costs(book)[3:]] == [None] * 3
    check_sound(book.path)


def test_overlapping_re_rates_in_turn(book: Writer) -> None:
    book.write([*calls(9, usage=USED), a_rate("r-1"), rerate("a"), rerate("b", model="gpt-4o")])
    for turn in range(6):
        one(book, advance("ab"[turn % 2], 2))
        book.write([a_rate(f"r-{turn + 2}", f"0.00{turn + 2}")])
    carry_on(book, "a", 2)
    carry_on(book, "b", 2)
    book.write([revert("a"), revert("b")])
    for _ in range(8):
        one(book, advance("b", 2))
        one(book, advance("a", 2))
    assert {run(book, "a").status, run(book, "b").status} == {"reverted"}
    check_sound(book.path)


def test_a_call_moved_ahead_of_a_run_is_met_again(book: Writer) -> None:
    """A correction moves it past the batch in which it was re-rated, and a new rate changes it once more."""
    book.write([*calls(4, usage=USED), a_rate("r-1"), rerate("run")])
    one(book, advance("run", 2))
    book.write([correction("c-0", started_at="2026-11-22T13:00:00Z"), a_rate("r-2", "0.002")])
    carry_on(book, "run", 2)
    assert run(book, "run").status == "completed"
    assert [row[1] for row in costs(book) if row[0] == "c-0"] == [2_200_000_000]
    book.write([revert("run")])
    carry_on(book, "run", 1)
    assert [row[1] for row in costs(book) if row[0] == "c-0"] == [1_100_000_000]
    check_sound(book.path)


def test_correct_after_re_rate_and_re_rate_after_correct(book: Writer) -> None:
    book.write([call("a", usage=USED), a_rate("r-1"), rerate("one")])
    carry_on(book, "one")
    book.write([correction("a", usage={"input_tokens": 1}), a_rate("r-2", "0.002"), rerate("two")])
    carry_on(book, "two")
    assert [row[1] for row in costs(book)] == [20_000_000]
    book.write([revert("two")])
    carry_on(book, "two")
    assert [row[1] for row in costs(book)] == [10_000_000]
    with reading(book.path) as db:
        trail = [event.id for event in reads.model_call_events(db, APP, "a")]
    assert trail == ["a", "a/rerate/one/0", "a/correct/fix-1", "a/rerate/two/0", "a/rerate/two/1"]
    check_sound(book.path)


def test_a_call_too_dear_by_the_new_rate_is_skipped(book: Writer) -> None:
    book.write([a_rate("r-1"), call("a", usage={"input_tokens": 10**9}), call("b", usage=USED)])
    book.write([a_rate("r-2", "999999"), rerate("run")])
    carry_on(book, "run")
    found = run(book, "run")
    assert (found.seen, found.changed, found.skipped) == (2, 0, 2)
    assert costs(book)[0][1] == 10**6 * 10**10


def test_two_writers_in_turn_never_double_a_batch(tmp_path: Path) -> None:
    """Two processes' writers over one file, both at once: as many events as one of them alone makes."""
    with open_ledger(tmp_path, durability="os") as one_, open_ledger(tmp_path, durability="os") as two:
        one_.execute_now([*calls(60, usage=USED), a_rate("r-1"), rerate("run")])
        threads = [Thread(target=carry_on, args=(ledger, "run", 3)) for ledger in (one_, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with reading(one_.path) as db:
            found = reads.rerate(db, "run")
            ids = select(db, "SELECT id FROM events WHERE type = 'model_call.rerated.v1'")
    assert (found.seen, found.changed, len(ids)) == (60, 60, 60)
    check_sound(tmp_path / LEDGER_FILE)


@pytest.mark.parametrize("seed", range(2))
def test_stopped_between_any_two_batches_it_goes_on(tmp_path: Path, seed: int) -> None:
    """A new writer each batch, calls posted in between, gives the entries that one writer gives."""
    dice = Random(seed)
    cuts = [dice.random() < 0.6 for _ in range(30)]

    def history(directory: Path, *, stops: bool) -> list[str]:
        directory.mkdir()
        with open_book(directory) as first:
            first.write([*calls(12, usage=USED), a_rate("r-1"), rerate("run")])
        writer = Writer(first.path, CommandQueue(), "os")
        for n, cut in enumerate(cuts):
            if stops and cut:
                writer.stop()
                writer = Writer(first.path, CommandQueue(), "os")
            one(writer, advance("run", 2))
            one(writer, call(f"x-{n}", started_us=NOON_US + n, usage=USED))
            if n == 15:
                one(writer, revert("run"))
        writer.stop()
        check_sound(first.path)
        with reading(first.path) as db:
            assert reads.rerate(db, "run").status == "reverted"
            return entries(db)

    assert history(tmp_path / "a", stops=True) == history(tmp_path / "b", stops=False)


def fill(ledger: Ledger, n: int = 600) -> None:
    record(ledger, (a_call(f"c-{i}", app="shop", started_at="2026-11-22T10:00:00Z", usage=USED) for i in range(n)))
    ledger.execute_now([a_rate("r-1"), rerate("run")])


def killed_again_and_again(data_dir: Path, kills: int, n: int) -> None:
    """The service is killed while it carries a run on, each time a little further on, until the run is over."""
    prepare(data_dir, lambda ledger: fill(ledger, n))
    seen = 0
    for kill in range(1, kills + 1):
        with started(data_dir) as server:
            further = min(n, max(seen + 1, n * kill // (kills + 1)))
            wait_until_seen(server, further)
            server.kill()
        with reading(data_dir / LEDGER_FILE) as db:
            seen = reads.rerate(db, "run").seen
    with started(data_dir) as server:
        wait_for(lambda: server.get("/v1/rerates/run").json()["status"] == "completed", 60)
        found = server.get("/v1/rerates/run").json()
        sums = server.get("/v1/model-call-stats").json()["totals"]
    assert (found["seen"], found["changed"], sums["calls"]) == (n, n, n)
    assert Decimal(found["after"]["cost"]) == Decimal(sums["cost"]) == Decimal("0.11") * n
    report = verify(data_dir / LEDGER_FILE)
    assert report.ok, report.faults


def wait_until_seen(server: Server, calls_: int) -> None:
    wait_for(lambda: server.get("/v1/rerates/run").json()["seen"] >= calls_, 60)


def test_a_killed_server_resumes_a_re_rate(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path / "data", 1, 4_000)


@pytest.mark.torture
def test_a_server_killed_all_day_resumes_a_re_rate(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path / "data", KILLS, 100_000)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_a_month_is_re_rated_while_posts_go_on(tmp_path: Path) -> None:
    """Exact in the end, in bounded batches, each call once."""
    with open_ledger(tmp_path, durability="os") as ledger:
        month = 30 * DAY_US // MONTH_CALLS
        for first in range(0, MONTH_CALLS, 5_000):
            ledger.execute_now(
                [call(f"c-{n}", started_us=NOON_US - n * month, usage=USED) for n in range(first, first + 5_000)]
            )
        ledger.execute_now([a_rate("r-1"), rerate("run")])
        n = 0
        while (outcome := one(ledger, advance("run"))) and not isinstance(outcome, Exception) and outcome.events:
            assert outcome.events <= 501
            ledger.execute_now([call(f"x-{n}", started_us=NOON_US - n * DAY_US // 10, usage=USED)])
            n += 1
        with reading(ledger.path) as db:
            assert totals(db) == (
                MONTH_CALLS + n,
                Decimal("0.11") * (MONTH_CALLS + n),
                Decimal("0.1") * (MONTH_CALLS + n),
                0,
            )
            assert reads.rerate(db, "run").changed == MONTH_CALLS
    report = verify(tmp_path / LEDGER_FILE)
    assert report.ok, report.faults


def test_over_http(tmp_path: Path) -> None:
    """Dry run, run, follow, revert; the service does the batches by itself."""
    with serving(tmp_path) as service:
        body = {"id": "run", "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
        service.post("/v1/model-calls", [a_call(f"c-{n}") for n in range(5)])
        service.ledger.execute_now([a_rate("r-1")])
        dry = service.post("/v1/rerates", {**body, "dry_run": True}, "admin").json()
        assert (dry["status"], dry["changed"]) == ("dry_run", 5)
        assert service.get("/v1/rerates/run").status_code == 404
        assert [service.post("/v1/rerates", body, "admin").status_code for _ in range(2)] == [201, 200]
        assert service.post("/v1/rerates", {**body, "reason": "x"}, "admin").status_code == 409
        done = followed(service, "completed")
        assert (done["before"], done["after"]) == (dry["before"], dry["after"])
        assert service.get("/v1/model-call-stats").json()["totals"]["cost"] == dry["after"]["cost"] == "2.09"
        assert service.get("/v1/model-call-stats?basis=billed").json()["totals"]["cost"] == "0"
        assert service.request("POST", "/v1/rerates/run/revert").status_code == 201
        followed(service, "reverted")
        assert service.get("/v1/model-call-stats").json()["totals"]["cost"] == "0"
        assert [each["id"] for each in service.get("/v1/rerates?limit=1").json()["items"]] == ["run"]
        assert (
            service.post("/v1/rerates", {**body, "id": "r2", "to": body["from"]}, "admin").json()["errors"][0]["path"]
            == "$.to"
        )


def followed(service: Service, status: str) -> dict[str, dict[str, str]]:
    wait_for(lambda: service.get("/v1/rerates/run").json()["status"] == status, 20)
    found: dict[str, dict[str, str]] = service.get("/v1/rerates/run").json()
    return found
