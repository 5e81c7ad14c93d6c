"""Sample traffic: repeatable, acceptable to the ledger, and shaped like the traces it is fitted to."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from statistics import fmean, median, pstdev
from uuid import RFC_4122, UUID

import msgspec
import pytest

from ops.azure_trace import read_calls
from ops.sample_traffic import (
    CALLS_BY_HOUR,
    CODE,
    CONVERSATION,
    FAILURES,
    Dice,
    Profile,
    Quantiles,
    Traffic,
    arrivals,
)
from schema.model_call import ModelCall, Usage
from schema.times import DAY_US, HOUR_US, format_time, parse_time

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
START_US = parse_time("2026-11-16T00:00:00Z")
APPS = ("support-bot", "ide", "search")
TABLES = [
    table for profile in (CODE, CONVERSATION) for table in (profile.input_tokens, profile.output_tokens, profile.gaps)
]


def traffic(seed: int = 7, *, apps: Sequence[str] = APPS, users: int = 200) -> Traffic:
    return Traffic(seed, apps=apps, users=users)


def a_day(calls: int = 5_000) -> list[ModelCall]:
    """A day of decoded calls: decoding refuses unknown fields, wrong types and values out of bounds."""
    return msgspec.convert(list(traffic().history(START_US, START_US + DAY_US, calls)), list[ModelCall])


def usage_of(call: ModelCall) -> Usage:
    assert call.usage is not None
    return call.usage


def real_calls(name: str) -> list[ModelCall]:
    path = DATA / f"azure-llm-inference-2023-{name}.csv"
    if not path.exists():
        pytest.skip(f"The Azure traces are not part of the project; {path} is missing")
    return msgspec.convert(list(read_calls(path, app="a", provider="p", model="m")), list[ModelCall])


def quantiles(values: Sequence[int]) -> list[int]:
    ordered = sorted(values)
    return [ordered[(len(ordered) - 1) * percent // 100] for percent in (5, 10, 25, 50, 75, 90, 95, 99)]


def gaps_of(times_us: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(times_us)]


def burstiness(times_us: Sequence[int]) -> float:
    """Standard deviation of the gaps over their mean: 1 for a Poisson process, more for bursts."""
    gaps = gaps_of(times_us)
    return pstdev(gaps) / fmean(gaps)


def test_a_seed_repeats_its_history() -> None:
    """The same seed and arguments give an equal list, from another object or the same one again."""
    window = (START_US, START_US + DAY_US, 500)
    one = traffic()
    first = list(one.history(*window))
    assert list(one.history(*window)) == first
    assert list(traffic().history(*window)) == first
    assert list(traffic(8).history(*window)) != first


def test_a_seed_repeats_its_live_calls() -> None:
    """Live calls at the same times are equal for a seed, whatever history was drawn in between."""
    one, other = traffic(), traffic()
    list(other.history(START_US, START_US + HOUR_US, 20))
    times = [START_US + second * 1_000_000 for second in range(50)]
    assert [one.live(time_us) for time_us in times] == [other.live(time_us) for time_us in times]


@pytest.mark.parametrize(
    ("start_us", "length_us", "calls"),
    [
        (START_US, DAY_US, 1_000),
        (START_US, 90 * DAY_US, 1_000),
        (START_US + 1, 1, 10),
        (START_US + HOUR_US - 1, 2, 10),
        (START_US + 1_234_567, 3 * HOUR_US + 89, 333),
        (START_US, DAY_US, 1),
        (START_US, DAY_US, 0),
    ],
)
def test_a_history_has_the_calls_it_was_asked_for(start_us: int, length_us: int, calls: int) -> None:
    """Exactly so many calls, each begun in [start, end), in order of their start, no id twice."""
    drawn = list(traffic().history(start_us, start_us + length_us, calls))
    times = [parse_time(str(call["started_at"])) for call in drawn]
    assert len({call["id"] for call in drawn}) == len(drawn) == calls
    assert times == sorted(times)
    assert all(start_us <= time_us < start_us + length_us for time_us in times)


@pytest.mark.parametrize(("apps", "users"), [((), 1), (("a", "a"), 1), (("a",), 0)])
def test_traffic_without_apps_or_users_is_refused(apps: tuple[str, ...], users: int) -> None:
    """No app, an app named twice (its ids would repeat) and no user are refused at once."""
    with pytest.raises(ValueError, match="at least one app"):
        traffic(apps=apps, users=users)


@pytest.mark.parametrize(("end_us", "calls"), [(START_US, 1), (START_US - 1, 1), (START_US + 1, -1)])
def test_an_impossible_history_is_refused(end_us: int, calls: int) -> None:
    """An empty window and a negative number are refused before the first call is drawn."""
    with pytest.raises(ValueError, match="start before its end"):
        traffic().history(START_US, end_us, calls)


def test_a_live_call_has_just_ended() -> None:
    """Start plus duration is now."""
    one = traffic()
    for _ in range(200):
        call = msgspec.convert(one.live(START_US), ModelCall)
        assert parse_time(call.started_at) + (call.duration_ms or 0) * 1_000 == START_US


def test_ids_are_version_7_of_the_start() -> None:
    """An id is a UUIDv7 that tells the call's start to the millisecond and sorts as the starts do."""
    calls = a_day()
    for call in calls:
        uuid = UUID(call.id)
        assert (uuid.version, uuid.variant) == (7, RFC_4122)
        assert uuid.int >> 80 == parse_time(call.started_at) // 1_000
    by_id = sorted(calls, key=lambda call: call.id)
    assert [call.started_at for call in by_id] == [call.started_at for call in calls]


