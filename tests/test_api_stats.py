"""Statistics over HTTP: exact against a fold by hand, fresh, and as cheap as their answer."""

import random
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import apsw
import pytest
from apsw.ext import query_info

from ledger import reads
from ledger.database import open_reader, open_writer
from ledger.ledger import Ledger
from projections.model_call_list import NEWEST, list_calls
from projections.model_call_stat import MEASURES
from schema.model_call_query import CallFilter, Dimension, StatQuery
from schema.money import SECONDS_DECIMALS, format_scaled, parse_scaled
from schema.times import DAY_US, HOUR_US, QUARTER_US, parse_time
from tests.percentiles import shown_percentiles
from tests.serving import (
    APP,
    CALLS,
    NOW,
    NOW_US,
    OTHER_APP,
    Json,
    Service,
    a_call,
    at,
    prepare,
    reading,
    record,
    serving,
)  # fmt: skip

STATS = "/v1/model-call-stats"
SEED = 20261122
DIMENSIONS: tuple[Dimension, ...] = ("app", "user_id", "provider", "model", "type", "status", "credential_id")
QUANTITIES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "images")
SUMS = ("calls", "succeeded", "failed", *QUANTITIES, "unpriced_calls", "duration_ms_sum", "ttfb_ms_sum", "ttfb_calls")
# Whole and half hours off UTC, clocks that are set by one hour and by half of one, and none at all.
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"),
    *("Pacific/Apia", "America/St_Johns", "Asia/Tokyo"),
)
# Days on which one of these zones sets its clock, and the present.
DAYS = ("2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01", "2026-11-21")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


# A history, and its statistics by hand


def history(seed: int, count: int) -> list[Json]:
    dice = random.Random(seed)
    return [random_call(dice, n) for n in range(count)]


def random_call(dice: random.Random, n: int) -> Json:
    usage: Json = {name: dice.choice((0, 1, dice.randrange(10**6))) for name in QUANTITIES}
    usage["input_tokens"] += usage["cache_read_tokens"] + usage["cache_write_tokens"]
    usage["output_tokens"] += usage["reasoning_tokens"]
    usage["seconds"] = dice.choice(("0", f"{dice.randrange(100)}.{dice.randrange(10**6):06}"))
    return {
        "id": f"c-{n}",
        "app": dice.choice((APP, OTHER_APP)),
        "provider": dice.choice(("openai", "anthropic")),
        "model": dice.choice(("m-1", "m-2", "M-3")),
        "type": dice.choice(("chat_completion", "embedding")),
        "status": dice.choice(("success", "success", "failed")),
        "started_at": at(random_start(dice)),
        "user_id": dice.choice((None, "u-1", "u-2", "u-3")),
        "credential_id": dice.choice((None, None, "k-1")),
        "duration_ms": dice.choice((None, dice.randrange(10**5))),
        "ttfb_ms": dice.choice((None, 0, dice.randrange(10**4))),
        "usage": dice.choice((None, usage, usage)),
    }


def random_start(dice: random.Random) -> int:
    """Within a day and a half around one of the days, often right at the edge of a quarter of an hour."""
    start = parse_time(f"{dice.choice(DAYS)}T00:00:00Z") + dice.randrange(-DAY_US // 2, DAY_US)
    if dice.random() < 0.4:
        start = start // QUARTER_US * QUARTER_US + dice.choice((-1, 0, 1))
    return start


def label(instant_us: int, granularity: str, zone: ZoneInfo) -> object:
    """What tells a bucket of a zone from its neighbours."""
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_us)).astimezone(zone)
    if granularity == "hour":
        return local.date(), local.hour, local.utcoffset()
    return (local.year, local.month) if granularity == "month" else local.date()


