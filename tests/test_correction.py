"""Corrections and voids over HTTP: what may be changed, what it does to every read, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from ledger import reads, rebuild
from ledger.database import open_writer
from ledger.ledger import LEDGER_FILE
from ops.verify import verify
from projections import model_call_stat
from projections.engine import Engine, registry
from projections.model_call_list import NEWEST, list_calls
from schema.correction import Basis
from schema.model_call import SweepModelCalls
from schema.model_call_query import CallFilter, StatQuery
from schema.times import parse_time
from tests.changes import a_rate
from tests.serving import APP, CALLS, OTHER_APP, Json, Service, a_call, reading, serving

STATS = "/v1/model-call-stats"
WHOLE = "2026-11-22T09:30:00.000000Z"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Whatever a test does, the file verifies afterwards."""
    with serving(tmp_path) as service:
        yield service
    report = verify(tmp_path / LEDGER_FILE)
    assert report.ok, report.faults


def correct(
    service: Service,
    change: str = "fix-1",
    id_: str = "c-1",
    caller: str = APP,
    **fields: Any,  # noqa: ANN401 - whatever may be set
) -> httpx.Response:
    """Correct a call by these fields."""
    return posted(service, {"id": change, "reason": "wrong", "set": fields}, id_, caller)


def posted(service: Service, body: Json, id_: str = "c-1", caller: str = APP) -> httpx.Response:
    return service.post(f"{CALLS}/{id_}/corrections", body, caller)


def void(service: Service, change: str = "void-1", id_: str = "c-1") -> httpx.Response:
    return posted(service, {"id": change, "reason": "a test", "void": True}, id_)


def one(service: Service, id_: str = "c-1") -> Json:
    found: Json = service.get(f"{CALLS}/{id_}", APP).json()
    return found


def total(service: Service, query: str = "") -> Json:
    found: Json = service.get(f"{STATS}?{query}").json()["totals"]
    return found


def listed(service: Service, query: str = "") -> list[Json]:
    found: list[Json] = service.get(f"{CALLS}?{query}").json()["items"]
    return found


SET: Json = {
    "provider": "anthropic", "model": "claude", "type": "embedding", "status": "failed", "started_at": WHOLE,
    "duration_ms": 7, "ttfb_ms": 3, "user_id": "u-2", "account": "acc", "credential_id": "cred", "request_id": "r",
    "trace_id": "t", "attempt": 3, "provider_ttfb_ms": 2, "error": {"code": "e", "message": "m"},
    "price_context": {"service_tier": "flex"}, "metadata": {"a": [1, None]},
}  # fmt: skip
OPTIONAL = (
    "duration_ms", "ttfb_ms", "usage", "user_id", "account", "credential_id", "request_id", "trace_id",
    "provider_ttfb_ms", "error", "price_context", "metadata",
)  # fmt: skip


@pytest.mark.parametrize("name", SET)
def test_each_field_can_be_set_and_nothing_else_changes(service: Service, name: str) -> None:
    service.post(CALLS, a_call())
    before = one(service)
    assert correct(service, **{name: SET[name]}).status_code == 201
    after = one(service)
    changed = {field for field in before if before[field] != after[field]}
    assert changed == {name, "revision", "position"}
    assert (after[name], after["revision"], listed(service)) == (SET[name], 1, [after])
    assert [each[name] for each in listed(service, "basis=billed")] == [before[name]]


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_takes_an_optional_field_away(service: Service, name: str) -> None:
    whole: Json = {field: SET[field] for field in OPTIONAL if field in SET}
    service.post(CALLS, a_call(**whole))
    assert one(service)[name] is not None
    taken_away: Json = {name: None}
    assert correct(service, **taken_away).status_code == 201
    assert one(service)[name] is None