def test_ids_of_one_millisecond_sort_by_the_microsecond() -> None:
    """Ids a microsecond apart sort as their times do."""
    dice = Dice("ids")
    ids = [dice.uuid7(START_US + us) for us in range(2_000)]
    assert ids == sorted(ids)


def test_subsets_stay_within_their_wholes() -> None:
    """Cached and cache-written tokens are part of the input, reasoning of the output; all of them occur."""
    usages = [usage_of(call) for call in a_day()]
    for usage in usages:
        assert (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0) <= (usage.input_tokens or 0)
        assert (usage.reasoning_tokens or 0) <= (usage.output_tokens or 0)
    assert any(usage.cache_read_tokens for usage in usages)
    assert any(usage.cache_write_tokens for usage in usages)
    assert any(usage.reasoning_tokens for usage in usages)


def test_quantities_are_whole_numbers() -> None:
    """No float reaches a call."""
    for call in traffic().history(START_US, START_US + DAY_US, 500):
        usage = msgspec.convert(call["usage"], dict[str, object])
        assert not [value for value in (*call.values(), *usage.values()) if isinstance(value, float)]


def test_a_few_calls_fail() -> None:
    """Two to four in a hundred fail, in every known way, with an error, no output, no wait past a minute."""
    calls = a_day()
    failed = [call for call in calls if call.status == "failed"]
    assert 0.02 < len(failed) / len(calls) < 0.04
    assert {call.error.code for call in failed if call.error} == {failure.code for failure in FAILURES}
    assert all(call.error and call.error.message and (call.duration_ms or 0) <= 60_000 for call in failed)
    assert not any(usage_of(call).output_tokens or usage_of(call).images for call in failed)
    assert all(call.error is None for call in calls if call.status == "success")


def test_each_kind_of_call_has_its_quantities() -> None:
    """Images are counted for image generation alone, output tokens for chat completions alone."""
    drawn = {(call.type, bool(usage_of(call).output_tokens), bool(usage_of(call).images))
             for call in a_day() if call.status == "success"}  # fmt: skip
    assert drawn == {
        ("chat_completion", True, False),
        ("embedding", False, False),
        ("image_generation", False, True),
    }


def test_the_mix_is_varied() -> None:
    """Four providers serve all apps; most calls name a credential, few are retries, all have a feature."""
    calls = a_day()
    assert len({call.provider for call in calls}) == 4
    assert {call.app for call in calls} == set(APPS)
    assert 0.6 < fmean(call.credential_id is not None for call in calls) < 0.8
    assert 0.01 < fmean(call.attempt == 2 for call in calls) < 0.03
    assert all(call.request_id and call.trace_id and call.metadata for call in calls)
    assert len({call.trace_id for call in calls}) == len(calls)


def test_few_users_make_most_calls() -> None:
    """Users call by Zipf's law: the first about twice as often as the second, ten of 200 over 40 % of all."""
    counts = Counter(call.user_id for call in a_day(20_000))
    assert set(counts) <= {f"u-{number}" for number in range(1, 201)}
    assert 1.6 < counts["u-1"] / counts["u-2"] < 2.4
    assert 0.4 < sum(counts[f"u-{number}"] for number in range(1, 11)) / 20_000 < 0.6


def test_one_user_is_enough() -> None:
    """With a single user every call is theirs."""
    calls = traffic(users=1).history(START_US, START_US + HOUR_US, 20)
    assert {call["user_id"] for call in calls} == {"u-1"}


