"""Reading history: pages over HTTP and rebuilding projections, against bare reads and bare inserts."""

import time
from pathlib import Path

from ledger.database import open_reader, open_writer
from ledger.rebuild import rebuild_together
from ops.bench import floor, load
from ops.bench.calls import BenchCall
from ops.bench.process import Service
from projections.engine import Engine, registry
from schema.event import decode
from schema.model_call import ModelCallRecorded

PAGE_EVENTS = 1_000


def http_events_per_s(service: Service, events: int) -> float:
    """Events per second over /v1/events, page after page on one connection."""
    requests = [
        load.get_request(service.host, service.port, f"/v1/events?after={after}&limit={PAGE_EVENTS}", service.key)
        for after in range(0, events, PAGE_EVENTS)
    ]
    result = load.run(service.host, service.port, requests, 1)
    assert set(result.statuses) == {200}
    return events / result.seconds


def bare_events_per_s(path: Path, events: int) -> float:
    """Events per second of the same pages, read and joined without a server."""
    db = open_reader(path)
    query = "SELECT entry FROM events WHERE position > ? ORDER BY position LIMIT ?"
    start = time.perf_counter()
    size = 0
    for after in range(0, events, PAGE_EVENTS):
        size += len("".join(f"{entry}\n" for (entry,) in db.execute(query, (after, PAGE_EVENTS))).encode())
    seconds = time.perf_counter() - start
    db.close()
    assert size
    return events / seconds


def rebuild_events_per_s(path: Path, events: int) -> float:
    """Events per second of a rebuild of every projection, decoding once, in steps of the ledger's own size."""
    db = open_writer(path)
    start = time.perf_counter()
    rebuild_together(db, Engine(db), list(registry().values()))
    seconds = time.perf_counter() - start
    db.close()
    return events / seconds


def bare_rebuild_events_per_s(path: Path, directory: Path, rows_per_commit: int) -> float:
    """Events per second read, decoded and inserted into the plain schema's calls and sums."""
    reader = open_reader(path)
    start = time.perf_counter()
    calls = [_plain(*row) for row in reader.execute("SELECT position, type, entry FROM events ORDER BY position")]
    decoded = time.perf_counter() - start
    reader.close()
    kept = [call for call in calls if call is not None]
    return len(kept) / (decoded + len(kept) / floor.plain_calls(directory, kept, rows_per_commit))


def _plain(position: int, type_: str, entry: str) -> BenchCall | None:
    recorded = decode(position, type_, entry)
    data = recorded.data
    if not isinstance(data, ModelCallRecorded) or data.usage is None:
        return None
    return BenchCall(
        data.id, data.app or "", data.model, data.user_id or "", recorded.time_us, data.usage.input_tokens or 0,
        data.usage.output_tokens or 0, b"",
    )  # fmt: skip
