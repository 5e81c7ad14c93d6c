"""Replay over HTTP: pages and streams of the stored entries, byte for byte, without a gap or a repeat."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from api.settings import ApiSettings
from api.tail import HEARTBEAT, Tail
from ledger.readers import Readers
from schema.errors import Overloaded
from tests.serving import APP, CALLS, Json, LiveServer, Service, a_call, bearer, live_server, prepare, record, serving

EVENTS = "/v1/events"
STREAM = "/v1/events/stream"
SEED = 20261122
MIB = 1024 * 1024
TIMEOUT_S = 20
STREAMS_MAX = 3


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    directory = tmp_path_factory.mktemp("events")
    prepare(directory, lambda ledger: record(ledger, [a_call(f"c-{n}", app=APP) for n in range(300)]))
    with live_server(directory, sse_heartbeat_s=0.2, sse_streams_max=STREAMS_MAX) as server:
        yield server


def stored(service: Service, where: str = "true") -> bytes:
    rows = service.read(f"SELECT entry FROM events WHERE {where} ORDER BY position")
    return b"".join(entry.encode() + b"\n" for (entry,) in rows)


# Pages


def test_a_page_is_the_stored_entries_byte_for_byte(service: Service) -> None:
    """One line an entry, in order, with what the metadata held exactly as it was stored."""
    strange: Json = {"\u2028": '\u00e9\U0001f600\n\r\t"\\\u0000', "number": 1e300, "nested": [[], {}, None]}
    service.post(CALLS, [a_call(f"c-{n}", metadata=strange) for n in range(50)])
    response = service.get(EVENTS, "auditor")
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.content == stored(service)
    assert response.content.count(b"\n") == service.position()
    assert [msgspec.json.decode(line)["sequence"] for line in response.content.splitlines()] == [
        str(position) for position in range(1, service.position() + 1)
    ]


def test_pages_follow_each_other_by_next_after(service: Service) -> None:
    """Walking by the Next-After header gives the whole journal, and ends where the header stops moving."""
    service.post(CALLS, [a_call(f"c-{n}") for n in range(95)])
    content, after = b"", 0
    while True:
        page = service.get(f"{EVENTS}?after={after}&limit=10")
        assert page.content.count(b"\n") <= 10
        content += page.content
        if int(page.headers["next-after"]) == after:
            break
        after = int(page.headers["next-after"])
    assert content == stored(service)
    assert after == service.position()
    assert page.content == b""
    assert service.get(f"{EVENTS}?after={10**9}").headers["next-after"] == str(10**9)


def test_a_limit_over_a_thousand_means_a_thousand(service: Service) -> None:
    """As everywhere; that is the default, too."""
    service.post(CALLS, [a_call(f"c-{n}") for n in range(1_100)])
    for query in ("", "?limit=1001", "?limit=99999999999999999999"):
        page = service.get(EVENTS + query)
        assert (page.content.count(b"\n"), page.headers["next-after"]) == (1_000, "1000")


def test_types_and_subjects_select(service: Service) -> None:
    """By type, by subject, by both; Next-After passes what was filtered out."""
    start = {name: value for name, value in a_call().items() if name in {"provider", "model", "type", "started_at"}}
    service.post(f"{CALLS}/long/start", start)
    service.post(CALLS, [a_call(f"c-{n}") for n in range(20)])
    service.post(f"{CALLS}/long/complete", {})
    by_type = service.get(f"{EVENTS}?type=model_call.recorded.v2")
    assert by_type.content == stored(service, "type = 'model_call.recorded.v2'")
    assert by_type.headers["next-after"] == str(service.position())
    by_subject = service.get(f"{EVENTS}?subject=model_call/{APP}/long")
    assert by_subject.content == stored(service, f"subject = 'model_call/{APP}/long'")
    assert by_subject.content.count(b"\n") == 2
    both = service.get(f"{EVENTS}?subject=model_call/{APP}/long&type=model_call.completed.v2")
    assert both.content == stored(service, "type = 'model_call.completed.v2'")
    for query in ("type=no.such.v1", "subject=no/such", "subject=x", f"subject=model_call/{APP}/lon", "type=%25"):
        assert service.get(f"{EVENTS}?{query}").content == b""


def test_replaying_into_a_new_ledger_gives_the_same_calls(service: Service, tmp_path: Path) -> None:
    """The entries are enough: posting their data again makes an equal list of calls."""
    service.post(CALLS, [a_call(f"c-{n}", duration_ms=n) for n in range(30)])
    lines = service.get(f"{EVENTS}?type=model_call.recorded.v2").content.splitlines()
    data = [msgspec.json.decode(line)["data"] for line in lines]
    body = b"\n".join(msgspec.json.encode({k: v for k, v in each.items() if k != "rating"}) for each in data)
    with serving(tmp_path / "second") as second:
        assert second.send(body, "admin", content_type="application/x-ndjson").json()["accepted"] == 30
        assert second.get(CALLS).json() == service.get(CALLS).json()


# Streams, from a real server


@contextmanager
def following(server: LiveServer, caller: str = "auditor", **headers: str) -> Generator[httpx.Response, None, None]:
    with httpx.stream("GET", server.url + STREAM, headers={**bearer(caller), **headers}, timeout=TIMEOUT_S) as response:
        yield response


def frames(response: httpx.Response) -> Iterator[tuple[int, str]]:
    """The position and entry of each event; heartbeats and retry times are left out."""
    position = 0
    for line in response.iter_lines():
        if line.startswith("id: "):
            position = int(line.removeprefix("id: "))
        elif line.startswith("data: "):
            yield position, line.removeprefix("data: ")


def take(response: httpx.Response, count: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for frame in frames(response):
        found.append(frame)
        if len(found) == count:
            break
    return found


def post(server: LiveServer, *calls: dict[str, object]) -> None:
    response = httpx.post(server.url + CALLS, json=calls, headers=bearer(APP), timeout=TIMEOUT_S)
    assert response.json()["accepted"] == len(calls)


def entries(server: LiveServer, after: int, limit: int) -> list[str]:
    query = {"after": after, "limit": limit}
    response = httpx.get(server.url + EVENTS, params=query, headers=bearer("auditor"), timeout=TIMEOUT_S)
    return response.text.splitlines()


def head(server: LiveServer) -> int:
    response = httpx.get(f"{server.url}/health/ready", headers=bearer("admin"), timeout=TIMEOUT_S)
    return response.json()["details"]["position"]


def test_a_stream_has_the_entries_and_their_positions(server: LiveServer) -> None:
    """From the beginning: `id` is the position and `data` the entry, as the pages have it."""
    with following(server) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        found = take(response, 200)
    assert [position for position, _ in found] == list(range(1, 201))
    assert [entry for _, entry in found] == entries(server, 0, 200)


def test_a_stream_resumes_after_the_last_event_id(server: LiveServer) -> None:
    """Last-Event-ID says what was seen; it wins over `after`, also when it is 0."""
    with following(server, **{"Last-Event-ID": "100"}) as response:
        assert take(response, 1)[0][0] == 101
    url = f"{server.url}{STREAM}?after=50"
    for last, first in (("", 51), ("0", 1), ("120", 121)):
        headers = {**bearer("auditor"), **({"Last-Event-ID": last} if last else {})}
        with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
            assert take(response, 1)[0][0] == first
    for bad in ("x", "-1", "1.5", "9" * 19):
        headers = [*bearer("auditor").items(), ("Last-Event-ID", bad)]
        assert httpx.get(server.url + STREAM, headers=headers, timeout=TIMEOUT_S).status_code == 400


def test_a_quiet_stream_has_a_heartbeat_and_what_comes_next(server: LiveServer) -> None:
    """Comments while nothing happens; then the next event at once, with the next position."""
    last = head(server)
    with following(server, **{"Last-Event-ID": str(last)}) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("retry: ")
        beats = [line for line in (next(lines) for _ in range(6)) if line]
        assert beats == [": heartbeat"] * len(beats)
        assert beats
        started = time.monotonic()
        post(server, a_call(f"beat-{last}"))
        frame = next(line for line in lines if line.startswith("id: "))
        assert frame == f"id: {last + 1}"
        assert time.monotonic() - started < 2


def test_reconnecting_while_writes_go_on_neither_skips_nor_repeats(server: LiveServer) -> None:
    """Cut off after random numbers of events, each time resumed, the whole is the journal."""
    dice = random.Random(SEED)
    first = head(server)
    seen: list[tuple[int, str]] = []
    writer = threading.Thread(target=lambda: [post(server, *_batch(n)) for n in range(60)])
    writer.start()
    while len(seen) < 600:
        last = seen[-1][0] if seen else first
        with following(server, **{"Last-Event-ID": str(last)}) as response:
            seen += take(response, min(dice.randint(1, 90), 600 - len(seen)))
    writer.join()
    assert [position for position, _ in seen] == list(range(first + 1, first + 601))
    assert [entry for _, entry in seen] == entries(server, first, 600)


def _batch(n: int) -> list[dict[str, object]]:
    return [a_call(f"w-{SEED}-{n}-{i}") for i in range(10)]


def test_streams_over_the_limit_are_refused_and_let_in_when_one_ends(server: LiveServer) -> None:
    """503 with Retry-After; who leaves makes room; other requests are not touched by it."""
    with following(server) as one, following(server) as two, following(server) as three:
        open_ = [frames(response) for response in (one, two, three)]  # let go of, an iterator closes its connection
        assert [next(each)[0] for each in open_] == [1, 1, 1]
        with following(server) as refused:
            assert refused.status_code == 503
            assert refused.read()
            assert refused.json()["code"] == "overloaded"
            assert int(refused.headers["retry-after"]) >= 1
        assert entries(server, 0, 1)
        assert [next(each)[0] for each in open_] == [2, 2, 2]
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        with following(server) as response:
            if response.status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("places of streams that ended stayed taken")


LARGE_CALLS = 4_300
LARGE_BYTES = 12_000
STALLED = 2


def test_a_reader_who_stops_reading_costs_little_and_holds_nobody_up(tmp_path: Path) -> None:
    """With 50 MB to send and nobody taking them, memory stays bounded; writes and other readers go on."""
    large = {"text": "x" * LARGE_BYTES}
    calls = (a_call(f"c-{n}", app=APP, metadata=large) for n in range(LARGE_CALLS))
    prepare(tmp_path, lambda ledger: record(ledger, calls, at_once=500))
    with live_server(tmp_path) as server:
        assert entries(server, 0, 5)
        before = server.resident_bytes()
        with closing(_stalled(server)), closing(_stalled(server)):
            started = time.monotonic()
            while time.monotonic() - started < 1.5:
                post(server, a_call(f"during-{time.monotonic()}"))
                assert server.resident_bytes() - before < STALLED * 30 * MIB
            with following(server, **{"Last-Event-ID": str(LARGE_CALLS - 100)}) as response:
                positions = [position for position, _ in take(response, 100)]
            assert positions == list(range(LARGE_CALLS - 99, LARGE_CALLS + 1))
            assert server.resident_bytes() - before < STALLED * 30 * MIB


def _stalled(server: LiveServer) -> socket.socket:
    """A connection that asks for the stream, reads its head and then no more."""
    address = urlsplit(server.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(TIMEOUT_S)
    connection.connect((address.hostname, address.port))
    head_ = f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer('admin')['Authorization']}\r\n\r\n"
    connection.sendall(head_.encode())
    assert connection.recv(200).startswith(b"HTTP/1.1 200")
    return connection


# The follower itself


@contextmanager
def tailing(service: Service, **settings: float) -> Generator[Tail, None, None]:
    readers = Readers(service.ledger.path, readers=2)
    yield Tail(readers, ApiSettings(**settings))  # type: ignore[arg-type]
    readers.close()


def test_streams_that_open_at_once_are_counted_at_once(service: Service) -> None:
    """Not even many that come in the same moment pass the limit, and one that is dropped unread is counted off."""

    async def run(tail: Tail) -> None:
        opened = await asyncio.gather(*(tail.open(0) for _ in range(10)), return_exceptions=True)
        assert sum(isinstance(each, Overloaded) for each in opened) == 7
        assert tail.streams == 3
        del opened
        await asyncio.sleep(0.05)
        assert tail.streams == 0
        await tail.stop()

    with tailing(service, sse_streams_max=3) as tail:
        asyncio.run(run(tail))


def test_a_stop_ends_every_stream(service: Service) -> None:
    """Followers that wait are woken and their streams end; clients come back with Last-Event-ID."""

    async def run(tail: Tail) -> None:
        streams = [await tail.open(10**6) for _ in range(3)]

        async def read(stream: object) -> list[bytes]:
            return [chunk async for chunk in stream]  # type: ignore[attr-defined]

        readers = [asyncio.create_task(read(stream)) for stream in streams]
        await asyncio.sleep(0.1)
        await tail.stop()
        async with asyncio.timeout(2):
            assert all(HEARTBEAT not in chunks for chunks in await asyncio.gather(*readers))
        assert tail.streams == 0

    with tailing(service) as tail:
        asyncio.run(run(tail))
