"""The server killed under load, again and again, on one data directory: whatever it acknowledged is there, once."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from ledger import lock
from ledger.ledger import LEDGER_FILE
from ops.serve import check_address
from ops.verify import verify
from tests.server import Server, started, wait_for
from tests.serving import prepare
from tests.traffic import Claims, Replay, clients_of, posting

KILLS = 20
TORTURE_KILLS = int(os.environ.get("TORTURE_KILLS", "500"))
# Starting a server takes most of a round, and one processor of it: so two ledgers are tried at a time.
LANES = 2
LOAD_S_MAX = 0.3
START_S = 1.5
# These are killed before they are ready: while they migrate, recover the WAL, start their worker.
KILLED_START_EVERY_KILLS = 4
VERIFY_EVERY_KILLS = 25
ORPHAN_S_MAX = 20.0
PATIENCE_S = 40.0


def killed(data_dir: Path, seed: int, kills: int) -> Counter[str]:
    """Start, check what the kills before left, load, kill; returns what was met."""
    dice = Random(seed)
    claims, replay = Claims(), Replay()
    prepare(data_dir)
    start_s = START_S
    for n in range(1, kills + 1):
        began = time.monotonic()
        if n % KILLED_START_EVERY_KILLS == 0:
            _kill_a_start(data_dir, dice.uniform(0, start_s))
            continue
        with started(data_dir) as server:
            start_s = time.monotonic() - began
            claims.met["unanswered"] += len(claims.unanswered)
            replay.settle(server, claims)
            with posting(clients_of(server, claims, f"{seed}-{n}")):
                time.sleep(dice.uniform(0, LOAD_S_MAX))
                server.kill()
        if n % VERIFY_EVERY_KILLS == 0:
            check_file(data_dir)
    with started(data_dir) as server:
        replay.settle(server, claims)
        Replay().check(server, claims)
        assert server.terminate() == 0
    check_file(data_dir)
    claims.met.update(kills=kills, acknowledged=len(claims.positions))
    return claims.met


def _kill_a_start(data_dir: Path, after_s: float) -> None:
    server = Server(data_dir)
    time.sleep(after_s)
    server.kill()


def check_file(data_dir: Path) -> None:
    report = verify(data_dir / LEDGER_FILE)
    assert report.ok, report.faults


def kill_again_and_again(directory: Path, kills: int) -> Counter[str]:
    seed = int(os.environ.get("TORTURE_SEED") or Random().randrange(2**32))
    print(f"TORTURE_SEED={seed}")  # noqa: T201
    data_dirs = [directory / str(lane) for lane in range(LANES)]
    with ThreadPoolExecutor(LANES) as threads:
        lanes = [
            threads.submit(killed, data_dir, seed + lane, kills // LANES) for lane, data_dir in enumerate(data_dirs)
        ]
        met = sum((lane.result() for lane in lanes), Counter[str]())
    print(dict(met))  # noqa: T201
    return met


def test_a_killed_server_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """Every process of the server is killed at a random instant of a concurrent load, or of its start, 20 times.

    What was acknowledged is in the journal once, at its receipt's position; positions have no gap; what was not
    acknowledged is there as posted or not at all, and is a duplicate or accepted when it is posted again; statistics
    add up to the entries; the file verifies.
    """
    met = kill_again_and_again(tmp_path, KILLS)
    assert met["acknowledged"] > 5 * KILLS
    assert met["unanswered"] > 0


@pytest.mark.torture
def test_a_server_killed_all_day_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """The same, as many times as asked for."""
    assert kill_again_and_again(tmp_path, TORTURE_KILLS)["acknowledged"] > 5 * TORTURE_KILLS


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """Where only the worker is killed its parent starts another, and clients that try again get all they posted in."""
    data_dir = tmp_path / "data"
    prepare(data_dir)
    claims, replay = Claims(), Replay()
    with started(data_dir) as server:
        (worker,) = server.workers()
        with posting(clients_of(server, claims, "call"), through=True):
            wait_for(lambda: len(claims.positions) > 50, PATIENCE_S)
            os.kill(worker, 9)
            wait_for(lambda: len(server.workers()) == 1 and server.workers() != [worker], PATIENCE_S)
            server.wait_until_ready()
            before = len(claims.positions)
            wait_for(lambda: len(claims.positions) > before + 50, PATIENCE_S)
        assert claims.unanswered
        replay.settle(server, claims)
        replay.check(server, claims)
        assert server.terminate() == 0
    check_file(data_dir)


def test_a_worker_whose_parent_was_killed_stops(tmp_path: Path) -> None:
    """Where only the parent is killed its worker ends by itself, in good order, and keeps neither lock nor port."""
    data_dir = tmp_path / "data"
    prepare(data_dir)
    claims, replay = Claims(), Replay()
    with started(data_dir) as server:
        with posting(clients_of(server, claims, "call")):
            wait_for(lambda: len(claims.positions) > 50, PATIENCE_S)
            server.process.kill()
            wait_for(lambda: not server.members(), ORPHAN_S_MAX)
        server.process.wait()
        check_address("127.0.0.1", server.port)
        with lock.exclusive(data_dir):
            pass
    with started(data_dir) as server:
        replay.settle(server, claims)
        replay.check(server, claims)
    check_file(data_dir)
