"""The service killed at random while it reports to a payment system that fails: in the end all is there, once."""

import json
import os
import random
import threading
import time
from pathlib import Path

import pytest

from ledger.ledger import LEDGER_FILE
from ops.verify import verify
from schema.money import amount_e10
from tests.histories import reading, select
from tests.payment import SECRET, Payment, payment
from tests.server import Disconnected, Json, Server, ask, started, wait_for
from tests.serving import a_call, prepare

TORTURE_KILLS = int(os.environ.get("TORTURE_KILLS", "500"))
SETTLE_S = 60.0
OK = {200, 201, 207}
APPS, USERS = ("shop", "ide"), ("u-1", "u-2", None)
SETTINGS = {
    "payment_system": "webhook", "payment_secret": SECRET, "report_interval_s": 0.1, "report_attempts_max": 1000,
    "send_timeout_s": 0.5,
}  # fmt: skip


def asked(
    server: Server, method: str, path: str, body: object = None, caller: str = "admin", *, well: set[int] = OK
) -> Json:
    connection = server.connect()
    try:
        content = None if body is None else json.dumps(body).encode()
        found = ask(connection, method, path, caller, content, {"Content-Type": "application/json"})
        assert found.status in well, found.content
        return found.json()
    finally:
        connection.close()


class Load:
    """Calls of several apps and users, corrections and voids of them, again until each is answered."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.calls: list[tuple[str, str]] = []
        self.changes = 0
        self.stop = threading.Event()

    def run(self, server: Server) -> threading.Thread:
        self.stop.clear()
        thread = threading.Thread(target=self._work, args=(server,))
        thread.start()
        return thread

    def _work(self, server: Server) -> None:
        while not self.stop.is_set():
            try:
                self._post(server)
                if self.calls and self.random.random() < 0.5:
                    self._change(server)
            except Disconnected:
                return

    def _post(self, server: Server) -> None:
        app, first = self.random.choice(APPS), len(self.calls)
        users = [self.random.choice(USERS) for _ in range(20)]
        calls = [a_call(f"c-{first + n}", user_id=user, usage=self._usage()) for n, user in enumerate(users)]
        asked(server, "POST", "/v1/model-calls", calls, app)
        self.calls += [(app, call["id"]) for call in calls]

    def _usage(self) -> Json:
        return {"input_tokens": self.random.randrange(1, 10_000), "output_tokens": self.random.randrange(1_000)}

    def _change(self, server: Server) -> None:
        app, id_ = self.calls.pop(self.random.randrange(len(self.calls)))
        self.changes += 1
        change: Json = {"id": f"fix-{self.changes}", "reason": "wrong", "app": app}
        if self.random.random() < 0.5:
            change["void"] = True
        else:
            change["set"] = {"usage": self._usage(), "user_id": self.random.choice(USERS)}
        asked(server, "POST", f"/v1/model-calls/{id_}/corrections", change)


def killed_while_reporting(data_dir: Path, kills: int, workers: str, seed: int) -> None:
    prepare(data_dir)
    load, dice = Load(seed), random.Random(seed)
    with payment() as system:
        settings = {**SETTINGS, "payment_url": system.url}
        for kill in range(kills):
            system.chance = 0.4
            with started(data_dir, "--workers", workers, **settings) as server:
                if kill == 0:
                    asked(server, "POST", "/v1/model-rates", RATE)
                thread = load.run(server)
                more = system.received + dice.randint(1, 6)
                wait_for(lambda more=more: system.received >= more, SETTLE_S)
                time.sleep(dice.uniform(0.0, 0.3))
                server.kill()
                load.stop.set()
                thread.join()
        system.chance = 0.0
        with started(data_dir, "--workers", workers, **settings) as server:
            rerate = {"id": "again", "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
            asked(server, "POST", "/v1/model-rates", {**RATE, "id": "r-2", "input": "0.000003123456"})
            asked(server, "POST", "/v1/rerates", rerate)
            wait_for(lambda: asked(server, "GET", "/v1/rerates/again")["status"] == "completed", SETTLE_S)
            wait_for(lambda: is_settled(server, data_dir), SETTLE_S)
            compared = asked(server, "GET", "/v1/usage-reports/reconciliation?remote=true")["items"]
        check(data_dir, system, compared)
    assert len(load.calls) > 20


RATE = {
    "id": "r-1", "provider": "openai", "model": "gpt-4o", "effective_from": "2026-01-01T00:00:00Z",
    "input": "0.000002500012", "output": "0.00001",
}  # fmt: skip


def is_settled(server: Server, data_dir: Path) -> bool:
    """Whether nothing is left to collect or to send."""
    for failed in asked(server, "GET", "/v1/usage-reports?status=failed")["items"]:
        asked(server, "POST", f"/v1/usage-reports/{failed['id']}/retry", {}, well={200, 409})  # 409: just reported
    standing = asked(server, "GET", "/v1/usage-reports/status")
    if standing["collecting"] or any(standing["batches"].values()):
        return False
    items = asked(server, "GET", "/v1/usage-reports/reconciliation")["items"]
    return all(item["open"] == "0" for item in items)


def check(data_dir: Path, system: Payment, compared: list[Json]) -> None:
    assert system.wrong == []
    report = verify(data_dir / LEDGER_FILE)
    assert report.ok, report.faults
    with reading(data_dir / LEDGER_FILE) as db:
        query = "SELECT app, user_id, sum(cost_e10) FROM model_calls_named WHERE NOT voided GROUP BY app, user_id"
        costs = {(app, user or app): cost or 0 for app, user, cost in select(db, query)}
        batches = {str(id_): str(status) for id_, status in select(db, "SELECT id, status FROM usage_report_batches")}
    # What was sent is what calls cost, to the last digit; every id that arrived is one of the ledger's.
    assert {key: total for key, total in system.totals().items() if total} == {k: c for k, c in costs.items() if c}
    assert set(batches) == set(system.taken)
    assert set(batches.values()) == {"reported"}
    assert [item for item in compared if item["gaps"] or item["remote"] != item["ledger"]] == []
    assert sum(amount_e10(item["ledger"]) for item in compared) == sum(costs.values())
    assert system.received > len(system.taken)


@pytest.mark.parametrize(("workers", "kills"), [("1", 2), ("2", 1)])
def test_a_killed_service_reports_each_call_once(tmp_path: Path, workers: str, kills: int) -> None:
    killed_while_reporting(tmp_path / "data", kills, workers, seed=int(workers))


@pytest.mark.torture
def test_a_service_killed_all_day_reports_each_call_once(tmp_path: Path) -> None:
    for lane in range(max(1, TORTURE_KILLS // 20)):
        killed_while_reporting(tmp_path / f"data-{lane}", 20, "2", seed=lane)
