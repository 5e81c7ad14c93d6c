"""Following a vendor's own list of models: registered, flagged, unflagged, by itself when due."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from api import model_following
from api.services import services_of
from ledger.ledger import Ledger
from ops.credential_probe import ModelListProbe
from ops.verify import verify
from schema.errors import LimitReached
from schema.model_sync import PROVIDER_MODELS_MAX, SyncModels
from tests import credentials
from tests.catalogue import a_model, create_provider
from tests.credentials import SECRET
from tests.histories import HOUR_US, SECOND_US
from tests.serving import APP, NOW, NOW_US, Json, Service, at, captured_log, serving
from tests.vendor import Vendor, vendor

SYNC = "/v1/providers/openai/models/sync"
MODELS = "/v1/models"


@pytest.fixture
def scripted() -> Iterator[Vendor]:
    with vendor() as found:
        found.models = ["gpt-5", "o9"]
        yield found


@pytest.fixture
def service(tmp_path: Path, scripted: Vendor) -> Iterator[Service]:
    with serving(tmp_path, probe=ModelListProbe()) as service:
        set_up(service, scripted)
        yield service
    checked = verify(tmp_path / "ledger.db")
    assert checked.ok, checked.faults


def set_up(service: Service, scripted: Vendor, id_: str = "openai", **fields: object) -> None:
    made = {"id": id_, "name": id_, "base_url": scripted.url, **fields}
    assert service.post("/v1/providers", made, "admin").status_code == 201
    assert credentials.create(service, f"{id_}-key", id_).status_code == 201


def sync(service: Service, **fields: object) -> Json:
    service.clock.now_us += 60 * SECOND_US
    found = service.post(SYNC, fields, "admin")
    assert found.status_code == 200, found.text
    report: Json = found.json()
    return report


def counts(report: Json) -> tuple[int, ...]:
    return tuple(report[name] for name in ("created", "updated", "skipped", "missing"))


def models(service: Service, query: str = "") -> Json:
    return {each["model"]: each for each in service.get(f"{MODELS}{query}").json()["items"]}


def test_new_models_are_registered_once(service: Service, scripted: Vendor) -> None:
    """Inactive, with where they came from; the same list again, in any order, writes nothing."""
    found = sync(service)
    assert counts(found) == (2, 0, 0, 0)
    assert found["items"] == [
        {"id": "openai:gpt-5", "model": "gpt-5", "action": "created"},
        {"id": "openai:o9", "model": "o9", "action": "created"},
    ]
    shown = models(service, "?source=vendor")
    assert {name: (each["active"], each["missing_since"]) for name, each in shown.items()} == {
        "gpt-5": (False, None), "o9": (False, None),
    }  # fmt: skip
    position = service.position()
    scripted.models.reverse()
    again = sync(service)
    assert (counts(again), again["items"], service.position()) == ((0, 0, 2, 0), [], position)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(service: Service) -> None:
    position = service.position()
    dry = sync(service, dry_run=True)
    assert (counts(dry), service.position(), models(service)) == ((2, 0, 0, 0), position, {})
    assert sync(service) == dry


def test_what_vanishes_is_flagged_until_it_returns(service: Service, scripted: Vendor) -> None:
    """Nothing is deleted or turned off; a model made by hand that the vendor does not list is flagged too."""
    sync(service, activate=True)
    service.post(MODELS, a_model("own", model="own"), "admin")
    scripted.models = ["gpt-5"]
    found = sync(service)
    since = at(service.clock())
    assert counts(found) == (0, 0, 1, 2)
    assert [(each["model"], each["action"]) for each in found["items"]] == [("o9", "missing"), ("own", "missing")]
    flagged = models(service, "?missing=true")
    assert {name: (each["active"], each["missing_since"]) for name, each in flagged.items()} == {
        "o9": (True, since), "own": (True, since),
    }  # fmt: skip
    position = service.position()
    assert (counts(sync(service)), service.position()) == ((0, 0, 1, 2), position)
    scripted.models = ["gpt-5", "o9"]
    back = sync(service)
    assert (counts(back), back["items"][0]["action"]) == ((0, 1, 1, 1), "returned")
    assert set(models(service, "?missing=true")) == {"own"}
    assert set(models(service, "?missing=false")) == {"gpt-5", "o9"}
    history = service.get(f"{MODELS}/openai:o9/history").json()["items"]
    assert [(each["type"], each["changes"]) for each in history[1:]] == [
        ("model.changed.v1", [{"field": "missing_since", "before": None, "after": since}]),
        ("model.changed.v1", [{"field": "missing_since", "before": since, "after": None}]),
    ]


def test_events_carry_where_they_came_from(service: Service, scripted: Vendor) -> None:
    sync(service)
    scripted.models = ["gpt-5"]
    sync(service)
    created, changed, synced = (
        [
            each[0]
            for each in service.read(f"SELECT entry ->> 'data' FROM events WHERE type = '{type_}' ORDER BY position")
        ]
        for type_ in ("model.created.v1", "model.changed.v1", "model_list.synced.v1")
    )
    assert all('"source":"vendor"' in each for each in created)
    assert '"by":"vendor"' in changed[0]
    assert synced == [
        '{"provider":"openai","credential":"openai-key","listed":2,"created":2}',
        '{"provider":"openai","credential":"openai-key","listed":1,"skipped":1,"missing":1}',
    ]
    actors = service.read("SELECT DISTINCT entry ->> 'actor' FROM events WHERE type LIKE 'model%'")
    assert actors == [("key:admin",)]


def test_a_change_by_hand_keeps_the_flag(service: Service, scripted: Vendor) -> None:
    sync(service)
    scripted.models = []
    sync(service)
    path = f"{MODELS}/openai:o9"
    changed = service.request("PATCH", path, json={"active": True}, headers={"If-Match": "*"}).json()
    assert (changed["active"], changed["missing_since"], changed["source"]) == (True, at(service.clock()), "vendor")
    for field in ("missing_since", "source", "by"):
        refused = service.request("PATCH", path, json={field: NOW}, headers={"If-Match": "*"})
        assert refused.status_code == 400
        assert service.post(MODELS, a_model("x", **{field: NOW}), "admin").status_code == 400


def test_what_is_set_by_hand_is_not_touched(service: Service, scripted: Vendor) -> None:
    """A model that there is stays as it is, one that was deleted stays deleted, and ids that are taken are let be."""
    service.post(MODELS, a_model("mine", model="gpt-5"), "admin")
    service.post(MODELS, a_model("gone", model="o9"), "admin")
    service.request("DELETE", f"{MODELS}/gone", headers={"If-Match": "*"})
    service.post(MODELS, a_model("openai:new", model="another"), "admin")
    scripted.models = ["gpt-5", "o9", "new", "another", "org/with slash"]
    before = service.get(f"{MODELS}/mine").json()
    found = sync(service)
    assert counts(found) == (2, 0, 3, 0)
    assert service.get(f"{MODELS}/mine").json() == before
    made = [each["id"] for each in found["items"]]
    assert all(id_.startswith("openai:") and len(id_) == len("openai:") + 32 for id_ in made)
    assert counts(sync(service)) == (0, 0, 5, 0)


@pytest.mark.parametrize("case", [
    (None, None, False), ("inactive", None, False), ("active", None, True), ("active", False, False),
    (None, True, True),
])  # fmt: skip
def test_new_models_are_active_by_policy(service: Service, case: tuple[str | None, bool | None, bool]) -> None:
    """A request's own word goes before the provider's."""
    policy, asked, active = case
    change = {"model_sync": policy}
    done = service.request("PATCH", "/v1/providers/openai", json=change, headers={"If-Match": "*"})
    assert done.json()["model_sync"] == policy
    sync(service, activate=asked)
    assert {each["active"] for each in models(service).values()} == {active}


def test_a_list_that_is_not_whole_flags_nothing(service: Service, scripted: Vendor) -> None:
    sync(service)
    scripted.raw = b'{"data": [{"id": "new"}], "has_more": true}'
    found = sync(service)
    assert (counts(found), found["complete"]) == ((1, 0, 0, 0), False)
    assert models(service, "?missing=true") == {}


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_vendor_that_fails_changes_nothing(service: Service, scripted: Vendor, status: int) -> None:
    sync(service)
    position = service.position()
    scripted.statuses = {SECRET: status}
    found = service.post(SYNC, {}, "admin")
    assert (found.status_code, found.json()["code"], service.position()) == (502, "vendor_failed", position)
    assert str(status) in found.json()["detail"]
    assert SECRET not in found.text


def test_a_credential_is_chosen_or_named(service: Service, scripted: Vendor) -> None:
    """The first API key in use by priority; without one, none is asked. No quota is taken."""
    second = {"api_key": f"{SECRET}-2"}
    credentials.create(service, "second", secret=second, daily_limit=1)
    credentials.create(service, "pair", type="access_key_pair", secret={"access_key_id": "a", "secret_access_key": "b"})
    sync(service)
    sync(service, credential_id="second")
    assert scripted.asked == [SECRET, second["api_key"]]
    assert service.post(SYNC, {"credential_id": "pair"}, "admin").status_code == 502
    assert service.post(SYNC, {"credential_id": "none"}, "admin").status_code == 400
    for id_ in ("openai-key", "second"):
        credentials.change(service, id_, "?force=true", enabled=False)
    assert service.post(SYNC, {}, "admin").json()["code"] == "no_credential"
    assert service.read("SELECT count(*) FROM leases") == [(0,)]


def test_syncs_share_the_bound_of_tests(service: Service) -> None:
    service.clock.now_us += 60 * SECOND_US
    answers = [service.post(SYNC, {"dry_run": True}, "admin").status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]


def test_syncs_at_once_register_once(service: Service) -> None:
    def post(_: int) -> Json:
        found: Json = service.post(SYNC, {}, "admin").json()
        return found

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    assert sum(each["created"] for each in answers) == 2
    assert service.read("SELECT count(*) FROM events WHERE type = 'model_list.synced.v1'") == [(1,)]


def test_roles_and_providers(service: Service) -> None:
    assert [service.post(SYNC, {}, caller).status_code for caller in (APP, "auditor", "dashboard")] == [403] * 3
    assert service.post("/v1/providers/none/models/sync", {}, "admin").status_code == 404
    assert service.get("/v1/providers/none/models/sync").status_code == 404


def follow(service: Service) -> None:
    """What the service does every minute."""
    client: Any = service.client
    client.blocking_portal.call(model_following.follow, services_of(client.app))


def state(service: Service, id_: str = "openai") -> Json:
    found: Json = service.get(f"/v1/providers/{id_}/models/sync", "dashboard").json()
    return found


def test_what_asks_for_it_is_followed_when_due(tmp_path: Path, scripted: Vendor) -> None:
    """At once, then after its interval; the time is found again after a restart. Others are never asked."""
    with serving(tmp_path, probe=ModelListProbe()) as service:
        set_up(service, scripted)
        set_up(service, scripted, "auto", model_sync="active", sync_interval_s=7_200)
        assert (state(service)["next_due"], state(service, "auto")["next_due"]) == (None, NOW)
        for _ in range(2):
            follow(service)
        assert (len(scripted.asked), set(models(service, "?provider=auto&active=true"))) == (1, {"gpt-5", "o9"})
        assert models(service, "?provider=openai") == {}
        found = state(service, "auto")
        assert (found["next_due"], found["last_sync"]["created"]) == (at(NOW_US + 2 * HOUR_US), 2)
        assert service.read("SELECT DISTINCT entry ->> 'actor' FROM events WHERE type LIKE 'model%'") == [
            ("ledger:model_list",)
        ]
    with serving(tmp_path, probe=ModelListProbe()) as service:
        follow(service)
        assert len(scripted.asked) == 1
        service.clock.now_us += 2 * HOUR_US
        scripted.models = ["gpt-5"]
        follow(service)
        follow(service)
        assert (len(scripted.asked), set(models(service, "?missing=true"))) == (2, {"o9"})
        service.request("PATCH", "/v1/providers/auto", json={"enabled": False}, headers={"If-Match": "*"})
        service.clock.now_us += 2 * HOUR_US
        follow(service)
        assert (len(scripted.asked), state(service, "auto")["next_due"]) == (2, None)


def test_one_that_fails_is_tried_again_and_holds_up_no_other(tmp_path: Path, scripted: Vendor) -> None:
    """After an hour, as its interval is longer."""
    with captured_log("json") as logged, serving(tmp_path, probe=ModelListProbe()) as service:
        for id_ in ("a", "b"):
            set_up(service, scripted, id_, model_sync="inactive")
        credentials.change(service, "a-key", secret={"api_key": f"{SECRET}-bad"})
        scripted.statuses = {f"{SECRET}-bad": 500}
        follow(service)
        assert (set(models(service, "?provider=b")), models(service, "?provider=a")) == ({"gpt-5", "o9"}, {})
        assert state(service, "a")["next_due"] == at(NOW_US + HOUR_US)
        scripted.statuses = {}
        service.clock.now_us += HOUR_US
        follow(service)
        assert set(models(service, "?provider=a")) == {"gpt-5", "o9"}
        assert "models_not_synced" in logged()
        assert SECRET not in logged()


def command(provider: str, *names: str) -> SyncModels:
    return SyncModels(
        actor="test", received_at_us=NOW_US, provider=provider, credential="k", names=names, complete=True,
        activate=None,
    )  # fmt: skip


def test_a_provider_has_so_many_models_and_no_more(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, durability="os")
    ledger.open(NOW_US)
    try:
        names = [f"m{n:05}" for n in range(PROVIDER_MODELS_MAX + 1)]
        ledger.execute_now([create_provider("p")])
        first, second = ledger.execute_now([command("p", *names[:-1]), command("p", *names)])
        assert not isinstance(first, Exception)
        assert isinstance(second, LimitReached)
        [same] = ledger.execute_now([command("p", *names[:-1])])
        assert getattr(same, "events", None) == 0
    finally:
        ledger.close()


def test_the_tasks_of_a_service_without_a_probe_end() -> None:
    """It follows nobody, for ever, without looking."""

    class Unable:
        able = False

    class Services:
        vendors = Unable()

    services: Any = Services()
    asyncio.run(asyncio.wait_for(model_following.forever(services), 1))
