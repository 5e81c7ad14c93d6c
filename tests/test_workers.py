"""Several workers and a command beside them on one file: nothing lost, nothing twice, and a stop in good order."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any

from ledger import lock
from tests.histories import reading
from tests.server import ANSWER_TIMEOUT_S, Answer, Server, ask, result_of, run_cli, started, wait_for
from tests.serving import APP, CALLS, a_call, bearer, prepare
from tests.test_kill import check_file
from tests.traffic import MEASURES, Claims, Client, Replay, measured, picked, posting

Json = dict[str, Any]

WORKERS = ("--workers", "2")
IMPORTED_APP = "imported"
# With what the clients post it passes 4,096 events, where statistics fold their tail.
IMPORTED_CALLS = 4_000
POSTED_EVENTS_MIN = 600
STREAMS = 3
STOP_S_MAX = 10.0


def clients_of_each(server: Server, claims: Claims, each: int) -> list[Client]:
    """That many clients of each worker; the system decides which worker takes a connection."""
    found: dict[int, list[Client]] = {worker: [] for worker in server.workers()}
    assert len(found) == 2

    def connect() -> bool:
        name = f"w{sum(map(len, found.values()))}"
        client = Client(server, claims, name)
        ask(client.connection, "GET", "/health/live", APP)
        of_worker = found[server.worker_of(client.connection)]
        if len(of_worker) < each:
            of_worker.append(client)
        else:
            client.connection.close()
        return all(len(clients) == each for clients in found.values())

    wait_for(connect, ANSWER_TIMEOUT_S)
    return [client for clients in found.values() for client in clients]


def write_trace(path: Path, rows: int) -> None:
    """A trace as Azure publishes it: the time without a zone, to 100 ns."""
    dice = Random(rows)
    lines = (
        f"2025-03-{29 + row * 3 // rows} {row % 24:02}:{row % 60:02}:03.{dice.randrange(10**7):07},"
        f"{dice.randrange(5_000)},{dice.randrange(800)}\n"
        for row in range(rows)
    )
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(lines))


def import_trace(data_dir: Path, trace: Path) -> str:
    options = ("--app", IMPORTED_APP, "--provider", "azure", "--model", "gpt-4")
    return result_of(run_cli(data_dir, "import", "azure-llm-trace", str(trace), *options))


def test_two_workers_and_an_import_write_one_ledger(tmp_path: Path) -> None:
    """Clients post to both workers while a command imports into the same file.

    Positions have no gap, every acknowledged call and every row is there once, and each road to the sums (pages of
    calls, statistics by hour, day, total and group, the entries themselves) gives the same ones. The import again
    counts nothing.
    """
    data_dir, trace = tmp_path / "data", tmp_path / "trace.csv"
    write_trace(trace, IMPORTED_CALLS)
    prepare(data_dir)
    claims, replay = Claims(), Replay()
    with started(data_dir, *WORKERS) as server, ThreadPoolExecutor(1) as thread:
        clients = clients_of_each(server, claims, 2)
        with posting(clients):
            importing = thread.submit(import_trace, data_dir, trace)
            wait_for(lambda: importing.done() and len(claims.positions) > POSTED_EVENTS_MIN, 60)
        assert importing.result() == f"accepted {IMPORTED_CALLS}, duplicate 0, rejected 0\n"
        assert min(client.acknowledged for client in clients) > 0
        assert claims.unanswered == []
        replay.check(server, claims)
        assert len([event for event in replay.events if event.startswith("azure-")]) == IMPORTED_CALLS
        assert replay.by(1)[IMPORTED_APP,]["calls"] == IMPORTED_CALLS
        check_roads(server, replay)
        assert import_trace(data_dir, trace) == f"accepted 0, duplicate {IMPORTED_CALLS}, rejected 0\n"
        assert server.terminate() == 0
    check_file(data_dir)


def check_roads(server: Server, replay: Replay) -> None:
    """Every road to the sums ends where the entries do."""
    assert buckets(server, "granularity=hour", "start") == replay.by(0)
    assert buckets(server, "group_by=app,model", "app", "model") == replay.by(1, 2)
    assert buckets(server, "granularity=hour&group_by=model,app", "start", "app", "model") == replay.by(0, 1, 2)
    assert buckets(server, "granularity=total") == replay.by()
    days: dict[tuple[str, ...], Json] = {}
    for (hour,), cell in replay.by(0).items():
        add(days.setdefault((f"{hour[:10]}T00:00:00.000000Z",), dict.fromkeys(MEASURES, 0)), cell)
    assert buckets(server, "granularity=day", "start") == days
    assert paged(server) == replay.by(1, 2)


def add(total: Json, cell: Json) -> None:
    for name in MEASURES:
        total[name] += cell[name]


def buckets(server: Server, query: str, *names: str) -> dict[tuple[str, ...], Json]:
    found = server.get(f"/v1/model-call-stats?{query}").json()["buckets"]
    cells = {tuple({**each, **each["group"]}[name] for name in names): picked(each) for each in found}
    assert len(cells) == len(found)
    return cells


def paged(server: Server) -> dict[tuple[str, ...], Json]:
    """The sums of the finished calls by app and model, added up over all pages."""
    found: dict[tuple[str, ...], Json] = {}
    cursor = ""
    while cursor is not None:
        page = server.get(f"{CALLS}?limit=700{cursor and f'&cursor={cursor}'}").json()
        for call in page["items"]:
            if call["status"] != "processing":
                add(found.setdefault((call["app"], call["model"]), dict.fromkeys(MEASURES, 0)), measured(call))
        cursor = page["next_cursor"]
    return found


def post(connection: HTTPConnection, key: str, id_: str) -> Answer:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return ask(connection, "POST", CALLS, APP, json.dumps(a_call(id_)).encode(), headers)


def test_keys_made_and_revoked_beside_the_workers_count_at_the_next_request(tmp_path: Path) -> None:
    """A key made by a command works in each worker at once; revoked, it works in none, on open connections neither."""
    data_dir = tmp_path / "data"
    prepare(data_dir)
    with started(data_dir, *WORKERS) as server:
        connections = [client.connection for client in clients_of_each(server, Claims(), 1)]
        key = result_of(run_cli(data_dir, "keys", "create", "--role", "app", "--app", APP)).strip()
        assert key.startswith("ulk_")
        assert [post(each, key, f"c-{n}").status for n, each in enumerate(connections)] == [201, 201]
        result_of(run_cli(data_dir, "keys", "revoke", key.split("_")[1]))
        refused = [post(each, key, f"d-{n}") for n, each in enumerate(connections)]
        assert [(each.status, each.json()["code"]) for each in refused] == [(401, "unauthenticated")] * 2
        for each in connections:
            each.close()
        assert server.get(CALLS, APP).status == 200


def follow(server: Server) -> bytes:
    """An event stream, read to its end; one that is cut off instead of ended raises."""
    with closing(server.connect()) as connection:
        connection.request("GET", "/v1/events/stream", headers=bearer("auditor"))
        response = connection.getresponse()
        assert response.status == 200
        return response.read()


def streamed(content: bytes) -> Sequence[int]:
    return [int(line[4:]) for line in content.splitlines() if line.startswith(b"id: ")]


def test_a_stop_under_load_finishes_what_was_accepted(tmp_path: Path) -> None:
    """SIGTERM while clients post and follow: the server ends within seconds, with exit code 0.

    Every acknowledged call is in the file, every request got a whole answer or a closed connection, and every stream
    came to its proper end without a gap.
    """
    data_dir = tmp_path / "data"
    prepare(data_dir)
    claims = Claims()
    with started(data_dir, *WORKERS) as server, ThreadPoolExecutor(STREAMS) as threads:
        streams = [threads.submit(follow, server) for _ in range(STREAMS)]
        with posting(clients_of_each(server, claims, 3)):
            wait_for(lambda: len(claims.positions) > POSTED_EVENTS_MIN, 30)
            began = time.monotonic()
            assert server.terminate() == 0
            assert time.monotonic() - began < STOP_S_MAX
            wait_for(lambda: not server.members(), STOP_S_MAX)
        ids = [streamed(stream.result(STOP_S_MAX)) for stream in streams]
    assert [list(range(1, len(each) + 1)) for each in ids] == ids
    assert min(map(len, ids)) > POSTED_EVENTS_MIN // 2
    # A request that was cut off without an answer would have waited until its time was over.
    assert claims.met["TimeoutError"] == claims.met["IncompleteRead"] == 0
    with lock.exclusive(data_dir), reading(data_dir / "ledger.db") as db:
        stored: dict[str, Any] = {str(id_): position for id_, position in db.execute("SELECT id, position FROM events")}
        assert sorted(stored.values()) == list(range(1, len(stored) + 1))
    assert claims.positions.items() <= stored.items()
    assert not stored.keys() & {event for each in claims.refused for event in each.events}
    check_file(data_dir)
