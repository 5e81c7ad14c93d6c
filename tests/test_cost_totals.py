"""Money adds up to the last digit: over calls, over every grouping of statistics, over usage logs, over events."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import reads
from ledger.call_rating import COST_CREDITS_MAX
from ledger.decision import Command
from ledger.ledger import LEDGER_FILE
from ops.bootstrap import opened
from projections import model_call_stat
from projections.model_call_stat import PART_BITS
from schema.model_call_query import DIMENSIONS, CallFilter, Dimension, Granularity, StatQuery, StatTotals
from schema.money import COST_DECIMALS, format_scaled, parse_scaled
from schema.paging import LIMIT_MAX
from schema.times import DAY_US, HOUR_US, SECOND_US
from tests import test_azure_import as azure
from tests.console import run, settings_of
from tests.histories import NOON_US, call, entries, kind_of, open_book, random_history, reading, write_in_groups
from tests.rates import rate, set_rates
from tests.strategies import TORTURE_EXAMPLES, examples, group_sizes, histories, tails
from tests.test_determinism import written

GRANULARITIES: tuple[Granularity, ...] = ("hour", "day", "month", "total")
GROUPINGS: tuple[tuple[Dimension, ...], ...] = ((), *((d,) for d in DIMENSIONS), ("app", "model"), DIMENSIONS)
AT_ONCE = 2_000

Money = tuple[int, int, int]  # cost and vendor cost in 1e-10 credits, and calls without a price
Fields = dict[str, Any]


def e10(amount: str | None) -> int:
    if amount is None:
        return 0
    return parse_scaled(amount, COST_DECIMALS)


def of_calls(db: apsw.Connection) -> Money:
    """What the table of calls holds, added up in integers without bounds."""
    rows: list[Any] = db.execute("SELECT cost_e10, vendor_cost_e10, times_out_at_us FROM model_calls").fetchall()
    finished = [(cost, vendor) for cost, vendor, open_until in rows if open_until is None]
    return (
        sum(cost or 0 for cost, _ in finished),
        sum(vendor or 0 for _, vendor in finished),
        sum(cost is None for cost, _ in finished),
    )


def of_totals(totals: StatTotals) -> Money:
    return e10(totals.cost), e10(totals.vendor_cost), totals.unpriced_calls


def of_statistics(db: apsw.Connection, zone: str = "UTC") -> Iterator[Money]:
    """By every dimension and size of bucket: the totals, and the sum over buckets."""
    for group_by in GROUPINGS:
        for granularity in GRANULARITIES:
            query = StatQuery(filter=CallFilter(), granularity=granularity, timezone=zone, group_by=group_by)
            found = reads.model_call_stats(db, query)
            yield of_totals(found.totals)
            columns = zip(*map(of_totals, found.buckets), strict=True)
            cost, vendor, unpriced = [sum(column) for column in columns] or [0, 0, 0]
            yield cost, vendor, unpriced


def of_usage_logs(db: apsw.Connection) -> Money:
    """Page by page; each line's parts must make up its total."""
    cost = vendor = unpriced = 0
    cursor: str | None = None
    while True:
        page = reads.usage_logs(db, CallFilter(), cursor, LIMIT_MAX)
        for line in page.items:
            assert e10(line.input_cost) + e10(line.output_cost) == e10(line.total_cost)
            cost += e10(line.total_cost)
            vendor += e10(line.vendor_cost)
            unpriced += line.total_cost is None
        cursor = page.next_cursor
        if cursor is None:
            return cost, vendor, unpriced


def of_events(db: apsw.Connection) -> Money:
    """A fold over the entries alone: each call by its last finished event."""
    calls: dict[str, Fields | None] = {}
    for entry in map(msgspec.json.decode, entries(db)):
        if entry["type"].startswith("model_call.") and not entry["type"].startswith("model_call.started"):
            calls[entry["subject"]] = entry["data"].get("rating")
    ratings = [rating or {} for rating in calls.values()]
    return (
        sum(e10(rating.get("cost")) for rating in ratings),
        sum(e10(rating.get("vendor_cost")) for rating in ratings),
        sum("cost" not in rating for rating in ratings),
    )