@pytest.mark.parametrize("name", ["provider", "model", "type", "status", "started_at", "attempt"])
def test_what_a_call_must_have_cannot_be_taken_away(service: Service, name: str) -> None:
    service.post(CALLS, a_call())
    taken_away: Json = {name: None}
    response = correct(service, **taken_away)
    assert (response.status_code, response.json()["errors"][0]["path"]) == (400, f"$.set.{name}")


def test_usage_is_priced_anew_and_sums_move(service: Service) -> None:
    service.ledger.execute_now([a_rate("r-1")])
    service.post(CALLS, a_call())
    first = service.post(CALLS, a_call()).json()
    receipt = correct(service, usage={"input_tokens": 10, "output_tokens": 1}).json()
    assert (receipt["cost"], receipt["cost_status"], receipt["duplicate"]) == ("0.011", "priced", False)
    assert (total(service)["cost"], total(service)["input_tokens"], total(service)["calls"]) == ("0.011", 10, 1)
    assert (total(service, "basis=billed")["cost"], total(service, "basis=billed")["input_tokens"]) == ("0.418", 374)
    assert service.post(CALLS, a_call()).json() == first


def test_a_moved_start_moves_hour_and_day(service: Service) -> None:
    service.post(CALLS, a_call())
    correct(service, started_at="2026-11-21T23:59:59.999999Z")
    for granularity, letters in (("hour", 13), ("day", 10)):
        for basis, start in (("corrected", "2026-11-21T23:59"), ("billed", "2026-11-22T10:00")):
            buckets = service.get(f"{STATS}?granularity={granularity}&basis={basis}").json()["buckets"]
            assert [each["start"][:letters] for each in buckets] == [start[:letters]]
    assert [each["id"] for each in listed(service, "to=2026-11-22T00:00:00Z")] == ["c-1"]
    assert listed(service, "from=2026-11-22T00:00:00Z") == []


@pytest.mark.parametrize("name", ["user_id", "provider", "model", "type", "status", "credential_id"])
def test_a_moved_dimension_moves_its_cell(service: Service, name: str) -> None:
    service.post(CALLS, [a_call(), a_call("c-2")])
    before = one(service)[name]
    correct(service, **{name: SET[name]})
    for basis, of in (("corrected", [before, SET[name]]), ("billed", [before, before])):
        found = service.get(f"{STATS}?group_by={name}&basis={basis}").json()["buckets"]
        assert {(each["group"][name], each["calls"]) for each in found} == {(v, of.count(v)) for v in of}
    assert total(service, f"{name}={SET[name]}")["calls"] == len(listed(service, f"{name}={SET[name]}")) == 1


