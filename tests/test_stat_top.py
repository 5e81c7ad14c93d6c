"""The greatest groups of a statistic: exact in any zone and order, and bounded by what is asked, not by who called."""

import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import apsw
import pytest

from projections import model_call_stat_rows, model_call_stat_top
from projections.model_call_stat_rows import StatSource
from schema.model_call_query import CallFilter, Ranking, StatQuery
from tests.serving import APP, NOW, Json, Service, a_call, reading, record, serving
from tests.test_api_stats import DIMENSIONS, FIRST_US, SEED, SUMS, history, plans, random_question, spread

STATS = "/v1/model-call-stats"
RANKINGS: tuple[Ranking, ...] = ("calls", "failed", "input_tokens", "output_tokens", "duration_ms_sum", "cost")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("top")) as service:
        record(service.ledger, history(SEED, 2_000), at_once=700)
        yield service


def ids(service: Service) -> dict[str | None, int]:
    with reading(service.ledger) as db:
        return {name or None: id_ for id_, name in db.execute("SELECT id, name FROM names")}


def by_hand(answer: Json, top: int, by: str, names: dict[str | None, int]) -> Json:
    """The greatest of all groups, of equals those whose names came first, and the others added up by bucket."""
    weights: Counter[tuple[int, ...]] = Counter()
    groups = {id(bucket): tuple(names[name] for name in bucket["group"].values()) for bucket in answer["buckets"]}
    for bucket in answer["buckets"]:
        weights[groups[id(bucket)]] += Decimal(bucket[by])  # type: ignore[assignment]
    kept = set(sorted(weights, key=lambda group: (-weights[group], group))[:top])
    found: list[Json] = []
    rest: dict[str, Json] = {}
    for bucket in answer["buckets"]:
        if groups[id(bucket)] in kept:
            found.append({"start": bucket["start"], "group": bucket["group"], **{n: bucket[n] for n in SUMS}})
        else:
            sums = rest.setdefault(bucket["start"], dict.fromkeys(SUMS, 0))
            rest[bucket["start"]] = {name: sums[name] + bucket[name] for name in SUMS}
    found += [{"start": start, "group": {}, "others": len(weights) - top, **sums} for start, sums in rest.items()]
    return {"groups": len(weights), "buckets": sorted(found, key=repr)}


@pytest.mark.parametrize("seed", range(6))
def test_the_greatest_groups_are_those_of_all_groups(recorded: Service, seed: int) -> None:
    """Any range, granularity, zone, grouping, filter and rank: as taking them from the answer with all groups."""
    dice = random.Random(SEED + seed)
    names = ids(recorded)
    for n in range(8):
        asked = random_question(dice)
        asked.fill = False
        asked.group_by = asked.group_by or (dice.choice(DIMENSIONS),)
        top, by = dice.choice((1, 2, 3, 7)), dice.choice(RANKINGS)
        whole = recorded.get(f"{STATS}?{asked.query()}&percentiles=false").json()
        found = recorded.get(f"{STATS}?{asked.query()}&percentiles=false&top={top}&top_by={by}").json()
        assert found["totals"] == whole["totals"], (seed, n, asked)
        shown = ("start", "group", "others", *SUMS)
        buckets = [{name: bucket[name] for name in shown if name in bucket} for bucket in found["buckets"]]
        expected = by_hand(whole, top, by, names)
        order = [tuple(bucket[name] for name in ("start", "group")) for bucket in expected["buckets"]]
        assert len(buckets) == len(order), (seed, n, asked)
        assert {"groups": found["groups"], "buckets": sorted(map(_sorted, buckets), key=repr)} == {
            "groups": expected["groups"], "buckets": sorted(map(_sorted, expected["buckets"]), key=repr),
        }, (seed, n, asked, top, by)  # fmt: skip


def _sorted(bucket: Json) -> Json:
    return dict(sorted(bucket.items()))


