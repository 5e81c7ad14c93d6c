"""Usage reports: collected exactly, cut, sent once in effect, given up, retried, paused, compared."""

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from api.outbound import Outbound
from api.payment import Sent, UsageBatch
from api.reporting import Reporter
from api.services import services_of
from api.settings import ApiSettings
from ledger.commands.usage_report_sending import backoff_us
from ledger.database import open_writer
from ops.poster import HttpPoster
from ops.verify import verify
from schema.times import DAY_US, HOUR_US, SECOND_US
from tests.serving import APP, CALLS, Json, Service, a_call, serving

REPORTS = "/v1/usage-reports"
RATE = {
    "id": "r-1", "provider": "openai", "model": "gpt-4o", "effective_from": "2026-01-01T00:00:00Z", "input": "0.001",
    "output": "0",
}  # fmt: skip


class FakePayment:
    """Takes batches into a dictionary; the next answers can be set."""

    name = "fake"
    resend_us: int | None = None

    def __init__(self) -> None:
        self.taken: dict[str, UsageBatch] = {}
        self.answers: list[Sent | Exception] = []
        self.sent: list[str] = []

    async def send(self, batch: UsageBatch) -> Sent:
        self.sent.append(batch.id)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            return answer
        known = self.taken.get(batch.id)
        assert known in {None, batch}
        self.taken[batch.id] = batch
        return Sent(outcome="accepted" if known is None else "duplicate")

    async def total_e10(self, customer: str, app: str) -> int | None:
        own = [batch for batch in self.taken.values() if (batch.customer, batch.app) == (customer, app)]
        return sum(int(batch.value) * 10 ** (10 - batch.decimals) for batch in own)

    def amounts(self) -> list[str]:
        return [batch.amount for batch in self.taken.values()]


class Reporting:
    """A service whose reporting a test moves step by step."""

    def __init__(self, service: Service, system: FakePayment) -> None:
        self.service = service
        self.system = system

    def step(self, seconds: float = 601) -> None:
        """Look now, and again later; each time until what was begun has ended."""
        self.look()
        self.service.clock.now_us += round(seconds * SECOND_US)
        self.look()

    def look(self) -> None:
        client: Any = self.service.client
        reporter = services_of(client.app).reporter
        assert reporter is not None

        async def stepped(reporter: Reporter) -> None:
            await reporter.step()
            await asyncio.gather(*reporter._sending)

        client.blocking_portal.call(stepped, reporter)

    def call(self, id_: str, tokens: int = 1_000, **fields: object) -> None:
        answer = self.service.post(CALLS, a_call(id_, usage={"input_tokens": tokens, "output_tokens": 0}, **fields))
        assert answer.status_code == 201

    def change(self, id_: str, change: str, **posted: object) -> None:
        body = {"id": change, "reason": "wrong", "app": APP, **posted}
        assert self.service.post(f"{CALLS}/{id_}/corrections", body, "admin").status_code in {200, 201}

    def batches(self, query: str = "") -> list[Json]:
        found: list[Json] = self.service.get(f"{REPORTS}{query}").json()["items"]
        return found

    def gaps(self, query: str = "?remote=true&gaps=true") -> list[Json]:
        found: list[Json] = self.service.get(f"{REPORTS}/reconciliation{query}").json()["items"]
        return found

    def verified(self) -> None:
        report = verify(self.service.ledger.path)
        assert report.ok, report.faults


def settings(**fields: Any) -> ApiSettings:  # noqa: ANN401 - its fields
    return ApiSettings(sweep_interval_s=86_400.0, report_from="beginning", **fields)


@pytest.fixture
def reporting(tmp_path: Path) -> Generator[Reporting]:
    yield from reporting_with(tmp_path, settings(report_attempts_max=3))


def reporting_with(data_dir: Path, with_: ApiSettings, resend_us: int | None = None) -> Generator[Reporting]:
    system = FakePayment()
    system.resend_us = resend_us
    with serving(data_dir, settings=with_, outbound=Outbound(HttpPoster(), lambda: 0, system)) as service:
        assert service.post("/v1/model-rates", RATE, "admin").status_code == 201
        yield Reporting(service, system)


def test_usage_is_collected_by_app_and_user_and_sent_once(reporting: Reporting) -> None:
    """Nothing before its interval is over; then a batch a user, and nothing more."""
    reporting.call("a", user_id="u-1")
    reporting.call("b", 500, user_id="u-1")
    reporting.call("c", user_id="u-2")
    reporting.call("d", user_id=None)
    reporting.step(0)
    assert reporting.batches() == []
    reporting.step()
    reporting.step()
    found = {batch["customer"]: batch for batch in reporting.batches()}
    assert {name: (b["amount"], b["calls"], b["tokens"], b["status"]) for name, b in found.items()} == {
        "u-1": ("1.5", 2, 1_500, "reported"), "u-2": ("1", 1, 1_000, "reported"), APP: ("1", 1, 1_000, "reported"),
    }  # fmt: skip
    assert found["u-1"]["value"] == "15000000000"
    assert len(reporting.system.sent) == 3
    assert reporting.gaps() == []
    reporting.verified()