def test_what_moves_from_user_to_user_is_folded_though_it_cancels(tmp_path: Path) -> None:
    """Without users the sums of a fold may come to nothing; by user they do not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_call_stat, "TAIL_EVENTS", 1)
        with serving(tmp_path) as service:
            service.post(CALLS, a_call(user_id="u-1"))
            before = total(service, "user_id=u-1")
            correct(service, user_id="u-2")
            assert total(service, "user_id=u-2") == before
            assert total(service, "user_id=u-1")["input_tokens"] == 0


def test_a_void_takes_the_call_out_of_every_sum(service: Service) -> None:
    service.post(CALLS, a_call())
    receipt = void(service).json()
    assert (receipt["voided"], receipt["cost"], receipt["cost_reason"]) == (True, "0", "voided")
    assert (total(service)["calls"], listed(service), one(service)["voided"]) == (0, [], True)
    assert total(service, "basis=billed")["calls"] == len(listed(service, "basis=billed")) == 1
    assert service.get(f"{STATS}?granularity=hour").json()["buckets"] == []
    again = void(service)
    assert (again.status_code, again.json()) == (200, {**receipt, "duplicate": True})
    assert correct(service, user_id="x").json()["code"] == void(service, "void-2").json()["code"] == "call_voided"


def test_corrections_follow_each_other_and_the_trail_has_them_all(service: Service) -> None:
    service.post(CALLS, a_call())
    correct(service, "fix-1", user_id="u-8", duration_ms=1)
    correct(service, "fix-2", user_id="u-9")
    void(service)
    assert (one(service)["user_id"], one(service)["duration_ms"], one(service)["revision"]) == ("u-9", 1, 3)
    trail = service.get(f"{CALLS}/c-1/events", APP).text
    assert [f"c-1/correct/{each}" in trail for each in ("fix-1", "fix-2", "void-1")] == [True] * 3
    with reading(service.ledger) as db:
        events = reads.model_call_events(db, APP, "c-1")
    assert [event.type.split(".")[1] for event in events] == ["recorded", "corrected", "corrected", "voided"]
    replaced: list[Any] = [event.data for event in events[1:]]
    assert [data.replaces.position for data in replaced] == [event.position for event in events[:3]]


def test_a_correction_is_made_once(service: Service) -> None:
    service.post(CALLS, a_call())
    first = correct(service, user_id="u-2")
    again = correct(service, user_id="u-2")
    assert (again.status_code, again.json()) == (200, {**first.json(), "duplicate": True})
    others: tuple[Json, ...] = ({"user_id": "u-3"}, {"user_id": "u-2", "attempt": 2}, {"attempt": 2})
    for body in others:
        response = correct(service, **body)
        assert (response.status_code, response.json()["code"]) == (409, "id_conflict")
    assert posted(service, {"id": "fix-1", "reason": "other", "set": {"user_id": "u-2"}}).status_code == 409
    assert posted(service, {"id": "fix-1", "reason": "wrong", "void": True}).status_code == 409


def test_who_may_correct(service: Service) -> None:
    service.post(CALLS, a_call())
    assert correct(service, id_="none", attempt=2).status_code == 404
    assert correct(service, caller=OTHER_APP, attempt=2).status_code == 404
    assert posted(service, {"id": "x", "app": APP, "reason": "r", "void": True}, caller=OTHER_APP).status_code == 403
    assert correct(service, caller="admin", attempt=2).json()["errors"][0]["path"] == "$.app"
    assert posted(service, {"id": "x", "app": APP, "reason": "r", "void": True}, caller="admin").status_code == 201


def test_what_has_not_ended_is_refused_and_a_late_end_can_be_corrected(service: Service) -> None:
    begun = {n: v for n, v in a_call().items() if n in {"provider", "model", "type", "started_at"}}
    service.post(f"{CALLS}/c-1/start", begun)
    assert (correct(service, attempt=2).status_code, void(service).json()["code"]) == (409, "not_finished")
    service.clock.now_us += 10**12
    service.ledger.execute_now([SweepModelCalls(service.clock(), 10)])
    assert correct(service, attempt=2).json()["code"] == "not_finished"
    assert service.post(f"{CALLS}/c-1/complete", {"duration_ms": 5}).status_code == 201
    assert correct(service, duration_ms=6).status_code == 201
    assert (total(service)["duration_ms_sum"], total(service, "basis=billed")["duration_ms_sum"]) == (6, 5)
    assert service.post(f"{CALLS}/c-1/complete", {"duration_ms": 5}).status_code == 200


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$.set"),
        ({"void": True, "set": {}}, "$.set"),
        ({"set": {"app": "x"}}, "$.set"),
        ({"set": {"id": "x"}}, "$.set"),
        ({"set": {"usage": {"input_tokens": -1}}}, "$.set.usage.input_tokens"),
        ({"set": {"usage": {"input_tokens": 10**12 + 1}}}, "$.set.usage.input_tokens"),
        ({"set": {"usage": {"input_tokens": 1, "cache_read_tokens": 2}}}, "$.set.usage.input_tokens"),
        ({"set": {"usage": {"units": {"x": 1}}}}, "$.set.usage.units.x"),
        ({"set": {"duration_ms": 10**12 + 1}}, "$.set.duration_ms"),
        ({"set": {"started_at": "2026-11-24T12:00:00Z"}}, "$.set.started_at"),
        ({"set": {"started_at": "yesterday"}}, "$.set.started_at"),
        ({"set": {"user_id": "a\nb"}}, "$.set.user_id"),
        ({"set": {"status": "processing"}}, "$.set.status"),
        ({"set": {"metadata": {"x": "y" * 16_384}}}, "$.set.metadata"),
        ({"reason": "", "void": True}, "$.reason"),
        ({"reason": "two\nlines", "void": True}, "$.reason"),
        ({"set": {}}, "$.set"),
        ({"id": "a/b", "void": True}, "$.id"),
    ],
)
def test_a_bad_correction_names_its_path(service: Service, body: Json, path: str) -> None:
    service.post(CALLS, a_call())
    response = posted(service, {"id": "fix-1", "reason": "r", **body})
    assert response.status_code == 400
    assert [each["path"] for each in response.json()["errors"]] == [path]
    assert one(service)["revision"] == 0


def test_an_entry_that_would_be_too_large_is_refused(service: Service) -> None:
    """A correction holds the call and what it sets; both within their bounds may be too much together."""
    service.post(CALLS, a_call())
    usage = {"native": {"x": "y" * 16_300}}
    response = correct(service, usage=usage, metadata={"x": "y" * 16_300})
    assert (response.status_code, response.json()["code"]) == (413, "entry_too_large")
    assert void(service).status_code == 201


def plan(db: apsw.Connection, run: Callable[[], object], table: str = "model_call") -> list[str]:
    """The plan of every statement about calls, or something else, that is run."""
    found: list[tuple[str, Any]] = []

    def note(_: apsw.Cursor, sql: str, bindings: Any) -> bool:  # noqa: ANN401 - whatever was bound
        found.append((sql, bindings or ()))
        return True

    db.exec_trace = note
    run()
    db.exec_trace = None
    about = [(sql, bound) for sql, bound in found if table in sql]
    return [str(row[3]) for sql, bound in about for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", bound)]


@pytest.mark.parametrize("basis", ["corrected", "billed"])
def test_reads_use_indexes(service: Service, basis: Basis) -> None:
    """No list and no cut edge of statistics looks at all calls or sorts them."""
    service.post(CALLS, a_call("c-0", started_at=WHOLE))
    service.post(CALLS, a_call())
    correct(service, user_id="u-2")
    bounds = CallFilter(basis=basis, from_us=parse_time(WHOLE) + 1, to_us=2 * 10**15)
    with reading(service.ledger) as db:
        lists = plan(db, lambda: list_calls(db, bounds, NEWEST, 10))
        sums = plan(db, lambda: reads.model_call_stats(db, StatQuery(filter=bounds)))
    for steps in (lists, sums):
        assert not [step for step in steps if step.startswith("SCAN model_call") or step == "SCAN s"], steps
        seeks = [step for step in steps if "(started_at_us>" in step]
        assert any("model_calls_started_at" in step for step in seeks), steps
        assert any("model_call_versions_started_at" in step for step in seeks) == (basis == "billed"), steps
    assert not [step for step in lists if step == "USE TEMP B-TREE FOR ORDER BY"], lists


def test_statistics_rebuilt_alone_have_calls_that_were_changed_later(tmp_path: Path) -> None:
    """A page of calls that came whole is added up as they came, though their rows have moved on since."""
    with serving(tmp_path) as service, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "STEP_EVENTS_MAX", 1)
        for n in range(3):
            service.post(CALLS, a_call(f"c-{n}"))
        assert correct(service, usage={"input_tokens": 10, "output_tokens": 1}).status_code == 201
        before = service.read("SELECT * FROM model_call_stats")
        db = open_writer(service.ledger.path)
        rebuild.rebuild(db, Engine(db), registry()["model_call_stats"])
        db.close()
        assert service.read("SELECT * FROM model_call_stats") == before