def boundaries(low_us: int, high_us: int, granularity: str, zone: ZoneInfo) -> list[int]:
    """Where buckets begin, found by walking: the clocks of these zones change at quarters of hours."""
    if granularity == "total":
        return [low_us]
    quarters = range(low_us // QUARTER_US * QUARTER_US + QUARTER_US, high_us, QUARTER_US)
    labels = {quarter: label(quarter, granularity, zone) for quarter in quarters}
    before = label(low_us, granularity, zone)
    found = [low_us]
    for quarter, here in labels.items():
        if here != before:
            found.append(quarter)
        before = here
    return found


@dataclass
class Asked:
    """A question to the statistics."""

    low_us: int
    high_us: int
    granularity: str = "total"
    timezone: str = "UTC"
    group_by: tuple[Dimension, ...] = ()
    filters: dict[Dimension, str] = field(default_factory=dict[Dimension, str])
    fill: bool = False

    def query(self) -> str:
        parameters = {
            "from": at(self.low_us), "to": at(self.high_us), "granularity": self.granularity, "timezone": self.timezone,
            "group_by": ",".join(self.group_by), "fill": str(self.fill).lower(), **self.filters,
        }  # fmt: skip
        return urlencode(parameters)

    def answer(self, calls: Iterable[Json]) -> Json:
        """What the statistics must say, by adding up call by call."""
        low, high = self.low_us, self.high_us
        starts = boundaries(low, high, self.granularity, ZoneInfo(self.timezone)) if low < high else []
        cells: dict[tuple[int, tuple[str, ...]], list[Json]] = {}
        for call in calls:
            started = parse_time(call["started_at"])
            if low <= started < high and all(call[name] == value for name, value in self.filters.items()):
                group = tuple(call[name] or "" for name in self.group_by)
                cells.setdefault((bisect_right(starts, started) - 1, group), []).append(call)
        selected = [call for cell in cells.values() for call in cell]
        if self.fill:
            groups = {group for _, group in cells} if self.group_by else {()}
            cells = {(n, group): cells.get((n, group), []) for n in range(len(starts)) for group in groups}
        ends = [*starts[1:], high]
        found = [
            {"start": at(starts[n]), "end": at(ends[n]), "group": self._shown(group), **folded(cells[n, group])}
            for n, group in sorted(cells)
        ]
        wanted = {*self.filters, *self.group_by}
        kept = any(wanted <= kind for kind in ({"app"}, {"provider", "model"}))
        source = "histograms" if kept else "calls"
        return {
            "buckets": found,
            "totals": folded(selected),
            "percentiles": {"source": source, "relative_error": "0.0078125"},
        }

    def _shown(self, group: tuple[str, ...]) -> dict[str, str | None]:
        return {name: value or None for name, value in zip(self.group_by, group, strict=True)}


def folded(calls: Sequence[Json]) -> Json:
    usages: list[Json] = [call.get("usage") or {} for call in calls]
    return {
        "calls": len(calls),
        "succeeded": sum(call["status"] == "success" for call in calls),
        "failed": sum(call["status"] != "success" for call in calls),
        **{name: sum(usage.get(name, 0) for usage in usages) for name in QUANTITIES},
        "seconds": decimal(sum(parse_scaled(usage.get("seconds", "0"), SECONDS_DECIMALS) for usage in usages)),
        "cost": "0",
        "vendor_cost": "0",
        "unpriced_calls": len(calls),
        "duration_ms_sum": sum(call.get("duration_ms") or 0 for call in calls),
        "ttfb_ms_sum": sum(call.get("ttfb_ms") or 0 for call in calls),
        "ttfb_calls": sum(call.get("ttfb_ms") is not None for call in calls),
        **shown_percentiles(calls),
    }


def decimal(seconds_e6: int) -> str:
    return format_scaled(seconds_e6, SECONDS_DECIMALS)


def random_question(dice: random.Random) -> Asked:
    low, high = sorted((random_edge(dice), random_edge(dice)))
    granularity = dice.choice(("hour", "hour", "day", "day", "month", "total"))
    if granularity == "hour":
        high = min(high, low + 20 * DAY_US)
    filters: dict[Dimension, str] = {}
    values = {
        "app": APP,
        "user_id": "u-1",
        "provider": "openai",
        "model": "m-2",
        "type": "embedding",
        "status": "failed",
    }
    for name in dice.sample(DIMENSIONS, dice.choice((0, 0, 1, 1, 2, 3))):
        filters[name] = values.get(name, "k-1")
    group_by: tuple[Dimension, ...] = tuple(name for name in DIMENSIONS if dice.random() < 0.25)
    return Asked(low, high, granularity, dice.choice(ZONES), group_by, filters, fill=dice.random() < 0.1)


def random_edge(dice: random.Random) -> int:
    """Any microsecond, a whole hour, half hour or UTC day, or a midnight of some zone."""
    edge = parse_time(f"{dice.choice(DAYS)}T00:00:00Z") + dice.randrange(-DAY_US, 2 * DAY_US)
    match dice.randrange(4):
        case 0:
            return edge
        case 1:
            return edge // HOUR_US * HOUR_US
        case 2:
            return edge // (HOUR_US // 2) * (HOUR_US // 2)
        case _:
            local = datetime.fromtimestamp(edge // 1_000_000, ZoneInfo(dice.choice(ZONES)))
            return round(local.replace(hour=0, minute=0, second=0, fold=0).timestamp()) * 1_000_000


CALLS_IN_HISTORY = 3_000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, list[Json]]]:
    calls = history(SEED, CALLS_IN_HISTORY)
    with serving(tmp_path_factory.mktemp("stats")) as service:
        record(service.ledger, calls, at_once=700)
        yield service, calls


