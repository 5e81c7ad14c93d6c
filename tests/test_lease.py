"""Leases: whose turn it is, how quotas hold, what outcomes do; through the writer, as commands in groups."""

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from threading import Thread

import pytest

from ledger.decision import Command
from ledger.queue import CommandQueue
from ledger.writer import Appended, Writer
from schema.errors import NoCredential
from schema.times import DAY_US, parse_time
from tests.catalogue import change_provider, create_model, create_provider
from tests.histories import (
    HOUR_US,
    MINUTE_US,
    NOON_US,
    SECOND_US,
    appended,
    call,
    kind_of,
    kinds,
    open_book,
    open_ledger,
)
from tests.leases import (
    a_credential,
    an_edit,
    claim,
    credential_of,
    lend,
    lent,
    looked,
    one,
    prune,
    report,
    reset,
    rotation,
    set_up,
    taken,
    told,
    usage,
)
from tests.strategies import TORTURE_EXAMPLES

TODAY, MONTH = "2026-11-22", "2026-11"


@pytest.fixture
def book(tmp_path: Path) -> Generator[Writer]:
    with open_book(tmp_path) as writer:
        yield writer


VECTORS = [
    ({"a": 5, "b": 1, "c": 1}, "aabacaa" * 3),
    ({"a": 100, "b": 50, "c": 50}, "abca" * 5),
    ({"a": 100, "b": 10}, "aaaaabaaaaaaaaaabaaaaa"),
]


@pytest.mark.parametrize(("weights", "expected"), VECTORS)
@pytest.mark.parametrize("restart", [1, 2, 3, 5, 1_000])
def test_the_vectors_also_where_the_service_is_restarted_mid_cycle(
    tmp_path: Path, weights: dict[str, int], expected: str, restart: int
) -> None:
    with open_book(tmp_path) as first:
        set_up(first, *(a_credential(id_, weight) for id_, weight in weights.items()))
    found = ""
    while len(found) < len(expected):
        writer = Writer(first.path, CommandQueue(), "os")
        found += taken(writer, [lend() for _ in range(min(restart, len(expected) - len(found)))])
        writer.stop()
    assert found == expected


def test_two_writers_in_turn_go_on_with_one_cycle(book: Writer) -> None:
    set_up(book, *(a_credential(id_, weight) for id_, weight in {"a": 5, "b": 1, "c": 1}.items()))
    other = Writer(book.path, CommandQueue(), "os")
    assert "".join(taken((book, other)[n % 2], [lend()]) for n in range(14)) == "aabacaa" * 2
    other.stop()


def test_ties_go_to_the_credential_created_first(book: Writer) -> None:
    set_up(book, a_credential("z"), a_credential("m"), a_credential("a"))
    assert taken(book, [lend() for _ in range(6)]) == "zmazma"


def test_a_weight_edit_keeps_what_the_others_have_saved_up(book: Writer) -> None:
    set_up(book, a_credential("a", 5), a_credential("b", 1), a_credential("c", 1))
    assert taken(book, [lend(), lend()]) == "aa"
    before = rotation(book, "b"), rotation(book, "c")
    book.write([an_edit("a", 50)])
    assert (rotation(book, "b"), rotation(book, "c")) == before
    assert taken(book, [lend()]) == "a"
    assert sum(rotation(book, id_).current for id_ in "abc") == 0


def test_after_edits_nobody_waits_for_what_was_owed_under_greater_weights(book: Writer) -> None:
    set_up(book, a_credential("a", 1000), a_credential("b"), a_credential("c"))
    taken(book, [lend() for _ in range(7)])
    book.write([an_edit(id_, 1) for id_ in "abc"])
    assert set(taken(book, [lend() for _ in range(6)])) == set("abc")
    assert taken(book, [lend() for _ in range(30)]).count("a") == 10


def test_weight_0_gets_nothing(book: Writer) -> None:
    set_up(book, a_credential("a"), a_credential("b", 0))
    assert taken(book, [lend() for _ in range(5)]) == "aaaaa"
    book.write([an_edit("a", 0)])
    outcome = one(book, lend())
    assert isinstance(outcome, NoCredential)
    assert outcome.detail == "of the credentials of provider openai none can be lent: 2 drained"


