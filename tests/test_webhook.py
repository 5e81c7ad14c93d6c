"""Webhooks: told in order and at least once, put off, given up, told again, and kept apart from each other."""

import asyncio
import base64
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from api.outbound import Outbound
from api.services import services_of
from api.settings import ApiSettings
from ledger.webhook_reads import PAGE_EVENTS
from ops.poster import HttpPoster
from ops.verify import verify
from schema.times import DAY_US, SECOND_US
from tests.payment import SECRET
from tests.receiver import Receiver, receiving
from tests.serving import CALLS, Json, Service, a_call, captured_log, serving

HOOKS = "/v1/webhooks"
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(100, 140))).decode()
SETTINGS = ApiSettings(sweep_interval_s=86_400.0, webhook_attempts_max=3, send_timeout_s=2.0)


class Telling:
    """A service whose webhooks a test tells step by step."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def add(self, id_: str, receiver: Receiver, *events: str) -> Json:
        hook = {"id": id_, "url": receiver.url, "events": list(events) or ["model_call.*"], "secret": SECRET}
        receiver.secrets = [SECRET]
        answer = self.service.post(HOOKS, hook, "admin")
        assert answer.status_code == 201, answer.text
        return hook

    def calls(self, *ids: str) -> None:
        for id_ in ids:
            assert self.service.post(CALLS, a_call(id_)).status_code == 201

    def look(self, seconds: float = 0) -> None:
        """Later, look once and wait until all is told."""
        self.service.clock.now_us += round(seconds * SECOND_US)
        client: Any = self.service.client
        deliverer = services_of(client.app).deliverer
        assert deliverer is not None

        async def looked() -> None:
            await deliverer.look()
            await asyncio.gather(*deliverer._under_way.values())

        client.blocking_portal.call(looked)

    def read(self, id_: str) -> Json:
        found: Json = self.service.get(f"{HOOKS}/{id_}", "auditor").json()
        return found

    def delivery(self, id_: str) -> Json:
        found: Json = self.read(id_)["delivery"]
        return found

    def patch(self, id_: str, **fields: object) -> Json:
        answer = self.service.request("PATCH", f"{HOOKS}/{id_}", json=fields, headers={"If-Match": "*"})
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def dead(self, id_: str) -> list[Json]:
        found: list[Json] = self.service.get(f"{HOOKS}/{id_}/dead-letters").json()["items"]
        return found


@pytest.fixture
def telling(tmp_path: Path) -> Generator[Telling]:
    with serving(tmp_path, settings=SETTINGS, outbound=Outbound(HttpPoster(timeout_s=2), lambda: 0)) as service:
        yield Telling(service)
        report = verify(service.ledger.path, keyring=service.ledger.keyring)
        assert report.ok, report.faults


@pytest.fixture
def receiver() -> Generator[Receiver]:
    with receiving() as found:
        yield found
        assert found.wrong == []


def test_a_webhook_is_told_of_what_it_asked_for(telling: Telling, receiver: Receiver) -> None:
    """The stored entry, byte for byte, under the event's own position; of what came before it nothing."""
    telling.calls("before")
    telling.add("hook", receiver, "model_call.recorded", "webhook.changed")
    telling.calls("a", "b")
    telling.patch("hook", description="ours")
    telling.look()
    assert receiver.types() == ["model_call.recorded.v2", "model_call.recorded.v2", "webhook.changed.v1"]
    assert [event["data"]["id"] for event in receiver.events] == ["a", "b", "hook"]
    assert [event["sequence"] for event in receiver.events] == [str(each) for each in receiver.positions]
    assert "secret" not in receiver.events[-1]["data"]
    delivery = telling.delivery("hook")
    assert (delivery["position"], delivery["behind"], delivery["delivered"]) == (telling.service.position(), 0, 3)
    telling.look()
    assert receiver.attempts == 3


