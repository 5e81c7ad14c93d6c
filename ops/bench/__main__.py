"""`make bench`: every benchmark against its floor in one run, as a table and as JSON."""

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from statistics import harmonic_mean

import apsw
import msgspec
from rich.console import Console
from rich.table import Table

from ledger.rebuild import STEP_EVENTS_MAX
from ops.bench import charged, ingest, lease, rated, statistics
from ops.bench.build import build_ledger
from ops.bench.replay import bare_rebuild_events_per_s, rebuild_events_per_s
from schema.times import DAY_US

BATCH_COUNT = int(os.environ.get("BENCH_BATCH_CALLS", "100000"))
SINGLE_COUNT = int(os.environ.get("BENCH_SINGLE_CALLS", "20000"))
ROUNDS = 5
REBUILD_ROUNDS = 3
TURNS = max(20, BATCH_COUNT // 2_000)  # of two services: so short that a change of the machine's speed meets both
REBUILD_COUNT = int(os.environ.get("BENCH_REBUILD_CALLS", "100000"))
STATISTICS_COUNTS = tuple(int(n) for n in os.environ.get("BENCH_STATISTICS_CALLS", "10000,100000,1000000").split(","))
RESULTS = Path("bench-results")

console = Console()
Row = tuple[str, str, str, str, str]


def main() -> None:
    """Run, show, write."""
    rows: list[Row] = []
    report: dict[str, object] = {"machine": _machine()}
    console.print(report["machine"])
    for section in (_batches, _singles, _leases, _rated, _charged, _rebuild, _statistics):
        found, data = section()
        rows += found
        report[section.__name__.strip("_")] = data
        _show(found)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    _show(rows)
    console.print(f"written to {path}")


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": sys.version.split()[0],
        "sqlite": apsw.sqlite_lib_version(),
        "durability": "full (one WAL fsync a commit)",
        "workers": 1,
    }


def _batches() -> tuple[list[Row], object]:
    runs = [
        ingest.batches(BATCH_COUNT, ROUNDS),
        ingest.batches(BATCH_COUNT, ROUNDS, random_ids=True),
        ingest.batches(BATCH_COUNT, ROUNDS, scattered=True),
    ]
    rows: list[Row] = []
    for run in runs:
        plain = harmonic_mean(run.plain_floor)
        rows += [
            _row(f"batches of 500, {run.ids}", run.mean, plain, f"plain SQLite, {run.rows_per_commit} a commit"),
            _row("  against our own tables", run.mean, run.own_tables_floor, "our tables by executemany"),
            _row("  replay over HTTP", run.replay_per_s, run.bare_replay_per_s, "the same pages, no server"),
        ]
    return rows, [{**msgspec.to_builtins(run), "ratio": run.ratio} for run in runs]


def _singles() -> tuple[list[Row], object]:
    run = ingest.singles(SINGLE_COUNT, ROUNDS)
    posts, noop = harmonic_mean(run.posts_per_s), harmonic_mean(run.noop_per_s)
    row = _row(f"single posts, 64 connections (p50 {run.p50_ms:.1f} ms)", posts, noop, "no-op route, same body")
    return [row], {**msgspec.to_builtins(run), "ratio": run.ratio}


def _leases() -> tuple[list[Row], object]:
    found = lease.singles(SINGLE_COUNT, ROUNDS)
    run = found.run
    leases, noop = harmonic_mean(run.posts_per_s), harmonic_mean(run.noop_per_s)
    name = f"leases, 64 connections (p50 {run.p50_ms:.1f} ms), {found.events} events"
    return [_row(name, leases, noop, "no-op route, a call's body")], {**msgspec.to_builtins(found), "ratio": run.ratio}


def _rated() -> tuple[list[Row], object]:
    runs = [rated.batches(BATCH_COUNT, TURNS), rated.singles(SINGLE_COUNT, ROUNDS)]
    rows = [
        _row(
            f"{run.posts}, with rates", harmonic_mean(run.rated_per_s), harmonic_mean(run.unrated_per_s),
            "a ledger without rates",
        )
        for run in runs
    ]  # fmt: skip
    return rows, [{**msgspec.to_builtins(run), "ratio": run.ratio} for run in runs]


def _charged() -> tuple[list[Row], object]:
    runs = [charged.batches(BATCH_COUNT, TURNS, "app"), charged.batches(BATCH_COUNT, TURNS, "user")]
    holds = charged.holds(SINGLE_COUNT, ROUNDS)
    rows = [
        _row(
            f"batches of 500, charged to accounts of {run.owners}s", harmonic_mean(run.charged_per_s),
            harmonic_mean(run.uncharged_per_s), "a ledger without accounts",
        )
        for run in runs
    ]  # fmt: skip
    name = f"holds, 64 connections (p50 {holds.p50_ms:.1f} ms)"
    rows.append(_row(name, harmonic_mean(holds.holds_per_s), harmonic_mean(holds.noop_per_s), "no-op route"))
    found: list[charged.ChargedResult | charged.HoldResult] = [*runs, holds]
    return rows, [{**msgspec.to_builtins(run), "ratio": run.ratio} for run in found]


def _rebuild() -> tuple[list[Row], object]:
    with ingest.scratch() as directory:
        path = directory / "ledger.db"
        build_ledger(path, REBUILD_COUNT, span_us=DAY_US)
        ours, bare = list[float](), list[float]()
        for n in range(REBUILD_ROUNDS):
            ours.append(rebuild_events_per_s(path, REBUILD_COUNT))
            beside = directory / f"plain-{n}"
            beside.mkdir()
            bare.append(bare_rebuild_events_per_s(path, beside, STEP_EVENTS_MAX))
    per_s, floor_per_s = harmonic_mean(ours), harmonic_mean(bare)
    row = _row("rebuild of every projection", per_s, floor_per_s, "decode, plain inserts")
    return [row], {"events_per_s": ours, "floor": bare, "ratio": per_s / floor_per_s}


def _statistics() -> tuple[list[Row], object]:
    with ingest.scratch() as directory:
        costs = [cost for calls in STATISTICS_COUNTS for cost in statistics.measure(directory, calls)]
    rows = [
        (
            f"30 days daily by {cost.group_by}, {cost.calls:,} calls",
            f"{cost.milliseconds:.1f} ms",
            f"{cost.scan_milliseconds:.1f} ms",
            f"{cost.milliseconds / cost.scan_milliseconds:.3f}",
            f"adding up calls; {cost.steps:,} steps for {cost.cells:,} cells",
        )
        for cost in costs
    ]
    return rows, costs


def _row(name: str, ours: float, bare: float, what: str) -> Row:
    return name, f"{ours:,.0f}/s", f"{bare:,.0f}/s", f"{ours / bare:.2f}", what


def _show(rows: list[Row]) -> None:
    table = Table("benchmark", "ours", "floor", "ratio", "the floor")
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
