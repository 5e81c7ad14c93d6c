"""Posting usage over HTTP: batches against the bare SQLite floor, single posts against a no-op route."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from msgspec import Struct

from ops.bench import floor, load
from ops.bench.calls import BenchCall, bench_calls
from ops.bench.process import Service, ledger_service, noop_service
from ops.bench.replay import bare_events_per_s, http_events_per_s

BATCH_CALLS = 500
BATCH_CONNECTIONS = 2
SINGLE_CONNECTIONS = 64
COMMIT_GROUPS = "usage_ledger_writer_groups_total"


class BatchResult(Struct):
    """Batches of 500 and their floors, calls per second; the floors ran before and after, at the same rows a commit."""

    ids: str
    calls_per_s: float
    rows_per_commit: int
    plain_floor: list[float]
    own_tables_floor: float
    p50_ms: float
    p99_ms: float
    replay_per_s: float
    bare_replay_per_s: float

    @property
    def ratio(self) -> float:
        """Against the plain schema's floor."""
        return self.calls_per_s * len(self.plain_floor) / sum(self.plain_floor)


class SingleResult(Struct):
    """Single posts at 64 connections and the no-op route, requests per second; each round measures both."""

    posts_per_s: list[float]
    noop_per_s: list[float]
    p50_ms: float
    p99_ms: float

    @property
    def ratio(self) -> float:
        """Against the no-op route, over all rounds."""
        return sum(self.posts_per_s) / sum(self.noop_per_s)


@contextmanager
def scratch() -> Generator[Path]:
    """A directory on the disk that is measured, removed afterwards."""
    directory = Path(mkdtemp(prefix="bench-", dir="."))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def batches(count: int, *, random_ids: bool = False, scattered: bool = False) -> BatchResult:
    """Measure `count` calls in batches of 500."""
    calls = list(bench_calls(count, random_ids=random_ids, scattered=scattered))
    with scratch() as directory:
        data_dir = directory / "data"
        with ledger_service(data_dir) as service:
            result = load.run(service.host, service.port, _bodies(service, calls), BATCH_CONNECTIONS)
            assert set(result.statuses) == {207}
            rows = round(count / service.metric(COMMIT_GROUPS))
            replay = http_events_per_s(service, count)
        path = data_dir / "ledger.db"
        entries = _entries(path, count)
        floors = [_plain_floor(calls, entries, rows) for _ in range(2)]
        return BatchResult(
            ("random" if random_ids else "time-ordered") + (", scattered users" if scattered else ""),
            count / result.seconds,
            rows,
            floors,
            floor.copy_of(path, directory, rows),
            result.quantile_ms(0.5),
            result.quantile_ms(0.99),
            replay,
            bare_events_per_s(path, count),
        )


def _plain_floor(calls: list[BenchCall], entries: list[str], rows: int) -> float:
    with scratch() as directory:
        return floor.plain(directory, calls, entries, rows)


def _entries(path: Path, count: int) -> list[str]:
    """The entries just stored: the floor writes the same bytes."""
    db = floor.open_writer(path)
    query = "SELECT entry FROM events WHERE type = 'model_call.recorded.v1' ORDER BY position LIMIT ?"
    entries: list[str] = [entry for (entry,) in db.execute(query, (count,))]
    db.close()
    return entries


def _bodies(service: Service, calls: list[BenchCall]) -> list[bytes]:
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
            found.noop_per_s.append(count / _post(noop, "/noop", part).seconds)
            result = _post(service, "/v1/model-calls", part)
            found.posts_per_s.append(count / result.seconds)
            found.p50_ms, found.p99_ms = result.quantile_ms(0.5), result.quantile_ms(0.99)
    return found


def _post(service: Service, path: str, calls: list[BenchCall]) -> load.Result:
    requests = [load.request(service.host, service.port, path, call.body, service.key) for call in calls]
    result = load.run(service.host, service.port, requests, SINGLE_CONNECTIONS)
    assert set(result.statuses) == {201}
    return result
