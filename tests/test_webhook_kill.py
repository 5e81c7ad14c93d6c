"""The service killed at random while it tells a receiver that fails half the time: each event once, in order."""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from ledger.ledger import LEDGER_FILE
from ops.verify import verify
from tests.histories import reading, select
from tests.payment import SECRET
from tests.receiver import Receiver, receiving
from tests.server import Disconnected, Json, Server, started, wait_for
from tests.serving import a_call, prepare
from tests.test_report_kill import asked

TORTURE_KILLS = int(os.environ.get("TORTURE_KILLS", "500"))
SETTLE_S = 60.0
LIFE_S = 1.5
SETTINGS = {"send_timeout_s": 0.5, "webhook_attempts_max": 1000}


class Posts:
    """Calls, one after the other, until the service is gone."""

    def __init__(self) -> None:
        self.posted = 0
        self.ends_s = 0.0
        self.stop = threading.Event()

    def run(self, server: Server) -> threading.Thread:
        self.stop.clear()
        self.ends_s = time.monotonic() + LIFE_S
        thread = threading.Thread(target=self._work, args=(server,))
        thread.start()
        return thread

    def waited(self) -> bool:
        """Whether a life was long enough: after a failure nothing is told for a while."""
        return time.monotonic() > self.ends_s

    def _work(self, server: Server) -> None:
        while not self.stop.is_set():
            try:
                asked(server, "POST", "/v1/model-calls", a_call(f"c-{self.posted}"), "shop")
            except Disconnected:
                return
            self.posted += 1
            time.sleep(0.05)


def killed_while_telling(data_dir: Path, kills: int, workers: str, seed: int) -> None:
    prepare(data_dir)
    posts, dice = Posts(), random.Random(seed)
    with receiving() as receiver, receiving() as broken:
        receiver.secrets, broken.chance = [SECRET], 1.0
        for kill in range(kills):
            receiver.chance = 0.5 if kill else 0.0
            with started(data_dir, "--workers", workers, **SETTINGS) as server:
                if kill == 0:
                    # It must be told of every call, so it is there first.
                    for id_, url in (("hook", receiver.url), ("broken", broken.url)):
                        hook: Json = {"id": id_, "url": url, "events": ["model_call.*"], "secret": SECRET}
                        asked(server, "POST", "/v1/webhooks", hook)
                begun, had = receiver.attempts, posts.posted
                thread = posts.run(server)
                wait_for(lambda had=had: posts.posted > had + 5, SETTLE_S)
                if kill == 0:
                    killed_before_an_answer(server, receiver, dice.randint(1, 5))
                else:
                    wait_for(lambda begun=begun: receiver.attempts > begun or posts.waited(), SETTLE_S)
                    time.sleep(dice.uniform(0.0, 0.5))
                    server.kill()
                posts.stop.set()
                thread.join()
        receiver.chance = 0.1
        with started(data_dir, "--workers", workers, **SETTINGS) as server:
            wait_for(lambda: is_told(server, receiver, data_dir), SETTLE_S)
        check(data_dir, receiver)
        assert broken.attempts > 0
    assert posts.posted > 5


def killed_before_an_answer(server: Server, receiver: Receiver, taken: int) -> None:
    """The worst moment: what was taken must be told again, because nobody kept that it was."""
    gone = threading.Event()

    def kill() -> None:
        server.kill()
        gone.set()

    receiver.at[len(receiver.events) + taken] = kill
    assert gone.wait(SETTLE_S)


def calls_of(data_dir: Path) -> list[int]:
    with reading(data_dir / LEDGER_FILE) as db:
        query = "SELECT position FROM events WHERE type LIKE 'model_call.%' ORDER BY position"
        return [int(str(position)) for (position,) in select(db, query)]


def is_told(server: Server, receiver: Receiver, data_dir: Path) -> bool:
    """Whether all is told. A replay from where it is takes back a wait for the next attempt."""
    delivery = asked(server, "GET", "/v1/webhooks/hook")["delivery"]
    if len(receiver.events) == len(calls_of(data_dir)):
        return True
    if delivery["due_at"] is not None:
        asked(server, "POST", "/v1/webhooks/hook/replay", {"after": delivery["position"]})
    return False


def check(data_dir: Path, receiver: Receiver) -> None:
    assert receiver.wrong == []
    assert receiver.positions == calls_of(data_dir)  # each once in effect, and in order
    assert receiver.duplicates > 0
    report = verify(data_dir / LEDGER_FILE)
    assert report.ok, report.faults


@pytest.mark.parametrize(("workers", "kills"), [("1", 2), ("2", 1)])
def test_a_killed_service_tells_each_event_in_order(tmp_path: Path, workers: str, kills: int) -> None:
    killed_while_telling(tmp_path / "data", kills, workers, seed=int(workers))


@pytest.mark.torture
def test_a_service_killed_all_day_tells_each_event_in_order(tmp_path: Path) -> None:
    for lane in range(max(1, TORTURE_KILLS // 20)):
        killed_while_telling(tmp_path / f"data-{lane}", 20, "2", seed=lane)