def test_more_groups_than_an_answer_has_are_ranked(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where all groups would be refused, the greatest are told, with the rest in one, by day and in total."""
    with serving(tmp_path_factory.mktemp("many")) as service:
        calls = [a_call(f"c-{n}", app=APP, user_id=f"u-{n % 700}", started_at=NOW) for n in range(1_000)]
        calls += [a_call(f"d-{n}", app=APP, user_id="u-9", started_at="2026-11-20T10:00:00Z") for n in range(3)]
        record(service.ledger, calls)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model_call_stat_top, "CELLS_MAX", 100)
            for granularity in ("total", "day", "month"):
                query = f"{STATS}?group_by=user_id&granularity={granularity}&percentiles=false"
                refused = service.get(query)
                assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "$.group_by")
                answer = service.get(f"{query}&top=2").json()
                assert answer["groups"] == 700
                last = answer["buckets"][-3:]
                assert [bucket["group"].get("user_id") for bucket in last] == ["u-0", "u-9", None]
                assert last[-1]["others"] == 698
                assert sum(bucket["calls"] for bucket in answer["buckets"]) == answer["totals"]["calls"] == 1_003
            patch.setattr(model_call_stat_top, "GROUPS_MAX", 699)
            assert service.get(f"{STATS}?group_by=user_id&top=2&percentiles=false").status_code == 400


def test_ranks_beyond_64_bits_are_exact(recorded: Service) -> None:
    """Of three sums that pass 2^63 the greatest is told, though they differ in the last digit."""
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE r (g INTEGER, calls INTEGER, cost_credits INTEGER, cost_rest_e10 INTEGER)")
    huge, rest = 2**63 - 1, 10**10 - 1
    rows = [(1, huge, 0), (1, huge, 0), (2, huge, 1), (2, huge, 0), (3, huge, 2), (3, huge, -1), (4, huge, rest)]
    db.executemany("INSERT INTO r VALUES (?, 1, ?, ?)", [*rows, (4, huge - 1, 2), (5, 0, -1), (6, -1, rest)])
    high, middle, low = model_call_stat_top._digits("cost")
    order = f"ORDER BY {high} DESC, {middle} DESC, {low} DESC, g"
    found = [g for (g,) in db.execute(f"SELECT g FROM r GROUP BY g {order}")]
    sums: Counter[int] = Counter()
    for g, whole, part in db.execute("SELECT g, cost_credits, cost_rest_e10 FROM r"):
        sums[g] += whole * 10**10 + part
    assert found == sorted(sums, key=lambda g: (-sums[g], g))


# What it costs


def test_users_by_day_are_read_from_their_own_roll_up(recorded: Service) -> None:
    """Whole days by user, of all apps or of one, touch the roll-up of users and days and no other."""
    span = CallFilter(from_us=FIRST_US, to_us=FIRST_US + 3 * 86_400_000_000)
    for call_filter in (span, CallFilter(from_us=span.from_us, to_us=span.to_us, app=APP)):
        with reading(recorded.ledger) as db:
            ids_ = {} if call_filter.app is None else {"app": ids(recorded)[APP]}
            source = StatSource(db, call_filter, [(FIRST_US, FIRST_US + 86_400_000_000)], ids_)  # type: ignore[arg-type]
            arms = source.rows(("user_id",), ("calls",)).arms
        assert "rollup = 9" in arms
        assert "rollup = 8" not in arms


def test_one_users_days_are_sought(recorded: Service) -> None:
    """By the key, in each day: the cells of other users are not touched."""
    span = CallFilter(user_id="u-1", from_us=FIRST_US, to_us=FIRST_US + 10 * 86_400_000_000)
    plan = plans(recorded.ledger, StatQuery(filter=span))
    assert any("USING PRIMARY KEY (rollup=? AND bucket=? AND user_id=?" in step for step in plan), plan


def test_a_long_range_of_one_user_and_model_seeks_only_its_days(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Years of quarters of hours are refused no more where the user has called on few days."""
    with serving(tmp_path_factory.mktemp("years")) as service:
        starts = [f"{year}-03-01T10:00:00Z" for year in range(1990, 2026)]
        calls = [a_call(f"y-{n}", app=APP, user_id="u-1", started_at=start) for n, start in enumerate(starts)]
        record(service.ledger, [*calls, *spread(5_000)])
        query = "user_id=u-1&model=gpt-4o&from=1985-01-01T00:00:00Z&percentiles=false"
        assert service.get(f"{STATS}?{query}").json()["totals"]["calls"] == len(starts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model_call_stat_rows, "SEEKS_MAX", 100)
            assert service.get(f"{STATS}?{query}").status_code == 400