def test_a_failing_event_is_put_off_and_then_given_up(telling: Telling, receiver: Receiver) -> None:
    """Nothing overtakes it while it is tried; given up it is listed, the journal hears of it, and the next comes."""
    telling.add("hook", receiver, "model_call.*", "webhook.dead_lettered", "webhook.recovered")
    telling.calls("a", "b")
    first = telling.service.position() - 1
    receiver.failing = {first}
    telling.look()
    assert (telling.delivery("hook")["attempts"], receiver.attempts) == (1, 1)
    telling.look(1)
    assert receiver.attempts == 1
    telling.look(5)
    assert (receiver.attempts, receiver.events) == (2, [])
    telling.look(11)
    [dead] = telling.dead("hook")
    assert (dead["position"], dead["attempts"], dead["error"]) == (first, 3, "HTTP 500")
    telling.look()
    telling.look()
    assert receiver.types() == ["model_call.recorded.v2", "webhook.dead_lettered.v1", "webhook.recovered.v1"]
    assert telling.delivery("hook")["failing"] is False
    retry = f"{HOOKS}/hook/dead-letters/{first}/retry"
    assert telling.service.post(retry, None, "admin").json()["retrying"] is True
    telling.look()
    assert telling.dead("hook")[0]["retrying"] is False
    receiver.failing = set()
    telling.service.post(retry, None, "admin")
    telling.look()
    assert telling.dead("hook") == []
    assert receiver.events[-1]["data"]["id"] == "a"
    assert telling.service.post(retry, None, "admin").status_code == 404


def test_a_failing_webhook_holds_up_no_other(telling: Telling, receiver: Receiver) -> None:
    with receiving() as broken:
        broken.chance = 1.0
        telling.add("broken", broken)
        telling.add("hook", receiver)
        telling.calls("a", "b")
        telling.look()
        assert len(receiver.events) == 2
        assert telling.delivery("broken")["attempts"] == 1