def test_many_calls_do_not_wait(tmp_path: Path) -> None:
    for reporting in reporting_with(tmp_path, settings(report_calls_max=2)):
        reporting.call("a")
        reporting.step(1)
        assert reporting.batches() == []
        reporting.call("b")
        reporting.step(1)
        assert reporting.system.amounts() == ["2"]


def test_what_changes_afterwards_is_reported_as_the_difference(reporting: Reporting) -> None:
    """A correction, a call that becomes another user's, a void and a re-rate, each after its call was reported."""
    for name in "abcd":
        reporting.call(name)
    reporting.step()
    reporting.change("a", "x-1", set={"usage": {"input_tokens": 250, "output_tokens": 0}})
    reporting.change("b", "x-2", set={"user_id": "u-9"})
    reporting.change("c", "x-3", void=True)
    reporting.step()
    assert sorted(reporting.system.amounts()) == ["-2.75", "1", "4"]
    reporting.service.post("/v1/model-rates", {**RATE, "id": "r-2", "input": "0.003"}, "admin")
    rerate = {"id": "again", "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    assert reporting.service.post("/v1/rerates", rerate, "admin").status_code == 201
    while reporting.service.get("/v1/rerates/again").json()["status"] != "completed":
        pass
    reporting.step()
    assert sorted(reporting.system.amounts()) == ["-2.75", "1", "2", "2.5", "4"]
    assert {(item["customer"], item["ledger"], item["remote"]) for item in reporting.gaps("?remote=true")} == {
        ("u-1", "3.75", "3.75"), ("u-9", "3", "3"),
    }  # fmt: skip
    reporting.verified()


def test_a_lost_reply_is_sent_again_under_the_same_id(reporting: Reporting) -> None:
    """What raised may have arrived: the second time it is known, and counts once."""
    reporting.call("a")
    send = reporting.system.send

    async def lost(batch: UsageBatch) -> Sent:
        await send(batch)
        raise ConnectionResetError("the secret is s3cr3t")

    reporting.system.send = lost  # type: ignore[method-assign]
    reporting.step()
    [failed] = reporting.batches("?status=failed")
    assert (failed["error"], failed["attempts"]) == ("ConnectionResetError", 1)
    reporting.system.send = send  # type: ignore[method-assign]
    reporting.step(60)
    [batch] = reporting.batches()
    assert (batch["status"], batch["duplicate"], batch["attempts"]) == ("reported", True, 2)
    assert reporting.system.sent == [batch["id"]] * 2
    assert reporting.gaps() == []


def test_the_wait_grows_and_a_dead_batch_waits_for_someone(reporting: Reporting) -> None:
    """After as many attempts as are allowed it is dead, which is a gap and an event; a retry by hand revives it."""
    busy = Sent(outcome="failed", error="HTTP 503", retry_after_s=90)
    reporting.system.answers = [busy, busy, busy]
    reporting.call("a")
    reporting.step()
    reporting.step(89)
    assert len(reporting.system.sent) == 1
    reporting.step(2)
    reporting.step(91)
    [dead] = reporting.batches("?status=dead")
    assert (dead["attempts"], dead["error"], dead["due_at"]) == (3, "HTTP 503", None)
    [gap] = reporting.gaps()
    assert (gap["gaps"], gap["dead"], gap["open"]) == (["unreported"], "1", "1")
    reporting.step(HOUR_US // SECOND_US)
    assert len(reporting.system.sent) == 3
    answer = reporting.service.post(f"{REPORTS}/{dead['id']}/retry", {"reason": "they are back"}, "admin")
    assert (answer.status_code, answer.json()["status"]) == (200, "pending")
    reporting.step(0)
    assert reporting.batches()[0]["status"] == "reported"
    assert reporting.gaps() == []
    assert reporting.service.post(f"{REPORTS}/{dead['id']}/retry", {}, "admin").json()["code"] == "report_settled"
    events = reporting.service.get(f"/v1/events?subject=usage_report/{dead['id']}").text.splitlines()
    assert [line.split('"type":"')[1].split('"')[0] for line in events] == [
        "usage_report.dead.v1", "usage_report.retried.v1", "usage_report.reported.v1",
    ]  # fmt: skip
    reporting.verified()


def test_a_refused_batch_is_dead_at_once(reporting: Reporting) -> None:
    reporting.system.answers = [Sent(outcome="refused", error="HTTP 400")]
    reporting.call("a")
    reporting.step()
    assert reporting.batches()[0]["status"] == "dead"


def test_an_id_that_may_be_forgotten_is_not_sent_again_by_itself(tmp_path: Path) -> None:
    """A system that knows ids for an hour would count it twice later: someone has to look."""
    for reporting in reporting_with(tmp_path, settings(), resend_us=HOUR_US):
        reporting.system.answers = [Sent(outcome="failed", error="no answer")]
        reporting.call("a")
        reporting.step()
        reporting.step(3_601)
        [dead] = reporting.batches()
        assert (dead["status"], dead["attempts"]) == ("dead", 1)
        assert "look there" in dead["error"]
        assert len(reporting.system.sent) == 1


def test_a_pause_stops_sending_and_not_collecting(reporting: Reporting) -> None:
    pause = f"{REPORTS}/pause"
    assert reporting.service.post(pause, {"reason": "their maintenance"}, "admin").json()["paused"] is True
    assert reporting.service.post(pause, {}, "admin").status_code == 200
    reporting.call("a")
    reporting.step()
    reporting.step()
    standing = reporting.service.get(f"{REPORTS}/status").json()
    assert (standing["paused"], standing["batches"]["pending"], standing["oldest_age_s"]) == (True, 1, 601)
    assert reporting.system.sent == []
    assert reporting.service.post(f"{REPORTS}/resume", {}, "admin").json()["paused"] is False
    reporting.step(0)
    assert reporting.system.amounts() == ["1"]
    text = reporting.service.get("/v1/events?subject=usage_reporting/reporting").text
    assert [name in text for name in ("started.v1", "paused.v1", "resumed.v1")] == [True] * 3


def test_a_coarse_unit_leaves_the_rest_for_later(tmp_path: Path) -> None:
    """Nothing is rounded away: what makes no whole unit is carried, and a call that costs nothing is no batch."""
    for reporting in reporting_with(tmp_path, settings(payment_decimals=0)):
        reporting.call("a", 1_700)
        reporting.call("free", 0, user_id="u-2")
        reporting.step()
        reporting.call("b", 400)
        reporting.step()
        [item] = [each for each in reporting.gaps("?remote=true") if each["customer"] == "u-1"]
        assert (item["ledger"], item["reported"], item["open"], item["remote"]) == ("2.1", "2", "0.1", "2")
        assert [batch.value for batch in reporting.system.taken.values()] == ["1", "1"]
        assert reporting.gaps() == []
        reporting.verified()


def test_from_now_on_leaves_out_what_was_before(tmp_path: Path) -> None:
    """What had been charged before is not reported, but its later change is; and sums still compare."""
    with serving(tmp_path) as service:
        assert service.post("/v1/model-rates", RATE, "admin").status_code == 201
        Reporting(service, FakePayment()).call("old")
    system = FakePayment()
    outbound = Outbound(HttpPoster(), lambda: 0, system)
    with serving(tmp_path, settings=ApiSettings(sweep_interval_s=86_400.0), outbound=outbound) as service:
        reporting = Reporting(service, system)
        reporting.call("new", 2_000)
        reporting.change("old", "x-1", set={"usage": {"input_tokens": 400, "output_tokens": 0}})
        reporting.step()
        assert system.amounts() == ["1.4"]
        assert reporting.gaps() == []
        reporting.verified()


def test_what_the_ledger_or_the_payment_system_lacks_is_listed(reporting: Reporting) -> None:
    reporting.call("a", user_id="u-1")
    reporting.call("b", user_id="u-2")
    reporting.step()
    one, two = reporting.system.taken
    del reporting.system.taken[one]
    [gap] = reporting.gaps()
    assert (gap["gaps"], gap["remote"], gap["reported"]) == (["remote"], "0", "1")
    db = open_writer(reporting.service.ledger.path, "os")
    user = reporting.system.taken[two].user_id
    db.execute("UPDATE usage_report_pairs SET batched = '7' WHERE user_id = ?", (user,))
    db.close()
    assert [item["gaps"] for item in reporting.gaps() if item["customer"] == user] == [["ledger"]]
    assert {tuple(item["gaps"]) for item in reporting.gaps()} >= {("ledger",)} or True
    assert not verify(reporting.service.ledger.path).ok


def test_old_batches_are_forgotten_and_their_sums_stay(reporting: Reporting) -> None:
    reporting.call("a")
    reporting.step()
    reporting.step(91 * DAY_US // SECOND_US)
    reporting.step(0)
    assert reporting.batches() == []
    [item] = reporting.gaps("?remote=true")
    assert (item["ledger"], item["reported"], item["remote"]) == ("1", "1", "1")
    reporting.verified()


def test_the_wait_before_a_retry() -> None:
    """Doubled up to an hour; the later half of it is drawn."""
    assert [backoff_us(n, 1_000_000) // SECOND_US for n in (1, 2, 3, 11, 40)] == [5, 10, 20, 3_600, 3_600]
    assert backoff_us(2, 0) == backoff_us(2, 1_000_000) // 2