def check_totals(path: Path, *, zone: str = "UTC") -> Money:
    """Every way of adding up gives the same; returns it."""
    with reading(path) as db:
        expected = of_calls(db)
        assert set(of_statistics(db, zone)) == {expected}
        assert of_usage_logs(db) == expected
        assert of_events(db) == expected
        return expected


# Many small amounts


def small_calls(count: int) -> Iterator[Command]:
    """One token each, over many hours, users and models."""
    for n in range(count):
        yield call(
            f"c-{n}", app=f"app-{n % 3}", started_us=NOON_US - n * 40_000_000 % (10 * DAY_US), model=f"m-{n % 5}",
            user_id=f"u-{n % 7}", credential_id=f"k-{n % 2}", type=("chat_completion", "embedding")[n % 2],
            usage={"input_tokens": 1},
        )  # fmt: skip


def write_small(directory: Path, count: int) -> Path:
    with open_book(directory) as writer:
        vendor = {"input": "0.0000004"}
        writer.write([rate(f"r-{n}", model=f"m-{n}", input="0.0000004375", vendor=vendor) for n in range(5)])
        remaining = small_calls(count)
        while part := list(islice(remaining, AT_ONCE)):
            assert {kind_of(outcome) for outcome in writer.write(part)} == {"accepted"}
        return writer.path


@pytest.mark.parametrize(
    ("count", "cost", "vendor"),
    [
        (10_000, "0.004375", "0.004"),
        pytest.param(1_000_000, "0.4375", "0.4", marks=[pytest.mark.torture, pytest.mark.timeout(0)]),
    ],
)
def test_many_small_costs_add_up_exactly(tmp_path: Path, count: int, cost: str, vendor: str) -> None:
    """A million calls of 4.375e-7 credits are 0.4375 credits, however they are grouped."""
    path = write_small(tmp_path, count)
    found = check_totals(path, zone="Asia/Kathmandu")
    assert [format_scaled(amount, COST_DECIMALS) for amount in found[:2]] == [cost, vendor]
    assert found[2] == 0


# The dearest calls


def test_sums_of_the_dearest_calls_pass_64_bits_and_stay_exact(tmp_path: Path) -> None:
    """Thousands of calls at the most that one may cost, in one hour: in cells, at cut edges, and in the tail."""
    count = 5_000
    with open_book(tmp_path) as writer:
        writer.write([rate(mode="auto", vendor={"input": "9999.9999999999"})])
        usage = {"input_tokens": 1_000}
        commands = [call(f"c-{n}", started_us=NOON_US + n * 1_000, usage=usage) for n in range(count)]
        assert {kind_of(outcome) for outcome in writer.write(commands)} == {"accepted"}
        path = writer.path
    each_e10 = 99_999_999_999_999_000
    assert count * each_e10 > 2**63
    assert check_totals(path) == (count * each_e10, count * each_e10, 0)
    with reading(path) as db:
        cut = CallFilter(from_us=NOON_US + 1, to_us=NOON_US + HOUR_US - SECOND_US)
        totals = reads.model_call_stats(db, StatQuery(filter=cut)).totals
        assert e10(totals.cost) == (count - 1) * each_e10


def test_no_cell_can_pass_64_bits() -> None:
    """A cell holds at most 2^22 events, and each at most the bound of a call."""
    assert COST_CREDITS_MAX << PART_BITS < 2**63
    assert 10**COST_DECIMALS << PART_BITS < 2**63


# Real traces


def test_the_real_traces_cost_what_integers_say(tmp_path: Path) -> None:
    """At 30 and 60 credits a million tokens, to the last digit."""
    files = {name: azure.DATA / f"azure-llm-inference-2023-{name}.csv" for name in azure.TRACES}
    if not all(path.exists() for path in files.values()):
        pytest.skip("The Azure traces are not part of the project")
    with opened(settings_of(tmp_path)) as ledger:
        set_rates(ledger, rate(provider="azure", model="gpt-4", input="0.00003", output="0.00006"))
    expected = 0
    for name, file in files.items():
        options = ("--app", name, "--provider", "azure", "--model", "gpt-4", "--data-dir", str(tmp_path))
        result = run("import", "azure-llm-trace", file, *options, env={"USAGE_LEDGER_DURABILITY": "os"})
        assert result.exit_code == 0
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                expected += int(row["ContextTokens"]) * 300_000 + int(row["GeneratedTokens"]) * 600_000
    assert expected == azure.INPUT_TOKENS * 300_000 + azure.OUTPUT_TOKENS * 600_000
    assert check_totals(tmp_path / LEDGER_FILE) == (expected, 0, 0)


