"""Long files while calls go on coming: streamed, whole, and in memory that does not grow with them."""

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from ledger.database import CACHE_KIB
from tests.serving import APP, CALLS, Json, LiveServer, a_call, bearer, live_server, prepare, record

TORTURE_ROWS = int(os.environ.get("TORTURE_ROWS", "1000000"))
ROWS = 30_000
# What a worker may hold more than before it: pages, a row group, what is on its way, and its allocator's slack.
GROWN_BYTES_MAX = 96 * 1024 * 1024
# Where a file is longer than the page caches of a reader and of the writer, these fill up to their size.
LONG_GROWN_BYTES_MAX = (2 * CACHE_KIB // 1024 + 32) * 1024 * 1024
TIMEOUT_S = 600
MEGABYTE = 1024 * 1024


class Taken:
    """What a client saw of a file, which it does not keep."""

    def __init__(self) -> None:
        self.digest, self.bytes, self.lines, self.parts = sha256(), 0, 0, 0

    def add(self, part: bytes) -> None:
        self.digest.update(part)
        self.bytes += len(part)
        self.lines += part.count(b"\n")
        self.parts += 1


def asked(server: LiveServer, path: str) -> Json:
    answer = httpx.get(f"{server.url}{path}", headers=bearer("admin"), timeout=TIMEOUT_S)
    answer.raise_for_status()
    return answer.json()


@contextmanager
def calls_coming(server: LiveServer) -> Generator[Callable[[], int], None, None]:
    """One after the other, each acknowledged; tells how many there were."""
    stop, posted = threading.Event(), 0

    def post() -> None:
        nonlocal posted
        with httpx.Client(headers=bearer(APP), timeout=TIMEOUT_S) as client:
            while not stop.is_set():
                client.post(f"{server.url}{CALLS}", json=a_call(f"new-{posted}")).raise_for_status()
                posted += 1

    thread = threading.Thread(target=post)
    thread.start()
    try:
        yield lambda: posted
    finally:
        stop.set()
        thread.join()


def exported(server: LiveServer, path: str) -> tuple[Taken, int, str]:
    """The file, the most that the server held meanwhile over what it held before, and its position."""
    before = most = server.resident_bytes()
    taken = Taken()
    with httpx.stream("GET", f"{server.url}{path}", headers=bearer("admin"), timeout=TIMEOUT_S) as answer:
        assert answer.status_code == 200
        for part in answer.iter_bytes():
            taken.add(part)
            if taken.parts % 16 == 0:
                most = max(most, server.resident_bytes())
        return taken, max(most, server.resident_bytes()) - before, answer.headers["export-position"]


def exports_are_whole_and_bounded(data_dir: Path, rows: int, grown_max: int) -> None:
    calls = (a_call(f"c-{n}", app=APP, usage={"input_tokens": n, "output_tokens": 1}) for n in range(rows))
    prepare(data_dir, lambda ledger: record(ledger, calls))
    with live_server(data_dir) as server:
        for path in (f"{CALLS}.csv", f"{CALLS}.parquet", "/v1/focus.csv"):
            known = asked(server, "/v1/model-call-stats")["totals"]
            with calls_coming(server) as posted:
                taken, grown, position = exported(server, path)
            came = posted()
            told = f"{path}: {taken.bytes} bytes, {grown // MEGABYTE} MiB more, {came} calls meanwhile"
            print(told)  # noqa: T201 - what a torture run is for
            manifest = asked(server, f"{path}/manifest?as_of={position}")
            assert (manifest["sha256"], manifest["bytes"]) == (taken.digest.hexdigest(), taken.bytes)
            late = manifest["rows"] - known["calls"]  # those that came before the export began
            assert 0 <= late <= came
            assert came > 0
            assert path.endswith(".parquet") or taken.lines == manifest["rows"] + 1
            tokens = known["input_tokens"] + late * a_call()["usage"]["input_tokens"]
            assert manifest["totals"]["input_tokens"] == tokens
            assert taken.parts > 2
            assert grown < grown_max


def test_a_long_export_streams_while_calls_come(tmp_path: Path) -> None:
    """The memory stays where it was, every byte is as the manifest says, and the sums are those of the statistics."""
    exports_are_whole_and_bounded(tmp_path, ROWS, GROWN_BYTES_MAX)


@pytest.mark.torture
def test_a_million_calls_are_exported_while_calls_come(tmp_path: Path) -> None:
    """In the same bounds."""
    exports_are_whole_and_bounded(tmp_path, TORTURE_ROWS, LONG_GROWN_BYTES_MAX)