def test_a_secret_changes_with_an_overlap(telling: Telling, receiver: Receiver) -> None:
    """For a day both sign; then the new one alone does. The same secret again changes nothing."""
    telling.add("hook", receiver)
    position = telling.read("hook")["position"]
    assert telling.patch("hook", secret=SECRET)["position"] == position
    changed = telling.patch("hook", secret=OTHER_SECRET)
    assert changed["position"] > position
    assert changed["previous_until"] is not None
    receiver.secrets = [SECRET, OTHER_SECRET]
    telling.calls("a")
    telling.look()
    assert receiver.wrong == []
    telling.look(DAY_US // SECOND_US)
    receiver.secrets = [OTHER_SECRET]
    telling.calls("b")
    telling.look()
    assert receiver.wrong == []
    receiver.secrets = [SECRET]
    telling.calls("c")
    telling.look()
    assert len(receiver.wrong) == 1
    receiver.wrong.clear()


def test_a_replay_tells_the_same_events_under_the_same_ids(telling: Telling, receiver: Receiver) -> None:
    telling.calls("before")
    telling.add("hook", receiver)
    telling.calls("a", "b")
    telling.look()
    answer = telling.service.post(f"{HOOKS}/hook/replay", {"after": 0, "reason": "lost"}, "admin")
    assert answer.json()["delivery"]["position"] == 0
    telling.look()
    assert [event["data"]["id"] for event in receiver.events] == ["a", "b", "before"]
    assert receiver.duplicates == 2
    beyond = {"after": telling.service.position() + 1}
    assert telling.service.post(f"{HOOKS}/hook/replay", beyond, "admin").status_code == 400
    assert telling.service.post(f"{HOOKS}/none/replay", {"after": 0}, "admin").status_code == 404


def test_disabled_it_waits_and_misses_nothing(telling: Telling, receiver: Receiver) -> None:
    telling.add("hook", receiver)
    telling.patch("hook", enabled=False)
    telling.calls("a")
    telling.look()
    assert receiver.events == []
    telling.patch("hook", enabled=True)
    telling.look()
    assert len(receiver.events) == 1


def test_a_change_holds_for_what_is_left_of_a_backlog(telling: Telling, receiver: Receiver) -> None:
    """Another address is told of the rest, once each; disabled, it is told nothing more."""
    telling.add("hook", receiver)
    telling.calls(*(f"c-{n}" for n in range(3 * PAGE_EVENTS)))
    with receiving() as other:
        other.secrets = [SECRET]
        receiver.at[10] = lambda: telling.patch("hook", url=other.url)
        other.at[10] = lambda: telling.patch("hook", enabled=False)
        telling.look()
        assert (len(receiver.events), len(other.events)) == (PAGE_EVENTS, 0)
        telling.look()
        assert (len(receiver.events), len(other.events)) == (PAGE_EVENTS, PAGE_EVENTS)
        telling.look()
        assert len(other.events) == PAGE_EVENTS
        telling.patch("hook", enabled=True)
        telling.look()
        assert (receiver.duplicates, other.duplicates) == (0, 0)
        assert len({*receiver.ids, *other.ids}) == len(receiver.ids) + len(other.ids) == 3 * PAGE_EVENTS


def test_dead_letters_are_told_again_by_what_a_webhook_is_now(telling: Telling, receiver: Receiver) -> None:
    telling.add("hook", receiver)
    telling.calls("a", "b", "c")
    receiver.chance = 1.0
    for _ in range(40):
        telling.look(3_600)
    dead = [each["position"] for each in telling.dead("hook")]
    assert len(dead) == 3
    receiver.chance = 0.0
    for position in dead:
        telling.service.post(f"{HOOKS}/hook/dead-letters/{position}/retry", {}, "admin")
    receiver.ids, receiver.events, receiver.duplicates = [], [], 0
    receiver.at[1] = lambda: telling.patch("hook", enabled=False)
    telling.look()
    telling.look()
    assert (len(receiver.events), len(telling.dead("hook"))) == (1, 2)
    telling.patch("hook", enabled=True)
    telling.look()
    assert (len(receiver.events), telling.dead("hook"), receiver.duplicates) == (3, [], 0)


def test_a_webhook_is_created_once_and_its_secret_is_nowhere(tmp_path: Path, receiver: Receiver) -> None:
    """Not in an answer, not in the log, not in the file; deleted, its data key goes too."""
    outbound = Outbound(HttpPoster(timeout_s=2), lambda: 0)
    with captured_log("json") as log, serving(tmp_path, settings=SETTINGS, outbound=outbound) as service:
        telling = Telling(service)
        hook = telling.add("hook", receiver)
        again = service.post(HOOKS, hook, "admin")
        assert (again.status_code, again.json()["duplicate"]) == (200, True)
        other = service.post(HOOKS, {**hook, "secret": OTHER_SECRET}, "admin")
        assert (other.status_code, other.json()["code"]) == (409, "id_conflict")
        telling.calls("a")
        telling.look()
        texts = [again.text, other.text, service.get(f"{HOOKS}/hook").text, service.get(f"{HOOKS}/hook/history").text]
        texts += [service.get(HOOKS).text, service.get("/v1/events").text, service.get("/metrics").text, log()]
        assert [text for text in texts if SECRET[8:] in text] == []
        deleted = service.request("DELETE", f"{HOOKS}/hook", headers={"If-Match": "*"})
        assert deleted.json()["deleted"] is True
        assert service.read("SELECT count(*) FROM data_keys") == [(0,)]
        telling.calls("b")
        telling.look()
        assert len(receiver.events) == 1
        assert service.post(HOOKS, hook, "admin").status_code == 409
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert SECRET[6:].encode() not in content


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "ftp://x.example/"), ("url", "https://user:pass@x.example/"), ("events", []), ("events", ["Call"]),
        ("events", ["credential.disable"]), ("events", ["*", "calls.*"]),
        ("secret", "whsec_"), ("secret", SECRET[6:]), ("secret", "whsec_" + "A" * 20), ("id", "a b"),
    ],
)  # fmt: skip
def test_what_is_no_webhook_is_refused(telling: Telling, receiver: Receiver, field: str, value: object) -> None:
    hook = {"id": "h", "url": receiver.url, "events": ["*"], "secret": SECRET, field: value}
    answer = telling.service.post(HOOKS, hook, "admin")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"].startswith(f"$.{field}")
    assert SECRET[8:] not in answer.text
