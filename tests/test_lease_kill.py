"""The server killed under a load of leases: no quota is overrun, and no lease that was answered is lost."""

import json
from collections import Counter
from pathlib import Path
from threading import Event, Thread

import pytest

from ledger.ledger import LEDGER_FILE
from ops.verify import verify
from tests.catalogue import a_provider
from tests.credentials import a_credential
from tests.histories import reading, select
from tests.server import Disconnected, Server, ask, started
from tests.serving import prepare

LIMIT = 400
THREADS = 8


def asked(server: Server, path: str, body: object, caller: str = "admin") -> tuple[int, dict[str, str]]:
    connection = server.connect()
    try:
        found = ask(connection, "POST", path, caller, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return found.status, found.json()
    finally:
        connection.close()


class Load:
    """Threads that lease under ids of their own, again until each is answered; now and then a lease is not sent."""

    def __init__(self) -> None:
        self.lent: dict[str, str] = {}
        self.returned: set[str] = set()
        self.refused = 0
        self.next = Counter[int]()
        self.stop = Event()

    def run(self, server: Server) -> list[Thread]:
        self.stop.clear()
        threads = [Thread(target=self._work, args=(server, n)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        return threads

    def _work(self, server: Server, n: int) -> None:
        while not self.stop.is_set():
            id_ = f"t{n}-{self.next[n]}"
            try:
                status, answer = asked(server, "/v1/credentials/lease", {"provider": "openai", "id": id_}, "shop")
                if status in {200, 201}:
                    self.lent[id_] = answer["credential_id"]
                    if self.next[n] % 5 == 0:
                        asked(server, f"/v1/leases/{id_}/report", {"outcome": "not_sent"}, "shop")
                        self.returned.add(id_)
                elif status == 503:
                    self.refused += 1
            except Disconnected:
                return
            self.next[n] += 1


def killed_again_and_again(data_dir: Path, kills: int, workers: str) -> None:
    prepare(data_dir)
    load = Load()
    for kill in range(kills):
        with started(data_dir, "--workers", workers) as server:
            if kill == 0:
                assert asked(server, "/v1/providers", a_provider())[0] == 201
                for name in "ab":
                    made = a_credential(name, monthly_limit=LIMIT)
                    assert asked(server, "/v1/providers/openai/credentials", made)[0] == 201
            threads = load.run(server)
            load.stop.wait(0.4)
            server.kill()
            load.stop.set()
            for thread in threads:
                thread.join()
    check(data_dir, load)


def check(data_dir: Path, load: Load) -> None:
    report = verify(data_dir / LEDGER_FILE)
    assert report.ok, report.faults
    with reading(data_dir / LEDGER_FILE) as db:
        leases = dict(select(db, "SELECT id, credential FROM leases"))
        sent = dict(select(db, "SELECT credential, count(*) FROM leases WHERE outcome IS NULL GROUP BY credential"))
        used = dict(select(db, "SELECT credential, used FROM credential_usage WHERE kind = 'month'"))
        gone = {id_ for (id_,) in select(db, "SELECT id FROM leases WHERE outcome = 'not_sent'")}
    assert load.lent.items() <= leases.items()
    assert load.returned <= gone
    assert used == sent
    assert max(used.values()) <= LIMIT
    assert len(load.lent) > 20


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_server_overruns_no_quota(tmp_path: Path, workers: str) -> None:
    killed_again_and_again(tmp_path / "data", 3, workers)


@pytest.mark.torture
def test_a_server_killed_all_day_overruns_no_quota(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path / "data", 60, "2")