@pytest.mark.parametrize("seed", range(14))
def test_statistics_equal_a_fold_by_hand(recorded: tuple[Service, list[Json]], seed: int) -> None:
    """Any range, granularity, zone, grouping, filter and fill: every bucket, in order, to the last digit."""
    service, calls = recorded
    dice = random.Random(SEED + seed)
    for n in range(8):
        asked = random_question(dice)
        response = service.get(f"{STATS}?{asked.query()}", "dashboard")
        assert response.status_code == 200, (seed, n, asked, response.text)
        assert response.json() == asked.answer(calls), (seed, n, asked)


@pytest.mark.parametrize("timezone", ZONES)
def test_each_zone_equals_a_fold_by_hand(recorded: tuple[Service, list[Json]], timezone: str) -> None:
    """Off UTC by halves and quarters of an hour, and around the days on which clocks are set."""
    service, calls = recorded
    dice = random.Random(f"{SEED} {timezone}")
    for n in range(6):
        asked = replace(random_question(dice), timezone=timezone, granularity=("hour", "day", "month")[n % 3])
        asked.high_us = min(asked.high_us, asked.low_us + 20 * DAY_US) if n % 3 == 0 else asked.high_us
        response = service.get(f"{STATS}?{asked.query()}", "dashboard")
        assert response.json() == asked.answer(calls), (n, asked)


@pytest.mark.parametrize("granularity", ["hour", "day", "month", "total"])
@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_each_granularity_covers_everything_once(
    recorded: tuple[Service, list[Json]], granularity: str, timezone: str
) -> None:
    """The totals are the sum of the buckets, and of all calls, whatever they are cut into."""
    service, calls = recorded
    asked = Asked(parse_time("2026-10-20T00:00:00Z"), NOW_US, granularity, timezone, ("app", "status"))
    answer = service.get(f"{STATS}?{asked.query()}").json()
    for name in SUMS:
        assert sum(bucket[name] for bucket in answer["buckets"]) == answer["totals"][name]
    assert answer == asked.answer(calls)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_each_dimension_groups_and_filters(recorded: tuple[Service, list[Json]], dimension: Dimension) -> None:
    """The group of a value has what a filter by that value has; absent is a group of its own, shown as null."""
    service, calls = recorded
    groups = service.get(f"{STATS}?group_by={dimension}").json()["buckets"]
    assert {bucket["group"][dimension] for bucket in groups} == {call[dimension] for call in calls}
    for bucket in groups:
        value = bucket["group"][dimension]
        if value is not None:
            totals = service.get(f"{STATS}?{dimension}={value}").json()["totals"]
            assert totals == {name: bucket[name] for name in totals}


def test_other_filters_select_as_in_the_list(recorded: tuple[Service, list[Json]]) -> None:
    """What only the calls themselves know filters statistics too."""
    service, calls = recorded
    slow = [call for call in calls if (call["duration_ms"] or 0) >= 50_000]
    answer = service.get(f"{STATS}?min_duration_ms=50000").json()
    assert answer["totals"] == folded(slow)
    assert service.get(f"{STATS}?q=C-299").json()["totals"]["calls"] == sum("c-299" in call["id"] for call in calls)
    assert service.get(f"{STATS}?request_id=none").json()["totals"]["calls"] == 0


# Clocks that are set


