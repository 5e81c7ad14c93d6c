"""Percentiles over HTTP: within the stated error on shapes that averages hide and on the numbers of real traces."""

import csv
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from projections import model_call_latency_read, model_call_stat
from schema.times import parse_time
from tests import percentiles as plain
from tests.serving import APP, CALLS, NOW_US, OTHER_APP, Json, Service, a_call, at, record, serving

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
STATS = "/v1/model-call-stats"
MAX = 10**12
EDGES = [value for n in range(41) for d in (-1, 0, 1) if 0 <= (value := 2**n + d) <= MAX]
SHAPES: dict[str, list[int]] = {
    "constant": [4_321] * 200,
    "one": [17],
    "two-spikes": [100] * 95 + [60_000] * 5,
    "two-spikes-turned": [100] * 5 + [60_000] * 95,
    "powers-of-two": EDGES,
    "heavy-tail": [int(200 * (1 / (1 - random.Random(n).random())) ** 3) % MAX for n in range(500)],
    "greatest": [MAX] * 3 + [0] * 3,
}
NAMES = [(measure, per_cent) for measure, asked in plain.ASKED.items() for per_cent in asked]


def of_shape(app: str, shape: str, values: list[int]) -> Iterator[Json]:
    """Its calls, over some hours; the times to first byte are the same numbers the other way round."""
    for n, (duration, ttfb) in enumerate(zip(values, reversed(values), strict=True)):
        started = at(NOW_US - n * 60_000_000)
        yield a_call(f"{shape}-{n}", app=app, model=shape, started_at=started, duration_ms=duration, ttfb_ms=ttfb)


def assert_within(found: Json, calls: list[Json]) -> None:
    for measure, per_cent in NAMES:
        true = plain.exact([call[measure] for call in calls if call[measure] is not None], per_cent)
        value = found[f"{measure}_p{per_cent}"]
        assert true is not None
        assert abs(value - true) * plain.RELATIVE_ERROR <= true, (measure, per_cent, value, true)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, list[Json]]]:
    apps = (APP, OTHER_APP)
    calls = [call for app in apps for shape, values in SHAPES.items() for call in of_shape(app, shape, values)]
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path_factory.mktemp("shapes")) as service:
        patch.setattr(model_call_stat, "TAIL_EVENTS", 100)  # most is folded, and some is not
        record(service.ledger, calls, at_once=150)
        yield service, calls


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_within_the_error(shapes: tuple[Service, list[Json]], shape: str) -> None:
    """By model, from histograms and from the calls themselves."""
    service, calls = shapes
    of = [call for call in calls if call["model"] == shape]
    for query, source in ((f"model={shape}", "histograms"), (f"model={shape}&q={shape}", "calls")):
        answer = service.get(f"{STATS}?{query}").json()
        assert answer["percentiles"] == {"source": source, "relative_error": "0.0078125"}
        assert_within(answer["totals"], of)


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kathmandu", "Australia/Lord_Howe"])
def test_an_app_has_percentiles_whatever_the_zone(shapes: tuple[Service, list[Json]], timezone: str) -> None:
    """For an app's own key they come from histograms, by any bucket, however many calls there are."""
    service, calls = shapes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_call_latency_read, "CALLS_MAX", 0)
        for granularity in ("hour", "day", "month", "total"):
            answer = service.get(f"{STATS}?granularity={granularity}&timezone={timezone}", APP).json()
            assert answer["percentiles"]["source"] == "histograms"
            for bucket in (*answer["buckets"], {**answer["totals"], "start": at(0), "end": at(2 * NOW_US)}):
                low, high = parse_time(bucket["start"]), parse_time(bucket["end"])
                of = [c for c in calls if c["app"] == APP and low <= parse_time(c["started_at"]) < high]
                assert_within(bucket, of)


