"""The registry of event types: stable names, stepwise upcasting, and every version ever written still decodes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from schema import event
from schema.entry import encode
from schema.errors import UnknownEventType
from schema.event import Payload, decode, event_types, type_of, upcast
from schema.model_call import ModelCallCompleted, ModelCallRecorded
from schema.times import format_time

GOLDEN = Path(__file__).parent / "golden" / "events.ndjson"
LINES = GOLDEN.read_text(encoding="utf-8").splitlines()
# What was shipped once: a name may be added here, none may go.
SHIPPED = {
    "key.created.v1", "key.revoked.v1", "model_call.completed.v1", "model_call.failed.v1", "model_call.recorded.v1",
    "model_call.started.v1", "model_call.timed_out.v1", "model_call.recorded.v2", "model_call.completed.v2",
    "model_call.failed.v2", "model_call.corrected.v1", "model_call.voided.v1", "model_call.rerated.v1",
    "model.changed.v1", "model.created.v1", "model.deleted.v1",
    "model_rate.deprecated.v1", "model_rate.set.v1", "rerate.advanced.v1", "rerate.reverting.v1", "rerate.started.v1",
    "provider.changed.v1", "provider.created.v1", "provider.deleted.v1",
    "model_list.synced.v1", "price_list.synced.v1", "sign_in_link.used.v1",
    "credential.changed.v1", "credential.created.v1", "credential.deleted.v1", "credential.disabled.v1",
    "credential.erased.v1", "credential.penalised.v1", "credential.quota_exhausted.v1", "credential.quota_near.v1",
    "credential.reset.v1", "credential.restored.v1",
    "account.changed.v1", "account.collected.v1", "account.created.v1", "account.credit_declined.v1",
    "account.credited.v1", "grant.expired.v1", "hold.declined.v1", "hold.expired.v1", "hold.placed.v1",
    "hold.released.v1", "hold.settled.v1",
    "account.balance_low.v1", "account.balance_recovered.v1", "budget.changed.v1", "budget.created.v1",
    "budget.crossed.v1", "budget.retired.v1", "model_call.declined.v1",
    "conversion.changed.v1", "conversion.created.v1", "coupon.changed.v1", "coupon.created.v1", "coupon.deleted.v1",
    "coupon.redeemed.v1", "order.cancelled.v1", "order.expired.v1", "order.paid.v1", "order.placed.v1",
    "order.refund_declined.v1", "order.refunded.v1", "package.changed.v1", "package.created.v1", "package.deleted.v1",
    "payment.received.v1", "payment.resolved.v1", "payment_client.changed.v1", "payment_client.created.v1",
    "payment_client.deleted.v1",
    "usage_report.dead.v1", "usage_report.reported.v1", "usage_report.retried.v1", "usage_reporting.paused.v1",
    "usage_reporting.resumed.v1", "usage_reporting.started.v1",
    "webhook.changed.v1", "webhook.created.v1", "webhook.dead_lettered.v1", "webhook.deleted.v1",
    "webhook.recovered.v1", "webhook.replayed.v1", "webhook.retried.v1",
}  # fmt: skip


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A registry that a test may change."""
    event.load_all()
    for name in ("_structs", "_types", "_upcasters"):
        monkeypatch.setattr(event, name, dict(getattr(event, name)))
    event._decoder.cache_clear()
    yield
    event._decoder.cache_clear()


def line_of(type_: str, data: Payload) -> str:
    envelope = json.loads(LINES[0])
    return json.dumps({**envelope, "type": type_, "data": data})


def test_the_golden_set_has_every_type() -> None:
    """Each registered type has a sample that a former version wrote; what was shipped is still registered."""
    assert {json.loads(line)["type"] for line in LINES} == set(event_types())
    assert set(event_types()) >= SHIPPED


@pytest.mark.parametrize("line", LINES, ids=lambda line: json.loads(line)["sequence"])
def test_every_sample_decodes(line: str) -> None:
    """A stored entry decodes to what it says, and the newest versions encode to the very same bytes."""
    raw = json.loads(line)
    found = decode(int(raw["sequence"]), raw["type"], line)
    assert (found.id, found.source, found.subject, found.actor) == (
        raw["id"],
        raw["source"],
        raw["subject"],
        raw["actor"],
    )
    assert (format_time(found.time_us), format_time(found.recorded_at_us)) == (raw["time"], raw["recordedtime"])
    if type_of(found.data) == raw["type"]:
        assert encode(found, raw["time"], raw["recordedtime"]) == line.encode()