def test_the_next_tier_serves_when_the_first_is_exhausted(book: Writer) -> None:
    set_up(book, a_credential("z", priority=2), a_credential("a", daily_limit=2), a_credential("b", daily_limit=1))
    assert taken(book, [lend() for _ in range(6)]) == "abazzz"


def serve_threads(tmp_path: Path, threads: int, leases: int) -> None:
    """Threads over two processes' ledgers on one file, while the weight of one that is not among them is edited."""
    with open_ledger(tmp_path, durability="os") as first, open_ledger(tmp_path, durability="os") as second:
        weights = {"a": 5, "b": 1, "c": 1}
        first.execute_now([create_provider(), *(a_credential(id_, weight) for id_, weight in weights.items())])
        first.execute_now([create_provider("other"), a_credential("x", provider="other")])
        found: list[Counter[str]] = []

        def work(n: int) -> None:
            ledger, mine = (first, second)[n % 2], Counter[str]()
            for _ in range(0, leases, 10):
                mine.update(credential_of(each) for each in ledger.execute_now([lend() for _ in range(10)]))
            found.append(mine)

        working = [Thread(target=work, args=(n,)) for n in range(threads)]
        for thread in working:
            thread.start()
        n = 0
        while any(thread.is_alive() for thread in working):
            n += 1
            first.execute_now([an_edit("x", n % 50 + 1, provider="other"), lend(provider="other")])
        total = sum(found, Counter[str]())
        assert n > 1
        assert total == {"a": threads * leases * 5 // 7, "b": threads * leases // 7, "c": threads * leases // 7}


def test_shares_are_exact_under_concurrency(tmp_path: Path) -> None:
    serve_threads(tmp_path, 8, 350)


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_shares_are_exact_under_long_concurrency(tmp_path: Path) -> None:
    serve_threads(tmp_path, 8, 7_000)


@pytest.mark.parametrize("limit", [{"daily_limit": 60}, {"monthly_limit": 60}], ids=str)
def test_no_quota_is_overrun_by_parallel_leases(tmp_path: Path, limit: dict[str, int]) -> None:
    """200 threads of two writers against a limit of 60."""
    with open_ledger(tmp_path, durability="os") as first, open_ledger(tmp_path, durability="os") as second:
        first.execute_now([create_provider(), a_credential("a", 100, provider="openai", **limit)])
        found: list[str] = []

        def work(n: int) -> None:
            found.append(credential_of((first, second)[n % 2].execute_now([lend()])[0]))

        threads = [Thread(target=work, args=(n,)) for n in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(found) == {"a": 60, "no_credential": 140}


@pytest.mark.parametrize(
    ("timezone", "day_end", "month_end"),
    [
        ("UTC", "2026-11-23T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("Asia/Shanghai", "2026-11-22T16:00:00Z", "2026-11-30T16:00:00Z"),
        ("America/New_York", "2026-11-23T05:00:00Z", "2026-12-01T05:00:00Z"),
    ],
)
def test_quotas_begin_anew_at_the_zones_midnight(book: Writer, timezone: str, day_end: str, month_end: str) -> None:
    """To the microsecond: the last instant of a day or month is refused, the next served; and it says how long."""
    set_up(book, a_credential("a", daily_limit=2, monthly_limit=5, timezone=timezone))
    end_us = parse_time(day_end)
    assert taken(book, [lend(), lend()]) == "aa"
    refused = one(book, lend(at_us=end_us - SECOND_US))
    assert isinstance(refused, NoCredential)
    assert (refused.retry_after_s, refused.detail[-11:]) == (1, "1 exhausted")
    assert kinds(book.write([lend(at_us=end_us - 1), lend(at_us=end_us)])) == {"no_credential": 1, "accepted": 1}
    assert taken(book, [lend(at_us=end_us), lend(at_us=end_us + DAY_US)]) == "aa"
    month_us = parse_time(month_end)
    refused = one(book, lend(at_us=month_us - HOUR_US))
    assert isinstance(refused, NoCredential)
    assert refused.retry_after_s == 3600
    assert taken(book, [lend(at_us=month_us), lend(at_us=month_us)]) == "aa"
    assert kind_of(one(book, lend(at_us=month_us))) == "no_credential"


def test_a_group_that_spans_a_midnight_counts_each_side(book: Writer) -> None:
    set_up(book, a_credential("a", daily_limit=2), a_credential("b", daily_limit=2, timezone="Asia/Shanghai"))
    midnight_us, shanghai_us = parse_time("2026-11-23T00:00:00Z"), parse_time("2026-11-22T16:00:00Z")
    group = [lend(at_us=at) for at in (shanghai_us - 1, shanghai_us, midnight_us - 1, midnight_us, midnight_us + 1)]
    assert taken(book, group) == "ababa"
    assert (usage(book, "a", TODAY).used, usage(book, "a", "2026-11-23").used) == (2, 1)
    assert (usage(book, "b", TODAY).used, usage(book, "b", "2026-11-23").used) == (0, 2)


def test_the_time_of_leases_never_runs_back(book: Writer) -> None:
    """A process whose clock is behind does not lend from a day that is over."""
    set_up(book, a_credential("a", daily_limit=1))
    assert taken(book, [lend(at_us=NOON_US + DAY_US)]) == "a"
    assert kind_of(one(book, lend(at_us=NOON_US))) == "no_credential"
    assert usage(book, "a", TODAY).used == 0


def test_waits_are_by_the_clock_also_after_it_ran_ahead_once(book: Writer) -> None:
    """Only days and months stay where they were; what the clock of then put off is not put off for weeks."""
    set_up(book, a_credential("a"), a_credential("b", 0))
    ahead_us = NOON_US + 40 * DAY_US
    book.write([lend("far", at_us=ahead_us), report("far", "rate_limited", at_us=ahead_us)])
    found = lent(one(book, lend("one"))).lease
    assert (found.expires_at_us, found.day) == (NOON_US + 600 * SECOND_US, "2027-01-01")
    assert kind_of(one(book, lend("one", at_us=found.expires_at_us))) == "lease_ended"
    book.write([report("one", "rate_limited", retry_after_s=60)])
    assert rotation(book, "a").penalised_until_us == NOON_US + MINUTE_US
    book.write([lend("two"), report("two", "auth")])
    assert rotation(book, "a").recheck_at_us == NOON_US + 6 * SECOND_US
    refused = one(book, lend())
    assert isinstance(refused, NoCredential)
    assert refused.retry_after_s == 6
    assert claims(book, NOON_US + 6 * SECOND_US) == {"a": NOON_US + 66 * SECOND_US}
    found_us = claims(book, ahead_us)["a"]
    book.write([looked("a", found_us, works=False, at_us=ahead_us)])
    assert claims(book, NOON_US + MINUTE_US) == {"a": NOON_US + 2 * MINUTE_US}


def test_another_zone_moves_the_bounds_of_its_day(book: Writer) -> None:
    set_up(book, a_credential("a", daily_limit=1))
    assert taken(book, [lend(at_us=parse_time("2026-11-22T23:30:00Z"))]) == "a"
    book.write([an_edit("a", daily_limit=1, timezone="America/Los_Angeles")])
    refused = one(book, lend(at_us=parse_time("2026-11-23T02:00:00Z")))
    assert isinstance(refused, NoCredential)
    assert refused.retry_after_s == 6 * 3600


def test_what_was_not_sent_is_given_back_where_it_was_taken(book: Writer) -> None:
    """Also when the day is over by then; and once."""
    set_up(book, a_credential("a", daily_limit=2, monthly_limit=3))
    assert taken(book, [lend("one"), lend("two")]) == "aa"
    later_us = NOON_US + DAY_US
    assert taken(book, [lend("three", at_us=later_us)]) == "a"
    outcomes = book.write([report("one", "not_sent", at_us=later_us), report("one", "not_sent", at_us=later_us)])
    assert [kind_of(each) for each in outcomes] == ["accepted", "duplicate"]
    found = usage(book, "a", TODAY), usage(book, "a", MONTH), usage(book, "a", "2026-11-23")
    assert [(each.used, each.not_sent) for each in found] == [(1, 1), (2, 1), (1, 0)]
    assert taken(book, [lend(at_us=later_us)]) == "a"


@pytest.mark.parametrize(
    "outcome", ["success", "auth", "payment", "content", "rate_limited", "server", "timeout", None]
)
def test_everything_else_counts_as_used(book: Writer, outcome: str | None) -> None:
    set_up(book, a_credential("a", daily_limit=2))
    book.write([lend("one"), *([report("one", outcome)] if outcome else [])])
    assert usage(book, "a", TODAY).used == 1
    if outcome:
        assert getattr(usage(book, "a", TODAY), outcome) == getattr(usage(book, "a", MONTH), outcome) == 1


def test_a_lease_id_is_idempotent(book: Writer) -> None:
    set_up(book, a_credential("a"), a_credential("b"))
    first, again = book.write([lend("one"), lend("one", at_us=NOON_US + MINUTE_US)])
    assert lent(first) == lent(again)
    assert [kind_of(first), kind_of(again)] == ["accepted", "duplicate"]
    assert usage(book, "a", TODAY).used == 1
    others = [lend("one", app="x"), lend("one", expires_in_s=5), lend("one", model="m"), lend("one", provider="p")]
    assert kinds(book.write(others)) == {"id_conflict": 4}
    assert rotation(book, "b").last_leased_us is None


@pytest.mark.parametrize(
    "end",
    [
        report("one", "not_sent"), report("one", "success"), an_edit("a", enabled=False, disabled_reason="manual"),
        change_provider(enabled=False),
    ],
    ids=["given back", "used", "credential disabled", "provider disabled"],
)  # fmt: skip
def test_a_lease_that_is_over_is_not_repeated(book: Writer, end: Command) -> None:
    """Else an id from weeks ago would fetch today's secret, past quotas and past disabling."""
    set_up(book, a_credential("a"), a_credential("b"))
    assert taken(book, [lend("one"), lend("one")]) == "aa"
    book.write([end])
    assert kind_of(one(book, lend("one"))) == "lease_ended"


def test_a_lease_is_repeated_until_it_expires(book: Writer) -> None:
    set_up(book, a_credential("a"))
    end_us = NOON_US + 600 * SECOND_US
    again = [lend("one"), lend("one", at_us=end_us - 1), lend("one", at_us=end_us)]
    assert [kind_of(each) for each in book.write(again)] == ["accepted", "duplicate", "lease_ended"]


def test_a_lease_whose_credential_failed_meanwhile_is_not_repeated(book: Writer) -> None:
    """Also in the group in which it failed."""
    set_up(book, a_credential("a"))
    found = book.write([lend("one"), lend("two"), report("two", "auth"), lend("one")])
    assert kind_of(found[-1]) == "lease_ended"


def test_a_report_is_idempotent_and_its_apps_alone(book: Writer) -> None:
    set_up(book, a_credential("a"))
    book.write([lend("one"), lend("two", app=None)])
    assert [kind_of(one(book, each)) for each in (
        report("none"), report("one", app="x"), report("two"), report("one"), report("one"),
        report("one", app=None), report("one", "server"), report("one", retry_after_s=3),
    )] == ["not_found", "not_found", "not_found", "accepted", "duplicate", "duplicate", "already_reported",
           "already_reported"]  # fmt: skip


def test_a_lease_and_its_report_may_come_in_one_group(book: Writer) -> None:
    set_up(book, a_credential("a", daily_limit=1))
    outcomes = book.write([lend("one"), report("one", "not_sent"), lend("two"), report("two", "auth"), lend("three")])
    assert [kind_of(each) for each in outcomes] == ["accepted"] * 4 + ["no_credential"]


@pytest.mark.parametrize("outcome", ["auth", "payment"])
def test_what_the_vendor_refuses_is_disabled_at_once(book: Writer, outcome: str) -> None:
    """Also for those that follow in the same group."""
    set_up(book, a_credential("a"), a_credential("b"))
    assert taken(book, [lend("one")]) == "a"
    outcomes = book.write([report("one", outcome), lend(), lend(), lend()])
    assert [credential_of(each) for each in outcomes[1:]] == ["b"] * 3
    [(verb, data)] = told(book)
    assert (verb, data["enabled"], data["disabled_reason"], data["errors"]) == ("disable", False, outcome, 1)
    row = rotation(book, "a")
    delay_s = {"auth": 6, "payment": 4_101}[outcome]
    assert row.recheck_at_us == NOON_US + delay_s * SECOND_US
    book.write([an_edit("b", enabled=False, disabled_reason="manual")])
    refused = one(book, lend())
    assert isinstance(refused, NoCredential)
    assert (refused.retry_after_s, "2 disabled" in refused.detail) == (delay_s, True)


@pytest.mark.parametrize("outcome", ["server", "timeout"])
def test_five_errors_in_a_row_disable(book: Writer, outcome: str) -> None:
    set_up(book, a_credential("a"))
    for n, each in enumerate(
        [*[outcome] * 4, "success", *[outcome] * 4, "content", "not_sent", "rate_limited", outcome]
    ):
        book.write([lend(f"l{n}"), report(f"l{n}", each)])
    assert [verb for verb, _ in told(book)] == ["penalise", "disable"]
    assert told(book)[1][1]["errors"] == 5
    assert kind_of(one(book, lend())) == "no_credential"


def test_content_says_nothing_of_the_credential(book: Writer) -> None:
    set_up(book, a_credential("a"))
    before_us = rotation(book, "a")
    for n in range(10):
        book.write([lend(f"l{n}"), report(f"l{n}", "content")])
    assert told(book) == []
    assert (rotation(book, "a").errors, before_us.errors) == (0, 0)


def test_a_penalty_lasts_its_time_whatever_succeeds(book: Writer) -> None:
    """A tenth of the weight until then, what it saved up stays; one event, at its beginning; never shortened."""
    set_up(book, a_credential("a"), a_credential("b", 10))
    assert taken(book, [lend("one"), lend("two")]) == "aa"
    book.write([report("one", "rate_limited", retry_after_s=60), report("two", "success")])
    assert Counter(taken(book, [lend(at_us=NOON_US + MINUTE_US - 1) for _ in range(20)])) == {"a": 9, "b": 11}
    assert Counter(taken(book, [lend(at_us=NOON_US + MINUTE_US) for _ in range(11)])) == {"a": 10, "b": 1}
    [(verb, data)] = told(book)
    assert (verb, data["until"], data["retry_after_s"]) == ("penalise", "2026-11-22T12:01:00.000000Z", 60)
    later_us = NOON_US + HOUR_US
    book.write([lend("3", at_us=later_us), lend("4", at_us=later_us), report("3", "rate_limited", at_us=later_us)])
    book.write([report("4", "rate_limited", retry_after_s=1, at_us=later_us)])
    assert rotation(book, "a").penalised_until_us == NOON_US + HOUR_US + 180 * SECOND_US
    assert len(told(book)) == 2


def test_a_penalty_counts_for_small_weights_too(book: Writer) -> None:
    set_up(book, a_credential("a", 1), a_credential("b", 1))
    book.write([lend("one"), report("one", "rate_limited"), *(lend() for _ in range(10))])
    assert Counter(taken(book, [lend() for _ in range(22)])) == {"a": 2, "b": 20}


def test_looks_at_a_failed_credential(book: Writer) -> None:
    """Claimed once, put off longer each time in vain, restored by the first that works; also by another process."""
    set_up(book, a_credential("a"))
    book.write([lend("one"), report("one", "auth")])
    assert claims(book, NOON_US + 6 * SECOND_US - 1) == {}
    at_us = NOON_US + 6 * SECOND_US
    other = Writer(book.path, CommandQueue(), "os")
    for delay_s in (7, 9, 13):
        found = claims(other, at_us)
        assert claims(book, at_us) == {}
        assert kind_of(one(book, looked("a", found["a"] + 1, works=True, at_us=at_us))) == "accepted"
        assert rotation(book, "a").recheck_at_us == found["a"]
        book.write([looked("a", found["a"], works=False, at_us=at_us)])
        at_us += delay_s * SECOND_US
        assert rotation(book, "a").recheck_at_us == at_us
    other.stop()
    lost = claims(book, at_us)
    at_us += MINUTE_US
    found = claims(book, at_us)
    book.write([looked("a", lost["a"], works=True, at_us=at_us)])
    assert kind_of(one(book, lend(at_us=at_us))) == "no_credential"
    book.write([looked("a", found["a"], works=True, at_us=at_us)])
    assert taken(book, [lend(at_us=at_us)]) == "a"
    assert [(verb, data.get("by")) for verb, data in told(book)] == [("disable", None), ("restore", "probe")]
    assert (rotation(book, "a").recheck_at_us, rotation(book, "a").errors) == (None, 0)
    assert claims(book, at_us + DAY_US) == {}


def test_one_that_a_look_restores_and_calls_fail_with_is_looked_at_ever_more_rarely(book: Writer) -> None:
    """Until a call succeeds: else it would be disabled and restored every few seconds for ever."""
    set_up(book, a_credential("a"))
    at_us = NOON_US
    for n, delay_s in enumerate((6, 7, 9, 13, 21, 37)):
        book.write([lend(f"l{n}", at_us=at_us), report(f"l{n}", "auth", at_us=at_us)])
        at_us += delay_s * SECOND_US
        assert rotation(book, "a").recheck_at_us == at_us
        book.write([looked("a", claims(book, at_us)["a"], works=True, at_us=at_us)])
    book.write([lend("good", at_us=at_us), report("good", at_us=at_us)])
    book.write([lend("bad", at_us=at_us), report("bad", "auth", at_us=at_us)])
    assert rotation(book, "a").recheck_at_us == at_us + 6 * SECOND_US
    book.write([reset("a", reactivate=True, at_us=at_us)])
    book.write([lend("worse", at_us=at_us), report("worse", "auth", at_us=at_us)])
    assert rotation(book, "a").recheck_at_us == at_us + 6 * SECOND_US


def test_no_provider_takes_up_all_looks(book: Writer) -> None:
    set_up(book, *(a_credential(f"p{n}", provider="p") for n in range(5)), provider="p")
    set_up(book, a_credential("q", provider="q"), provider="q")
    leases = [lend(f"l{n}", provider="p") for n in range(5)]
    book.write([*leases, *(report(f"l{n}", "auth") for n in range(5)), lend("q", provider="q"), report("q", "auth")])
    at_us = NOON_US + MINUTE_US
    for expected, busy in ((["p0", "p1", "q"], ()), ([], ("p", "q")), (["p2", "p3"], ())):
        outcome = one(book, claim(at_us, 16, 2, busy))
        assert isinstance(outcome, Appended)
        assert [each.line.content.id for each in outcome.report.claims] == expected  # type: ignore[union-attr]


def claims(writer: Writer, at_us: int) -> dict[str, int]:
    outcome = one(writer, claim(at_us))
    assert isinstance(outcome, Appended)
    found: dict[str, int] = {each.line.content.id: each.until_us for each in outcome.report.claims}  # type: ignore[union-attr]
    return found


def test_what_was_disabled_by_hand_meanwhile_is_looked_at_no_more(book: Writer) -> None:
    set_up(book, a_credential("a"), a_credential("b"))
    book.write([lend("one"), report("one", "auth"), an_edit("a", enabled=False, disabled_reason="manual")])
    assert claims(book, NOON_US + HOUR_US) == {}
    assert rotation(book, "a").recheck_at_us is None


def test_reports_on_leases_from_before_a_restore_say_nothing(book: Writer) -> None:
    """A call that was under way with what has been mended since must not disable it again."""
    set_up(book, a_credential("a"))
    book.write([lend("one"), lend("two"), lend("three"), report("one", "auth"), reset("a", reactivate=True)])
    assert [verb for verb, _ in told(book)] == ["disable", "reset", "restore"]
    book.write([report("two", "auth"), report("three", "rate_limited")])
    assert taken(book, [lend("four")]) == "a"
    book.write([report("four", "auth")])
    assert kind_of(one(book, lend())) == "no_credential"


@pytest.mark.parametrize(
    ("counters", "expected"),
    [("all", (0, 0, 0, 0)), ("daily", (0, 4, 3, 1)), ("monthly", (4, 0, 3, 1)), ("error", (4, 4, 0, 0))],
)
def test_resets(book: Writer, counters: str, expected: tuple[int, ...]) -> None:
    set_up(book, a_credential("a"))
    book.write([lend("0"), report("0", "rate_limited")])
    for n in range(1, 4):
        book.write([lend(str(n)), report(str(n), "server")])
    outcome = one(book, reset("a", counters))  # type: ignore[arg-type]
    assert appended(outcome).id == "a/reset/2"
    row = rotation(book, "a")
    found = usage(book, "a", TODAY).used, usage(book, "a", MONTH).used, row.errors, int(row.penalised_until_us > 0)
    assert found == expected
    assert told(book)[-1] == ("reset", {"id": "a", "counters": counters})


def test_what_a_reset_took_off_is_not_given_back(book: Writer) -> None:
    """Else a reservation from before would let the quota be overrun."""
    set_up(book, a_credential("a", daily_limit=2))
    book.write([lend("one"), lend("two"), reset("a", "daily"), lend("three"), report("one", "not_sent")])
    found = usage(book, "a", TODAY), usage(book, "a", MONTH)
    assert [each.used for each in found] == [1, 2]


def test_a_reset_of_nothing_is_refused(book: Writer) -> None:
    assert kind_of(one(book, reset("none"))) == "not_found"


def test_the_journal_hears_once_that_a_quota_is_nearly_over_and_that_it_is(book: Writer) -> None:
    set_up(book, a_credential("a", daily_limit=10, monthly_limit=14))
    book.write([lend(f"l{n}") for n in range(10)])
    book.write([report("l9", "not_sent"), lend("again")])
    book.write([lend(at_us=NOON_US + DAY_US) for _ in range(6)])
    found = [(verb, data["quota"], data["used"], data["limit"]) for verb, data in told(book)]
    assert found == [
        ("quota_near", "daily", 9, 10), ("quota_exhausted", "daily", 10, 10), ("quota_near", "monthly", 13, 14),
        ("quota_exhausted", "monthly", 14, 14),
    ]  # fmt: skip


def test_a_lease_makes_no_event(book: Writer) -> None:
    set_up(book, a_credential("a"))
    book.write([lend("one"), report("one"), lend("two"), report("two", "content")])
    assert appended(one(book, call())).position == 3


def test_old_leases_are_forgotten_in_bounded_steps(book: Writer) -> None:
    set_up(book, a_credential("a"))
    book.write([lend(f"l{n}", at_us=NOON_US + n * HOUR_US) for n in range(10)])
    end_us = NOON_US + 35 * DAY_US + 6 * HOUR_US
    found = [one(book, prune(end_us, 4)) for _ in range(3)]
    assert [each.report.leases for each in found if isinstance(each, Appended)] == [4, 2, 0]  # type: ignore[union-attr]
    assert kind_of(one(book, report("l5"))) == "not_found"
    assert kind_of(one(book, report("l6"))) == "accepted"
    assert kind_of(one(book, lend("l5", at_us=end_us))) == "accepted"
    one(book, prune(NOON_US + 800 * DAY_US, 100))
    assert usage(book, "a", TODAY).used == 0


def test_a_provider_that_is_disabled_or_unknown_lends_nothing(book: Writer) -> None:
    set_up(book, a_credential("a"))
    assert kind_of(one(book, lend(provider="none"))) == "not_found"
    book.write([create_provider("empty"), change_provider(enabled=False)])
    assert [kind_of(one(book, each)) for each in (lend(), lend(provider="empty"))] == ["no_credential"] * 2


class Models:
    """Three providers that offer a model."""

    def __init__(self, book: Writer) -> None:
        self.book = book
        for name in "pqr":
            model = create_model(f"m-{name}", provider=name, model="mini")
            set_up(book, a_credential(name.upper(), provider=name), provider=name)
            assert kind_of(one(book, model)) == "accepted"


@pytest.fixture
def models(book: Writer) -> Models:
    return Models(book)


def test_a_model_goes_round_the_providers_that_offer_it(models: Models) -> None:
    book = models.book
    assert taken(book, [lend(model="mini") for _ in range(4)]) == "PQRP"
    assert taken(book, [lend(model="p/mini"), lend(model="mini")]) == "PQ"
    book.write([change_provider("r", enabled=False)])
    assert taken(book, [lend(model="mini") for _ in range(3)]) == "PQP"
    book.write([change_provider("q", enabled=False), change_provider("p", enabled=False)])
    assert kind_of(one(book, lend(model="mini"))) == "no_credential"
    assert kind_of(one(book, lend(model="maxi"))) == "not_found"


@pytest.mark.parametrize("outcome", ["rate_limited", "server", "timeout"])
def test_a_provider_that_failed_is_passed_over_for_a_while(models: Models, outcome: str) -> None:
    """90 seconds, 180 from the third failure in a row on; a success clears it."""
    book, now_us = models.book, NOON_US
    for n, cool_s in enumerate((90, 90, 180)):
        book.write([lend(f"p{n}", provider="p", at_us=now_us), report(f"p{n}", outcome, at_us=now_us)])
        end_us = now_us + cool_s * SECOND_US
        assert "P" not in taken(book, [lend(model="mini", at_us=end_us - 1) for _ in range(4)])
        assert "P" in taken(book, [lend(model="mini", at_us=end_us) for _ in range(3)])
        now_us = end_us
    reports = [report("q", outcome, at_us=now_us), report("p", "success", at_us=now_us)]
    book.write([lend("q", provider="q"), lend("p", provider="p"), *reports])
    assert taken(book, [lend(model="mini", at_us=now_us) for _ in range(4)]).count("Q") == 0


def test_where_all_cool_down_the_first_to_end_it_serves(models: Models) -> None:
    book = models.book
    for n, name in enumerate("qpr"):
        at_us = NOON_US + n * SECOND_US
        book.write([lend(name, provider=name, at_us=at_us), report(name, "timeout", at_us=at_us)])
    at_us = NOON_US + 3 * SECOND_US
    assert taken(book, [lend(model="mini", at_us=at_us), lend(model="mini", at_us=at_us)]) == "QQ"


def test_a_provider_without_a_usable_credential_is_passed_over(models: Models) -> None:
    book = models.book
    book.write([an_edit("P", provider="p", daily_limit=1), an_edit("Q", 0, provider="q")])
    assert taken(book, [lend(model="mini") for _ in range(4)]) == "PRRR"
    book.write([an_edit("R", 0, provider="r")])
    refused = one(book, lend(model="mini"))
    assert isinstance(refused, NoCredential)
    assert "2 drained, 1 exhausted" in refused.detail
    assert refused.retry_after_s == 12 * 3600


def test_enabling_a_provider_clears_its_failures(models: Models) -> None:
    book = models.book
    book.write([lend("one", provider="p"), report("one", "server")])
    book.write([change_provider("p", enabled=False), change_provider("p", enabled=True)])
    assert taken(book, [lend(model="mini") for _ in range(3)]) == "PQR"


@pytest.mark.torture
def test_shares_are_exact_over_a_long_history(book: Writer) -> None:
    weights = {"a": 7, "b": 5, "c": 3, "d": 1}
    set_up(book, *(a_credential(id_, weight) for id_, weight in weights.items()))
    rounds = TORTURE_EXAMPLES // 16
    found = Counter[str]()
    for _ in range(rounds):
        found.update(taken(book, [lend() for _ in range(16)]))
        assert found == {id_: weight * (sum(found.values()) // 16) for id_, weight in weights.items()}
