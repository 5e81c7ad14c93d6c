"""Posting usage over HTTP: batches against the bare SQLite floor, single posts against a no-op route."""

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import harmonic_mean
from tempfile import mkdtemp
from typing import Any

from msgspec import Struct

from ledger.database import open_reader
from ops.bench import floor, load
from ops.bench.calls import BenchCall, bench_calls
from ops.bench.process import Service, ledger_service, noop_service
from ops.bench.replay import bare_events_per_s, http_events_per_s

BATCH_CALLS = 500
BATCH_CONNECTIONS = 2
SINGLE_CONNECTIONS = 64
COMMIT_GROUPS = "usage_ledger_writer_groups_total"


class BatchResult(Struct):
    """Batches of 500 and the plain schema's floor, calls per second by round: each round measures both, in turn."""

    ids: str
    rows_per_commit: int
    calls_per_s: list[float]
    plain_floor: list[float]
    own_tables_floor: float
    p50_ms: float
    p99_ms: float
    replay_per_s: float
    bare_replay_per_s: float

    @property
    def mean(self) -> float:
        """Calls per second over all rounds."""
        return harmonic_mean(self.calls_per_s)

    @property
    def ratio(self) -> float:
        """Against the plain schema's floor."""
        return self.mean / harmonic_mean(self.plain_floor)


class SingleResult(Struct):
    """Single posts at 64 connections and the no-op route, requests per second; each round measures both."""

    posts_per_s: list[float]
    noop_per_s: list[float]
    p50_ms: float
    p99_ms: float

    @property
    def ratio(self) -> float:
        """Against the no-op route, over all rounds."""
        return harmonic_mean(self.posts_per_s) / harmonic_mean(self.noop_per_s)


@contextmanager
def scratch() -> Generator[Path]:
    """A directory on the disk that is measured, removed afterwards."""
    directory = Path(mkdtemp(prefix="bench-", dir="."))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def batches(count: int, rounds: int, *, random_ids: bool = False, scattered: bool = False) -> BatchResult:
    """Measure `count` calls in batches of 500, spread over rounds."""
    calls = list(bench_calls(count, random_ids=random_ids, scattered=scattered))
    ids = ("random ids" if random_ids else "time-ordered ids") + (", scattered users" if scattered else "")
    found = BatchResult(ids, BATCH_CALLS, [], [], 0.0, 0.0, 0.0, 0.0, 0.0)
    with scratch() as directory:
        data_dir = directory / "data"
        path = data_dir / "ledger.db"
        plain = floor.Plain(directory)
        with ledger_service(data_dir) as service:
            for n in range(rounds):
                _round(found, service, plain, path, calls[n * count // rounds : (n + 1) * count // rounds])
            found.replay_per_s = http_events_per_s(service, count)
        plain.close()
        found.own_tables_floor = floor.copy_of(path, directory, found.rows_per_commit)
        found.bare_replay_per_s = bare_events_per_s(path, count)
    return found


def _round(found: BatchResult, service: Service, plain: floor.Plain, path: Path, calls: list[BenchCall]) -> None:
    groups = service.metric(COMMIT_GROUPS)
    result = post_batches(service, calls)
    found.rows_per_commit = round(len(calls) / (service.metric(COMMIT_GROUPS) - groups))
    found.calls_per_s.append(len(calls) / result.seconds)
    found.p50_ms, found.p99_ms = result.quantile_ms(0.5), result.quantile_ms(0.99)
    found.plain_floor.append(len(calls) / plain.write(calls, _entries(path, len(calls)), found.rows_per_commit))


def _entries(path: Path, count: int) -> list[str]:
    """The entries just stored: the floor writes the same bytes."""
    db = open_reader(path)
    rows: list[Any] = db.execute("SELECT entry FROM events ORDER BY position DESC LIMIT ?", (count,)).fetchall()
    db.close()
    return [entry for (entry,) in reversed(rows)]


def post_batches(service: Service, calls: Sequence[BenchCall]) -> load.Result:
    """Post calls in batches of 500 over two connections."""
    result = load.run(service.host, service.port, _bodies(service, calls), BATCH_CONNECTIONS)
    assert set(result.statuses) == {207}
    return result


def _bodies(service: Service, calls: Sequence[BenchCall]) -> list[bytes]:
    parts = (calls[first : first + BATCH_CALLS] for first in range(0, len(calls), BATCH_CALLS))
    return [
        load.request(
            service.host, service.port, "/v1/model-calls", b"[" + b",".join(c.body for c in part) + b"]", service.key
        )
        for part in parts
    ]


def singles(count: int, rounds: int) -> SingleResult:
    """Measure `count` single posts a round, and as many no-ops just before."""
    calls = list(bench_calls(count * rounds))
    found = SingleResult([], [], 0.0, 0.0)
    with scratch() as directory, ledger_service(directory / "data") as service, noop_service() as noop:
        for n in range(rounds):
            part = calls[n * count : (n + 1) * count]
            found.noop_per_s.append(count / post_singles(noop, "/noop", part).seconds)
            result = post_singles(service, "/v1/model-calls", part)
            found.posts_per_s.append(count / result.seconds)
            found.p50_ms, found.p99_ms = result.quantile_ms(0.5), result.quantile_ms(0.99)
    return found


def post_singles(service: Service, path: str, calls: Sequence[BenchCall]) -> load.Result:
    """Post calls one by one over 64 connections."""
    requests = [load.request(service.host, service.port, path, call.body, service.key) for call in calls]
    result = load.run(service.host, service.port, requests, SINGLE_CONNECTIONS)
    assert set(result.statuses) == {201}
    return result