def test_what_would_take_too_many_is_null_and_says_so(shapes: tuple[Service, list[Json]]) -> None:
    """Groups without histograms beyond the calls that are looked at, and too many histograms: sums stay whole."""
    service, calls = shapes
    for bound, query in (("CALLS_MAX", "group_by=user_id"), ("HISTOGRAMS_MAX", "group_by=model&granularity=hour")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model_call_latency_read, bound, 3)
            answer = service.get(f"{STATS}?{query}").json()
        assert answer["percentiles"]["source"] is None
        assert answer["totals"]["calls"] == len(calls)
        for each in (answer["totals"], *answer["buckets"]):
            assert {each[f"{measure}_p{per_cent}"] for measure, per_cent in NAMES} == {None}
    assert "duration_ms_p50" not in service.get(f"{STATS}?percentiles=false").json()["totals"]


def test_the_greatest_and_the_rest_have_their_own(shapes: tuple[Service, list[Json]]) -> None:
    """The remainder's percentiles are of all the other models' calls."""
    service, calls = shapes
    kept, rest = service.get(f"{STATS}?group_by=model&top=1").json()["buckets"]
    assert_within(kept, [call for call in calls if call["model"] == kept["group"]["model"]])
    assert_within(rest, [call for call in calls if call["model"] != kept["group"]["model"]])


def test_corrected_and_voided_calls_leave_no_trace(tmp_path: Path) -> None:
    """As corrected the void is gone and the correction stands; as billed both are as they were."""
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path) as service:
        patch.setattr(model_call_stat, "TAIL_EVENTS", 1)
        for id_, duration in (("a", 100), ("b", 50_000), ("c", 70_000)):
            service.post(CALLS, a_call(id_, model="m-1", duration_ms=duration, ttfb_ms=1))
        service.post(f"{CALLS}/b/corrections", {"id": "x", "reason": "never was", "void": True})
        fixed = {"id": "y", "reason": "another model", "set": {"model": "m-2", "duration_ms": 120}}
        service.post(f"{CALLS}/c/corrections", fixed)
        for query in ("", "&group_by=app", "&group_by=model", "&min_duration_ms=0"):
            totals = service.get(f"{STATS}?basis=billed{query}").json()["totals"]
            assert totals["duration_ms_p50"] == plain.middle(50_000), query
            totals = service.get(f"{STATS}?basis=corrected{query}").json()["totals"]
            assert (totals["duration_ms_p50"], totals["duration_ms_p99"]) == (100, 120), query
        buckets = service.get(f"{STATS}?group_by=model").json()["buckets"]
        found = {bucket["group"]["model"]: bucket["duration_ms_p99"] for bucket in buckets}
        assert found == {"m-1": 100, "m-2": 120}


@pytest.mark.skipif(not DATA.exists(), reason="the traces are not part of the repository")
@pytest.mark.parametrize("name", ["code", "conv"])
def test_real_numbers_are_within_the_error(tmp_path: Path, name: str) -> None:
    """A trace tells no durations: they are made of its gaps and of its tokens, at 20 ms a generated one."""
    with (DATA / f"azure-llm-inference-2023-{name}.csv").open() as file:
        rows = list(csv.DictReader(file))[:6_000]
    calls: list[Json] = []
    for n, (row, after) in enumerate(pairwise(rows)):
        start, following = (parse_time(each["TIMESTAMP"].replace(" ", "T") + "Z") for each in (row, after))
        ttfb = int(row["ContextTokens"]) // 4 + (following - start) // 1_000
        duration = ttfb + 20 * int(row["GeneratedTokens"])
        calls.append(a_call(f"c-{n}", app=APP, started_at=at(start), duration_ms=duration, ttfb_ms=ttfb))
    with pytest.MonkeyPatch.context() as patch, serving(tmp_path) as service:
        patch.setattr(model_call_stat, "TAIL_EVENTS", 700)
        record(service.ledger, calls, at_once=2_000)
        answer = service.get(f"{STATS}?granularity=hour&group_by=app&timezone=Asia/Kolkata").json()
        assert answer["percentiles"]["source"] == "histograms"
        for bucket in answer["buckets"]:
            low, high = parse_time(bucket["start"]), parse_time(bucket["end"])
            assert_within(bucket, [call for call in calls if low <= parse_time(call["started_at"]) < high])
        assert_within(answer["totals"], calls)