def test_time_to_the_first_byte_grows_with_the_input() -> None:
    """Of one model's calls, those in the upper half by input wait longer for the first byte."""
    calls = [call for call in a_day(20_000) if (call.model, call.status) == ("gpt-4o", "success")]
    calls.sort(key=lambda call: usage_of(call).input_tokens or 0)
    lower, upper = calls[: len(calls) // 2], calls[len(calls) // 2 :]
    assert median(call.ttfb_ms or 0 for call in upper) > 1.2 * median(call.ttfb_ms or 0 for call in lower)


def test_duration_grows_with_the_output() -> None:
    """Of one model's calls, the upper half by output takes longer; none ends before its first byte."""
    calls = [call for call in a_day(20_000) if (call.model, call.status) == ("gpt-4o", "success")]
    calls.sort(key=lambda call: usage_of(call).output_tokens or 0)
    lower, upper = calls[: len(calls) // 2], calls[len(calls) // 2 :]
    assert median(call.duration_ms or 0 for call in upper) > 2 * median(call.duration_ms or 0 for call in lower)
    assert all((call.ttfb_ms or 0) <= (call.duration_ms or 0) for call in calls)


def test_hours_follow_the_curve() -> None:
    """Over four weeks each hour of the day has its share of the calls, within a tenth of it."""
    calls = 200_000
    times = arrivals(Dice("hours"), CONVERSATION.gaps, START_US, START_US + 28 * DAY_US, calls)
    counts = Counter(time_us // HOUR_US % 24 for time_us in times)
    for hour, weight in enumerate(CALLS_BY_HOUR):
        assert counts[hour] == pytest.approx(calls * weight / sum(CALLS_BY_HOUR), rel=0.1)


def test_a_lone_call_falls_anywhere_in_its_hour() -> None:
    """One call an hour is spread evenly over the minutes, not pressed to the edges by the bursty gaps."""
    minutes = [
        time_us // 60_000_000
        for number in range(1_000)
        for time_us in arrivals(Dice(f"{number}"), CODE.gaps, 0, HOUR_US, 1)
    ]
    quarters = Counter(minute // 15 for minute in minutes)
    assert all(200 < quarters[quarter] < 300 for quarter in range(4))


@pytest.mark.parametrize("table", TABLES)
def test_quantile_tables_rise(table: Quantiles) -> None:
    """A table goes from 0 to 1,000 per mille and never falls, and draws stay within its ends."""
    assert (table[0][0], table[-1][0]) == (0, 1_000)
    assert all(low < high and least <= most for (low, least), (high, most) in pairwise(table))
    dice = Dice("ends")
    draws = [dice.quantile(table) for _ in range(5_000)]
    assert table[0][1] <= min(draws) <= max(draws) <= table[-1][1]


@pytest.mark.parametrize(("whole", "weights"), [*product((0, 1, 7, 1_000), ((1,), (3, 1, 5), (1,) * 50))])
def test_shares_add_up(whole: int, weights: tuple[int, ...]) -> None:
    """Shares are whole, differ from the exact proportion by less than one, and add up to the whole."""
    shares = list(Dice("shares").split(whole, weights))
    assert sum(shares) == whole
    assert all(
        abs(share * sum(weights) - whole * weight) < sum(weights) for share, weight in zip(shares, weights, strict=True)
    )


@pytest.mark.parametrize(("name", "profile"), [("code", CODE), ("conv", CONVERSATION)])
def test_tokens_resemble_the_traces(name: str, profile: Profile) -> None:
    """Eight quantiles from 5 to 99 % are within 10 % or 3 tokens of the traces', the means within 15 %."""
    usages = [usage_of(call) for call in real_calls(name)]
    dice = Dice(name)
    for table, real in (
        (profile.input_tokens, [usage.input_tokens or 0 for usage in usages]),
        (profile.output_tokens, [usage.output_tokens or 0 for usage in usages]),
    ):
        drawn = [dice.quantile(table) for _ in range(50_000)]
        assert quantiles(drawn) == pytest.approx(quantiles(real), rel=0.10, abs=3)
        assert fmean(drawn) == pytest.approx(fmean(real), rel=0.15)


@pytest.mark.parametrize(("name", "profile"), [("code", CODE), ("conv", CONVERSATION)])
def test_arrivals_are_as_bursty_as_the_traces(name: str, profile: Profile) -> None:
    """In an hour of as many calls, the gaps' relative spread and median are within 30 % of the trace's."""
    real = [parse_time(call.started_at) for call in real_calls(name)]
    drawn = list(arrivals(Dice(name), profile.gaps, START_US, START_US + HOUR_US, len(real)))
    assert burstiness(drawn) == pytest.approx(burstiness(real), rel=0.3)
    assert median(gaps_of(drawn)) == pytest.approx(median(gaps_of(real)), rel=0.3)


def test_started_at_is_canonical() -> None:
    """Times are RFC 3339 in UTC with six digits, as the ledger itself writes them."""
    for call in a_day(200):
        assert call.started_at == format_time(parse_time(call.started_at))
