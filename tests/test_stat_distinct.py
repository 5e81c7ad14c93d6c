"""Distinct counts of statistics: exact by any bucket and group, through corrections and voids, and bounded."""

import random
from bisect import bisect_right
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest

from projections import model_call_stat, model_call_stat_distinct
from schema.times import parse_time
from tests.serving import APP, CALLS, NOW, Json, Service, a_call, at, record, serving
from tests.test_api_stats import DIMENSIONS, SEED, Asked, boundaries, history, random_question

STATS = "/v1/model-call-stats"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, list[Json]]]:
    calls = history(SEED, 2_000)
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path_factory.mktemp("distinct")) as service:
        patch.setattr(model_call_stat, "TAIL_EVENTS", 300)  # most are folded, and some are not
        record(service.ledger, calls, at_once=700)
        yield service, calls


def by_hand(asked: Asked, calls: list[Json], wanted: list[str]) -> tuple[dict[tuple[str, str], Json], Json]:
    """The names of each cell and of all, in sets; a call without one has none."""
    starts = boundaries(asked.low_us, asked.high_us, asked.granularity, ZoneInfo(asked.timezone))
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    every: dict[str, set[str]] = {name: set() for name in wanted}
    for call in calls:
        started = parse_time(call["started_at"])
        if not asked.low_us <= started < asked.high_us or any(call[n] != v for n, v in asked.filters.items()):
            continue
        start = at(starts[bisect_right(starts, started) - 1])
        cell = found.setdefault((start, repr({n: call[n] for n in asked.group_by})), {name: set() for name in wanted})
        for name in wanted:
            if call[name] is not None:
                cell[name].add(call[name])
                every[name].add(call[name])
    counts = {key: {name: len(names) for name, names in cell.items()} for key, cell in found.items()}
    return counts, {name: len(names) for name, names in every.items()}


@pytest.mark.parametrize("seed", range(5))
def test_distinct_counts_are_those_of_sets(recorded: tuple[Service, list[Json]], seed: int) -> None:
    """Any range, granularity, zone, grouping and filter, of up to three dimensions."""
    service, calls = recorded
    dice = random.Random(SEED + seed)
    for n in range(8):
        asked = random_question(dice)
        asked.fill = False
        wanted: list[str] = sorted(dice.sample(DIMENSIONS, dice.choice((1, 1, 2, 3))))
        answer = service.get(f"{STATS}?{asked.query()}&percentiles=false&distinct={','.join(wanted)}").json()
        found = {(bucket["start"], repr(bucket["group"])): bucket["distinct"] for bucket in answer["buckets"]}
        counts, every = by_hand(asked, calls, wanted)
        assert found == counts, (seed, n, asked, wanted)
        assert answer["totals"]["distinct"] == every, (seed, n, asked, wanted)


def test_the_remainder_counts_its_names_once(recorded: tuple[Service, list[Json]]) -> None:
    """Of a user that called two of the other models there is one; the previous period has its own."""
    service, calls = recorded
    query = "from=2026-10-20T00:00:00Z&to=2026-11-05T00:00:00Z&group_by=model&top=1&distinct=user_id&compare=previous"
    answer = service.get(f"{STATS}?{query}").json()
    kept, rest = answer["buckets"]
    span = [c for c in calls if "2026-10-20" <= c["started_at"][:10] < "2026-11-05"]
    others = {c["user_id"] for c in span if c["model"] != kept["group"]["model"]} - {None}
    assert (rest["others"], rest["distinct"]) == (2, {"user_id": len(others)})
    before = {c["user_id"] for c in calls if "2026-10-04" <= c["started_at"][:10] < "2026-10-20"} - {None}
    assert answer["previous"]["distinct"] == {"user_id": len(before)}


def test_what_was_corrected_away_is_not_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A voided call's user is none, a corrected call's is the new one; as billed each is as it was."""
    with serving(tmp_path_factory.mktemp("changed")) as service:
        service.post(CALLS, [a_call("a", user_id="u-1"), a_call("b", user_id="u-2"), a_call("c", user_id="u-3")])
        service.post(f"{CALLS}/a/corrections", {"id": "x", "reason": "never was", "void": True})
        service.post(f"{CALLS}/b/corrections", {"id": "y", "reason": "was another", "set": {"user_id": "u-3"}})
        for basis, users in (("corrected", 1), ("billed", 3)):
            for query in ("", "&granularity=day", "&group_by=app"):
                answer = service.get(f"{STATS}?distinct=user_id&basis={basis}{query}").json()
                assert answer["totals"]["distinct"] == {"user_id": users}
                assert [bucket["distinct"] for bucket in answer["buckets"]] == [{"user_id": users}]


def test_distinct_counts_are_bounded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """More pairs of cell and name than are looked at are refused; at the bound they are counted."""
    with serving(tmp_path_factory.mktemp("bounded")) as service:
        record(service.ledger, [a_call(f"c-{n}", app=APP, user_id=f"u-{n}", started_at=NOW) for n in range(50)])
        for bound, status in ((50, 200), (49, 400)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(model_call_stat_distinct, "PAIRS_MAX", bound)
                assert service.get(f"{STATS}?distinct=user_id&granularity=day").status_code == status
        for wrong in ("user", "user_id,user_id", "app,user_id,model,type"):
            refused = service.get(f"{STATS}?distinct={wrong}")
            assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "$.distinct")


def test_names_that_no_call_has_and_empty_ranges_count_nothing(recorded: tuple[Service, list[Json]]) -> None:
    """Zero, also in filled buckets; and a file of statistics has a column a dimension."""
    service, _ = recorded
    day = "from=2026-01-01T00:00:00Z&to=2026-01-03T00:00:00Z"
    for query in (
        "app=none",
        day,
        f"{day}&granularity=day&fill=true",
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
    ):
        answer = service.get(f"{STATS}?{query}&distinct=user_id,model").json()
        assert answer["totals"]["distinct"] == {"user_id": 0, "model": 0}
        assert all(bucket["distinct"] == {"user_id": 0, "model": 0} for bucket in answer["buckets"])
    header, *rows = service.get(f"{STATS}.csv?group_by=app&distinct=user_id,model").text.splitlines()
    assert header.endswith(",distinct_user_id,distinct_model")
    assert [row.split(",")[-2:] for row in rows] == [["3", "3"], ["3", "3"]]