def hours_of(service: Service, day: str, timezone: str, utc_from: str, utc_to: str) -> list[tuple[str, int]]:
    asked = Asked(parse_time(utc_from), parse_time(utc_to), "hour", timezone, fill=True)
    answer = service.get(f"{STATS}?{asked.query()}").json()
    return [(bucket["start"][11:16], bucket["calls"]) for bucket in answer["buckets"]]


def test_a_clock_hour_that_repeats_is_two_buckets(service: Service) -> None:
    """Berlin, 25 October: 02:00 comes twice; the day has 25 hours and its one daily bucket all of them."""
    twice = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")
    record(service.ledger, [a_call(f"c-{n}", app=APP, started_at=start) for n, start in enumerate(twice)])
    low, high = "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"
    hours = hours_of(service, "2026-10-25", "Europe/Berlin", low, high)
    assert len(hours) == 25
    assert [hour for hour in hours if hour[1]] == [("00:00", 1), ("01:00", 1)]
    day = service.get(f"{STATS}?{Asked(parse_time(low), parse_time(high), 'day', 'Europe/Berlin').query()}").json()
    [bucket] = day["buckets"]
    assert (bucket["start"], bucket["end"], bucket["calls"]) == (at(parse_time(low)), at(parse_time(high)), 2)


@pytest.mark.parametrize(
    ("timezone", "low", "high", "hours"),
    [
        ("Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 23),
        ("America/New_York", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", 23),
        ("America/New_York", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", 25),
        ("Australia/Lord_Howe", "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z", 25),
        ("Australia/Lord_Howe", "2026-10-03T13:30:00Z", "2026-10-04T13:00:00Z", 24),
    ],
)
def test_a_day_on_which_the_clock_is_set_is_one_day(
    service: Service, timezone: str, low: str, high: str, hours: int
) -> None:
    """It is one daily bucket, and its hours are as many as the clock shows."""
    asked = Asked(parse_time(low), parse_time(high), "day", timezone, fill=True)
    [day] = service.get(f"{STATS}?{asked.query()}").json()["buckets"]
    assert (day["start"], day["end"]) == (at(parse_time(low)), at(parse_time(high)))
    assert len(hours_of(service, low[:10], timezone, low, high)) == hours


# Edges, fill and defaults


def test_without_a_range_buckets_are_whole(service: Service) -> None:
    """An open end cuts nothing: the first and last bucket are a whole hour, day or month of the zone."""
    service.post(CALLS, a_call(started_at="2026-11-22T10:30:00Z"))
    expected = {
        ("hour", "UTC"): ("2026-11-22T10:00", "2026-11-22T11:00"),
        ("hour", "Asia/Kathmandu"): ("2026-11-22T10:15", "2026-11-22T11:15"),
        ("day", "UTC"): ("2026-11-22T00:00", "2026-11-23T00:00"),
        ("day", "Asia/Tokyo"): ("2026-11-21T15:00", "2026-11-22T15:00"),
        ("day", "America/New_York"): ("2026-11-22T05:00", "2026-11-23T05:00"),
        ("month", "UTC"): ("2026-11-01T00:00", "2026-12-01T00:00"),
        ("month", "Europe/Berlin"): ("2026-10-31T23:00", "2026-11-30T23:00"),
    }
    for (granularity, timezone), (start, end) in expected.items():
        [bucket] = service.get(f"{STATS}?granularity={granularity}&timezone={timezone}").json()["buckets"]
        assert (bucket["start"][:16], bucket["end"][:16]) == (start, end), (granularity, timezone)


def test_edges_cut_buckets_and_the_end_is_exclusive(service: Service) -> None:
    """A call at `from` counts, one at `to` does not, and the buckets at both ends are cut there."""
    starts = (
        "2026-11-22T08:29:59.999999Z",
        "2026-11-22T08:30:00Z",
        "2026-11-22T09:59:59.999999Z",
        "2026-11-22T10:30:00Z",
    )
    record(service.ledger, [a_call(f"c-{n}", app=APP, started_at=start) for n, start in enumerate(starts)])
    asked = Asked(parse_time(starts[1]), parse_time(starts[3]), "hour")
    answer = service.get(f"{STATS}?{asked.query()}").json()
    found = [(bucket["start"][11:16], bucket["end"][11:16], bucket["calls"]) for bucket in answer["buckets"]]
    assert found == [("08:30", "09:00", 1), ("09:00", "10:00", 1)]
    assert answer["totals"]["calls"] == 2


def test_fill_shows_the_empty_buckets_too(service: Service) -> None:
    """Zeros in every bucket of the range for every group that has calls in it; also where nothing matches at all."""
    low, high = parse_time("2026-11-20T00:00:00Z"), parse_time("2026-11-22T00:00:00Z")
    empty = service.get(f"{STATS}?{Asked(low, high, 'day', fill=True).query()}").json()["buckets"]
    assert [(bucket["start"][:10], bucket["calls"], bucket["seconds"]) for bucket in empty] == [
        ("2026-11-20", 0, "0"), ("2026-11-21", 0, "0"),
    ]  # fmt: skip
    service.post(
        CALLS, [a_call("a", started_at="2026-11-21T01:00:00Z"), a_call("b", started_at="2026-11-25T01:00:00Z")]
    )
    for fill, calls in ((False, [1]), (True, [0, 1])):
        asked = Asked(low, high, "day", group_by=("model",), fill=fill)
        assert [bucket["calls"] for bucket in service.get(f"{STATS}?{asked.query()}").json()["buckets"]] == calls
    unknown = Asked(low, high, "day", filters={"model": "never-used"}, fill=True)
    assert len(service.get(f"{STATS}?{unknown.query()}").json()["buckets"]) == 2
    assert service.get(f"{STATS}?{Asked(low, high, 'day').query()}&model=never-used").json()["buckets"] == []


def test_an_empty_ledger_has_zeros(service: Service) -> None:
    """Totals are there, all zero, and there are no buckets; an upside-down range is as empty."""
    service.post(CALLS, a_call())
    for query in (
        "app=none",
        f"from={NOW}&to=2026-11-22T00:00:00Z",
        "from=2026-11-24T00:00:00Z",
        "to=1970-01-01T00:00:00Z",
    ):
        answer = service.get(f"{STATS}?{query}").json()
        assert answer["buckets"] == []
        assert {answer["totals"][name] for name in SUMS} == {0}


@pytest.mark.parametrize(
    "query",
    [
        "granularity=week", "timezone=Mars/Olympus", "timezone=../UTC", "timezone=", "group_by=user",
        "group_by=app,app", "group_by=app,,model", "fill=maybe",
        "granularity=hour&from=1970-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "granularity=month&from=9999-01-01T00:00:00Z&to=9999-12-31T23:59:59Z",
        "granularity=day&timezone=Asia/Tokyo&from=9999-12-30T00:00:00Z&to=9999-12-31T23:59:59Z",
        "granularity=day&timezone=America/New_York&from=0001-01-01T00:00:00Z&to=0001-01-03T00:00:00Z",
        "granularity=hour&fill=true&group_by=id", "limit=5", "cursor=x",
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_answered_is_refused(service: Service, query: str) -> None:
    """Unknown names, too many buckets, times at the end of the calendar: 400, never a fault."""
    service.post(CALLS, a_call())
    response = service.get(f"{STATS}?{query}")
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")


def test_from_the_beginning_of_time_is_a_fair_question(service: Service) -> None:
    """Also under a filter that seeks in every hour: only the hours that have calls cost anything."""
    service.post(CALLS, a_call())
    for start in ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"):
        for filter_ in ("user_id=u-1", f"app={APP}", "provider=openai", "model=gpt-4o&user_id=u-1"):
            assert service.get(f"{STATS}?from={start}&to=9999-12-31T00:00:00Z&{filter_}").json()["totals"]["calls"] == 1


def test_many_groups_are_shown_in_order(service: Service) -> None:
    """Tens of thousands of users in one answer: each its own group, by name. Percentiles of so many are left out."""
    users = [f"u-{n}" for n in range(33_000)]
    calls = [a_call(f"c-{n}", app=APP, user_id=user) for n, user in enumerate(users)]
    record(service.ledger, calls)
    found = service.get(f"{STATS}?group_by=user_id").json()
    assert [bucket["group"]["user_id"] for bucket in found["buckets"]] == sorted(users)
    assert found["percentiles"]["source"] is None


# Exact and fresh

COUNTS = {"calls", "succeeded", "ttfb_calls"}


def test_the_current_hour_includes_the_last_call_at_once(service: Service) -> None:
    """Every acknowledged call is in the very next answer, in each form of the question."""
    for n in range(1, 6):
        service.post(CALLS, a_call(f"c-{n}", started_at=NOW))
        for query in ("", "granularity=hour", "group_by=user_id", f"from={NOW}", "user_id=u-1", "group_by=model,app"):
            assert service.get(f"{STATS}?{query}").json()["totals"]["calls"] == n


def test_a_late_call_lands_in_its_own_bucket(service: Service) -> None:
    """Posted today, started months ago: it counts where it started, and nowhere else."""
    service.post(CALLS, a_call("now", started_at=NOW))
    before = service.get(f"{STATS}?granularity=month").json()["buckets"]
    service.post(CALLS, a_call("late", started_at="2026-03-29T01:30:00Z"))
    months = service.get(f"{STATS}?granularity=month").json()["buckets"]
    assert [(bucket["start"][:7], bucket["calls"]) for bucket in months] == [("2026-03", 1), ("2026-11", 1)]
    assert months[1:] == before


def test_sums_beyond_64_bits_are_exact(service: Service) -> None:
    """Rows of which each fits add up to what does not, in roll-ups and at range edges alike."""
    service.post(CALLS, [a_call("a", ttfb_ms=1), a_call("b", ttfb_ms=None)])
    huge = 2**63 - 1
    db = open_writer(service.ledger.path)
    columns = ", ".join(f"{measure} = ?" for measure in MEASURES if measure not in COUNTS)
    table = "model_call_stats"
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    copied = ", ".join("part + 1" if name == "part" else name for name in names)
    db.execute(f"UPDATE {table} SET {columns}", (huge,) * (len(MEASURES) - len(COUNTS)))
    db.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {copied} FROM {table} ORDER BY rollup, bucket")
    db.execute("UPDATE model_calls SET input_tokens = ?, output_tokens = ?, duration_ms = ?", (huge, huge, huge))
    db.close()
    sums = "&percentiles=false"  # no bin is that high
    rollup = service.get(f"{STATS}?from=2026-11-22T00:00:00Z&to=2026-11-23T00:00:00Z{sums}").json()["totals"]
    assert (rollup["input_tokens"], rollup["duration_ms_sum"]) == (2 * huge, 2 * huge)
    edge = service.get(f"{STATS}?from=2026-11-22T10:00:00.1Z&to=2026-11-22T10:00:00.2Z{sums}").json()["totals"]
    assert (edge["input_tokens"], edge["output_tokens"], edge["duration_ms_sum"]) == (2 * huge, 2 * huge, 2 * huge)
    assert (edge["calls"], edge["ttfb_calls"], edge["ttfb_ms_sum"]) == (2, 1, 1)


# What an answer costs

DAYS_ASKED = 14  # so few that ten thousand calls fill each quarter of an hour's cells
FIRST_US = NOW_US // DAY_US * DAY_US - DAYS_ASKED * DAY_US
RANGE = CallFilter(from_us=FIRST_US, to_us=FIRST_US + DAYS_ASKED * DAY_US)
FEW = 10_000
# A read adds the events that are not folded in yet: at most 4,096, of which how many there are is chance.
TAIL_STEPS_MAX = 4_096 * 40
QUESTIONS = {
    "days": StatQuery(filter=RANGE, granularity="day"),
    "days by model": StatQuery(filter=RANGE, granularity="day", group_by=("model",)),
    "days by app": StatQuery(filter=RANGE, granularity="day", group_by=("app",)),
    "hours by model and app": StatQuery(filter=RANGE, granularity="hour", group_by=("app", "model")),
    "Berlin's days": StatQuery(filter=RANGE, granularity="day", timezone="Europe/Berlin"),
    "Kathmandu's days": StatQuery(filter=RANGE, granularity="day", timezone="Asia/Kathmandu"),
    "Kathmandu's days by app": StatQuery(filter=RANGE, granularity="day", timezone="Asia/Kathmandu", group_by=("app",)),
    "Lord Howe's hours": StatQuery(filter=RANGE, granularity="hour", timezone="Australia/Lord_Howe"),
    "St. John's days": StatQuery(filter=RANGE, granularity="day", timezone="America/St_Johns"),
    "total": StatQuery(filter=RANGE),
}


def spread(count: int) -> Iterator[Json]:
    """Calls of the same few cells over the same days, and of so many users that each is nearly alone."""
    step = DAYS_ASKED * DAY_US // count
    for n in range(count):
        yield {
            "id": f"c-{n}", "app": (APP, OTHER_APP)[n % 2], "provider": "openai", "model": f"m-{n % 3}",
            "type": "chat_completion", "status": "success", "started_at": at(FIRST_US + n * step),
            "user_id": f"u-{n % (count // 4)}", "usage": {"input_tokens": n, "output_tokens": 1}, "duration_ms": 5,
        }  # fmt: skip


def steps_of(db: apsw.Connection, query: StatQuery) -> int:
    """How many virtual machine steps all statements of a question take: their rows, in SQLite's own count."""
    steps = 0

    def profiled(statement: Json) -> None:
        nonlocal steps
        steps += statement["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    with traced(db, apsw.SQLITE_TRACE_PROFILE, profiled):
        assert reads.model_call_stats(db, query).totals.calls > 0
    return steps


@contextmanager
def traced(db: Any, mask: int, callback: Callable[[Json], None]) -> Generator[None, None, None]:  # noqa: ANN401 - untyped
    db.trace_v2(mask, callback)
    try:
        yield
    finally:
        db.trace_v2(0, None)


def costs(directory: Path, calls: Iterable[Json]) -> dict[str, int]:
    directory.mkdir()
    prepare(directory, lambda ledger: record(ledger, calls, at_once=10_000))
    db = open_reader(directory / "ledger.db")
    try:
        return {name: steps_of(db, query) for name, query in QUESTIONS.items()}
    finally:
        db.close()


def assert_costs_do_not_grow(few: dict[str, int], many: dict[str, int]) -> None:
    assert {name: (few[name], many[name]) for name in few if many[name] > 1.2 * few[name] + TAIL_STEPS_MAX} == {}


def test_statistics_cost_what_their_buckets_cost(tmp_path: Path) -> None:
    """Ten times the calls in the same cells take about the same number of steps."""
    assert_costs_do_not_grow(costs(tmp_path / "few", spread(FEW)), costs(tmp_path / "many", spread(10 * FEW)))


@pytest.mark.torture
@pytest.mark.timeout(900)
def test_statistics_of_a_million_calls_cost_no_more(tmp_path: Path) -> None:
    """A hundred times the calls take about the same number of steps."""
    assert_costs_do_not_grow(costs(tmp_path / "few", spread(FEW)), costs(tmp_path / "many", spread(100 * FEW)))


def plans(ledger: Ledger, question: StatQuery | CallFilter) -> list[str]:
    """What SQLite plans for every statement of a question."""
    statements: list[str] = []

    def started(statement: Json) -> None:
        statements.append(statement["sql"])

    with reading(ledger) as db:
        with traced(db, apsw.SQLITE_TRACE_STMT, started):
            if isinstance(question, StatQuery):
                reads.model_call_stats(db, question)
            else:
                list_calls(db, question, NEWEST, 100)
        selects = [sql for sql in statements if sql.startswith(("SELECT", "WITH"))]
        bound = {sql: (None,) * query_info(db, sql).bindings_count for sql in selects}
        return [row[3] for sql in selects for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", bound[sql])]


THE_ENDS = {  # the first start of all, and the last
    "SEARCH model_calls USING COVERING INDEX model_calls_started_at",
    "SEARCH model_call_versions USING COVERING INDEX model_call_versions_started_at",
}
THE_TAIL = {
    "SEARCH model_calls USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "SEARCH model_call_versions USING PRIMARY KEY (position>? AND position<?)",
    "SEARCH model_call_stat_deltas USING PRIMARY KEY (position>? AND position<?)",
}


def test_statistics_read_their_roll_up_by_its_key(recorded: tuple[Service, list[Json]]) -> None:
    """A range of the primary key, never all of the table, and for whole hours no calls but those of the tail."""
    ledger = recorded[0].ledger
    for name, question in QUESTIONS.items():
        plan = plans(ledger, question)
        assert any("SEARCH s USING PRIMARY KEY (rollup=? AND bucket>? AND bucket<?)" in step for step in plan), (
            name,
            plan,
        )
        assert not [step for step in plan if "model_call" in step and step not in THE_TAIL | THE_ENDS], (name, plan)
        assert not [step for step in plan if step in {"SCAN s", "SCAN model_call_stats"}], (name, plan)


def test_a_users_statistics_seek_its_rows(recorded: tuple[Service, list[Json]]) -> None:
    """One user is found by the key in each bucket; the others' rows are not touched."""
    question = StatQuery(filter=CallFilter(user_id="u-1", from_us=FIRST_US, to_us=FIRST_US + DAY_US))
    plan = plans(recorded[0].ledger, question)
    assert any("USING PRIMARY KEY (rollup=? AND bucket=? AND user_id=?" in step for step in plan), plan


def test_cut_edges_read_calls_by_their_start(recorded: tuple[Service, list[Json]]) -> None:
    """Only the calls of the cut hours are looked at, through the index."""
    plan = plans(recorded[0].ledger, StatQuery(filter=CallFilter(from_us=FIRST_US + 1, to_us=NOW_US - 1)))
    assert any("model_calls_started_at (started_at_us>? AND started_at_us<?)" in step for step in plan), plan


def test_a_range_beyond_the_calls_has_no_cut_edges(recorded: tuple[Service, list[Json]]) -> None:
    """Up to now, as a dashboard asks: nothing starts later, so the last day is read whole."""
    whole = CallFilter(from_us=FIRST_US // DAY_US * DAY_US, to_us=NOW_US + 30 * DAY_US + 1)
    plan = plans(recorded[0].ledger, StatQuery(filter=whole, group_by=("user_id",), top=3))
    assert not [step for step in plan if "started_at_us>?" in step], plan


def test_a_view_without_users_reads_no_users_rows(tmp_path: Path) -> None:
    """Ten thousand users or one: whatever is asked without users takes the same steps."""
    costs_by_users: list[dict[str, int]] = []
    for users in (1, FEW):
        directory = tmp_path / str(users)
        calls = [{**call, "user_id": f"u-{n % users}"} for n, call in enumerate(spread(FEW))]
        costs_by_users.append(costs(directory, calls))
    one, many = costs_by_users
    assert {name: (one[name], many[name]) for name in one if many[name] > 1.02 * one[name]} == {}


@pytest.mark.parametrize(
    "call_filter",
    [CallFilter(), RANGE, CallFilter(app=APP), CallFilter(status="failed", trace_id="t"), CallFilter(q="x")],
    ids=str,
)
def test_lists_walk_the_index_of_starts(recorded: tuple[Service, list[Json]], call_filter: CallFilter) -> None:
    """Newest first comes from the index: nothing is sorted and the table is never scanned."""
    plan = plans(recorded[0].ledger, call_filter)
    assert any("USING INDEX model_calls_started_at" in step for step in plan), plan
    assert not [step for step in plan if "TEMP B-TREE" in step or step == "SCAN model_calls"], plan


# What others posted


def test_another_apps_old_call_changes_nothing_for_an_app(service: Service) -> None:
    """Open ends come from the caller's own calls: a call of 1970 elsewhere must not fail or stretch its statistics."""
    service.post(CALLS, a_call("now", user_id="u-9"))
    before = service.get(f"{STATS}?granularity=day", APP).json()
    service.post(CALLS, a_call("old", started_at="1970-01-01T00:00:00Z"), OTHER_APP)
    assert service.get(f"{STATS}?granularity=day", APP).json() == before
    for query in ("granularity=hour", "group_by=model", "user_id=u-9", "granularity=month&fill=true"):
        response = service.get(f"{STATS}?{query}", APP)
        assert response.status_code == 200, query
        assert [bucket["start"][:4] for bucket in response.json()["buckets"]] == [NOW[:4]], query


def test_an_app_without_calls_has_no_range(service: Service) -> None:
    """One open end of nothing is nothing, however far the other one is."""
    service.post(CALLS, a_call("old", started_at="1970-01-01T00:00:00Z"), OTHER_APP)
    for query in (
        "granularity=day",
        "granularity=hour&to=2026-11-22T00:00:00Z",
        "granularity=day&from=1970-01-01T00:00:00Z",
    ):
        response = service.get(f"{STATS}?{query}", APP)
        assert (response.status_code, response.json()["buckets"]) == (200, []), query