# Random histories, random rates

prices = st.sampled_from(("0", "0.000000000001", "0.0000004375", "0.00000125", "0.000003333333"))


@st.composite
def price_sets(draw: st.DrawFn) -> Fields:
    names = ("output", "cache_read", "cache_write", "reasoning", "per_call", "image", "per_second")
    return draw(st.fixed_dictionaries({"input": prices}, optional=dict.fromkeys(names, prices)))


@st.composite
def random_rates(draw: st.DrawFn) -> list[tuple[int, Command]]:
    """Rates of some models, with tiers, vendor's prices and dates, each with where in a history it is set."""
    found: list[tuple[int, Command]] = []
    for n in range(draw(st.integers(0, 6))):
        fields = draw(price_sets())
        if draw(st.booleans()):
            fields["tiers"] = [{"above": above, **draw(price_sets())} for above in (10, 10**9)]
        if draw(st.booleans()):
            fields["vendor"] = draw(price_sets())
        set_ = rate(
            f"r-{n}", provider=draw(st.sampled_from(("openai", "anthropic"))),
            model=draw(st.sampled_from(("gpt-4o", "sonnet"))), type=draw(st.sampled_from((None, "embedding"))),
            effective_from=draw(st.sampled_from(("2020-01-01T00:00:00Z", "2026-11-22T00:00:00Z", None))), **fields,
        )  # fmt: skip
        found.append((draw(st.integers(0, 25)), set_))
    return found


def mixed(commands: list[Command], rates: list[tuple[int, Command]]) -> list[Command]:
    """A history with rates set in between; they take no time."""
    found = list(commands)
    for at, command in rates:
        found.insert(at, command)
    return found


def check_history(commands: list[Command], sizes: list[int], tail: int) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory, open_book(Path(directory)) as writer:
        patch.setattr(model_call_stat, "TAIL_EVENTS", tail)
        outcomes = write_in_groups(writer, commands, sizes)
        assert "internal_error" not in map(kind_of, outcomes)
        check_totals(writer.path)


@examples(30)
@given(histories(), random_rates(), group_sizes, tails)
def test_whatever_happens_every_sum_is_the_same(
    commands: list[Command], rates: list[tuple[int, Command]], sizes: list[int], tail: int
) -> None:
    """Σ calls = Σ of each grouping of statistics = Σ usage logs = a fold over the events."""
    check_history(mixed(commands, rates), sizes, tail)


@pytest.mark.torture
@examples(TORTURE_EXAMPLES)
@given(histories(80), random_rates(), group_sizes, tails)
def test_whatever_happens_for_long_every_sum_is_the_same(
    commands: list[Command], rates: list[tuple[int, Command]], sizes: list[int], tail: int
) -> None:
    """The same over longer histories and more of them."""
    check_history(mixed(commands, rates), sizes, tail)


@examples(15)
@given(histories(), random_rates(), group_sizes)
def test_the_same_commands_give_the_same_costs_in_any_groups(
    commands: list[Command], rates: list[tuple[int, Command]], sizes: list[int]
) -> None:
    """Rates among the commands of a group hold from their place on, wherever the group is cut: to the byte."""
    history = mixed(commands, rates)
    assert written(history, sizes) == written(history, [1])


@pytest.mark.parametrize("seed", range(2))
def test_a_replay_with_rates_on_a_second_ledger_gives_the_same_file(seed: int) -> None:
    rates: list[tuple[int, Command]] = [
        (0, rate("r-1", input="0.0000025", output="0.00001")),
        (90, rate("r-2", model="sonnet", input="0.000003", vendor={"input": "0.000001"})),
        (150, rate("r-3", input="0.000005", effective_from="2026-11-20T00:00:00Z")),
    ]
    history = mixed(random_history(seed, 300), rates)
    found = written(history, [303])
    assert found == written(history, [7, 50, 1])
    assert any('"cost":' in entry for entry in found[1])