def test_samples_keep_their_meaning() -> None:
    """The fields of the first samples are what they were when they were written."""
    whole = decode(1, "model_call.recorded.v1", LINES[0]).data
    assert isinstance(whole, ModelCallRecorded)
    assert whole.usage is not None
    assert (whole.attempt, whole.usage.cache_read_tokens, whole.usage.seconds) == (2, 2000, "12.5")
    assert whole.metadata == {"feature": "search", "é": [1, 1.0, True, None, 2**70]}
    minimal = decode(2, "model_call.recorded.v1", LINES[1]).data
    assert isinstance(minimal, ModelCallRecorded)
    assert (minimal.attempt, minimal.usage, minimal.error, minimal.user_id) == (1, None, None, None)
    late = next(line for line in LINES if '"late/complete"' in line)
    completed = decode(1, "model_call.completed.v1", late).data
    assert isinstance(completed, ModelCallCompleted)
    assert completed.replaces is not None
    assert (completed.model, completed.replaces.call.model) == ("gpt-4o-mini", "gpt-4o")


@pytest.mark.parametrize("type_", ["model_call.recorded.v3", "model_call.imagined.v1", "", "schema.key.KeyCreated"])
def test_an_unknown_type_raises(type_: str) -> None:
    """A type that is not registered is never guessed at; the error says where it is."""
    with pytest.raises(UnknownEventType, match=r"position 41 .*" + type_):
        decode(41, type_, LINES[0])


def test_a_type_is_declared_once(registry: None) -> None:
    """Two declarations of one version, or two steps from one, are a mistake that shows at import."""
    event.event("probe", 1)(type("First", (Struct,), {}))
    with pytest.raises(ValueError, match=r"probe\.v1 is declared twice"):
        event.event("probe", 1)(type("Second", (Struct,), {}))
    upcast("probe", 1)(dict)
    with pytest.raises(ValueError, match=r"upcaster from probe\.v1"):
        upcast("probe", 1)(dict)


def test_old_versions_are_upcast_step_by_step(registry: None) -> None:
    """A payload goes through each version's step in order, on the raw object, whichever version it starts from."""

    @event.event("probe", 3)
    class Probe(Struct):
        text: str
        steps: list[int]

    def from_1(payload: Payload) -> Payload:
        return {"text": payload["txt"], "steps": [1]}

    def from_2(payload: Payload) -> Payload:
        steps = payload["steps"]
        assert isinstance(steps, list)
        return {**payload, "steps": [*steps, 2]}  # type: ignore[list-item]

    upcast("probe", 1)(from_1)
    upcast("probe", 2)(from_2)
    assert decode(1, "probe.v1", line_of("probe.v1", {"txt": "a"})).data == Probe("a", [1, 2])
    assert decode(1, "probe.v2", line_of("probe.v2", {"text": "b", "steps": [9]})).data == Probe("b", [9, 2])
    assert decode(1, "probe.v3", line_of("probe.v3", {"text": "c", "steps": []})).data == Probe("c", [])
    assert {"probe.v1", "probe.v2", "probe.v3"} <= set(event_types())
    assert type_of(Probe("d", [])) == "probe.v3"


def test_an_upcast_event_keeps_its_own_type(registry: None) -> None:
    """Only the data is brought up to date: the event goes on to say the type that was stored."""
    event.event("probe", 2)(type("Probe", (Struct,), {}))
    upcast("probe", 1)(lambda _: {})
    assert decode(1, "probe.v1", line_of("probe.v1", {})).type == "probe.v1"


def test_type_names_are_ours() -> None:
    """A type is `noun.verb.vN` in small letters, never a Python path."""
    for type_ in event_types():
        noun, verb, version = type_.split(".")
        assert noun.replace("_", "").isalpha()
        assert verb.replace("_", "").isalpha()
        assert version[0] == "v"
        assert version[1:].isdigit()
        assert type_ == type_.lower()
