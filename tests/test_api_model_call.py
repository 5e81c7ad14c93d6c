"""Posting and reading calls over HTTP, by the contract."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from schema.model_call import SweepModelCalls
from schema.paging import encode_cursor
from schema.times import HOUR_US, SECOND_US
from tests.serving import APP, CALLS, NOW_US, OTHER_APP, QUIET, Json, Service, a_call, at, record, require, serving

NDJSON = "application/x-ndjson"
BODY_BYTES_MAX = 16 * 1024 * 1024


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def lines(items: Sequence[object]) -> bytes:
    return b"".join(item if isinstance(item, bytes) else msgspec.json.encode(item) + b"\n" for item in items)


def without_duplicate(receipt: Json) -> Json:
    return {name: value for name, value in receipt.items() if name != "duplicate"}


def paths(problem: Json) -> set[str]:
    return {error["path"] for error in problem.get("errors", [])}


# One call


def test_a_post_is_answered_with_its_receipt(service: Service) -> None:
    """The receipt has exactly the documented fields, and the price is null because there is none yet."""
    response = service.post(CALLS, a_call())
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "id": "c-1",
        "position": service.position(),
        "recorded_at": at(NOW_US),
        "duplicate": False,
        "cost": None,
        "cost_status": "unpriced",
        "cost_reason": "no_price",
    }


def test_the_same_again_gets_the_first_receipt(service: Service) -> None:
    """A repeat answers 200 with the first receipt, later too, and stores nothing."""
    first = service.post(CALLS, a_call()).json()
    position = service.position()
    service.clock.now_us += HOUR_US
    again = service.post(CALLS, a_call())
    assert again.status_code == 200
    assert again.json() == {**first, "duplicate": True}
    assert service.position() == position


def test_another_content_under_the_same_id_is_refused_naming_the_fields(service: Service) -> None:
    """409 `id_conflict` names every field that differs and no other, and changes nothing."""
    service.post(CALLS, a_call())
    position = service.position()
    other = a_call(model="gpt-4o-mini", usage={"input_tokens": 1, "output_tokens": 44}, metadata={"feature": "search"})
    response = service.post(CALLS, other)
    assert response.status_code == 409
    assert response.json()["code"] == "id_conflict"
    assert response.json()["retryable"] is False
    assert paths(response.json()) == {"$.model", "$.usage", "$.metadata"}
    assert service.position() == position


@pytest.mark.parametrize(
    "same",
    [
        {"account": None, "error": None, "metadata": None, "attempt": None, "app": APP},
        {"attempt": 1},
        {"started_at": "2026-11-22T11:00:00.1234569+01:00"},
        {"usage": {"output_tokens": 44, "input_tokens": 374, "images": 0, "seconds": "0", "estimated": False}},
        {"usage": {"input_tokens": 374, "output_tokens": 44, "seconds": "0.000", "cache_read_tokens": None}},
    ],
)
def test_absent_null_and_default_are_the_same_content(service: Service, same: Json) -> None:
    """What a client leaves out, sends as null or as its default, or spells otherwise, is the same call."""
    first = service.post(CALLS, a_call()).json()
    again = service.post(CALLS, a_call(**same))
    assert (again.status_code, again.json()) == (200, {**first, "duplicate": True})


def test_metadata_is_the_same_in_any_key_order_and_no_other_way(service: Service) -> None:
    """Key order is not content; numbers of another type are."""
    metadata: Json = {"a": 1, "b": {"x": [1, 2], "y": None}}
    service.post(CALLS, a_call(metadata=metadata))
    reordered = {"b": {"y": None, "x": [1, 2]}, "a": 1}
    assert service.post(CALLS, a_call(metadata=reordered)).status_code == 200
    for other in ({**metadata, "a": True}, {**metadata, "a": 1.0}, {**metadata, "b": {"x": [2, 1], "y": None}}):
        assert service.post(CALLS, a_call(metadata=other)).status_code == 409


@pytest.mark.parametrize("field", ["id", "provider", "model", "type", "status", "started_at"])
def test_each_required_field_is_required(service: Service, field: str) -> None:
    """A call without one is refused, and the message names it."""
    call = a_call()
    del call[field]
    response = service.post(CALLS, call)
    assert response.status_code == 400
    assert field in response.json()["detail"]


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("input_token", a_call(usage={"input_token": 5})),
        ("durationms", a_call(durationms=5)),
        ("massage", a_call(status="failed", error={"code": "x", "massage": "y"})),
        ("cost", a_call(cost="1.0")),
        ("replaces", a_call(replaces={"id": "c-0"})),
    ],
)
def test_an_unknown_field_is_refused(service: Service, place: str, call: Json) -> None:
    """A mistyped token count must not vanish: the field is named and nothing is stored."""
    position = service.position()
    response = service.post(CALLS, call)
    assert response.status_code == 400
    assert place in response.json()["detail"]
    assert service.position() == position


@pytest.mark.parametrize(
    ("path", "code", "fields"),
    [
        ("$.usage.input_tokens", "out_of_range", {"usage": {"input_tokens": -1}}),
        ("$.usage.input_tokens", "out_of_range", {"usage": {"input_tokens": 10**12 + 1}}),
        ("$.usage.input_tokens", "out_of_range", {"usage": {"input_tokens": 2**200}}),
        ("$.usage.input_tokens", "invalid_input", {"usage": {"input_tokens": "374"}}),
        ("$.usage.input_tokens", "invalid_input", {"usage": {"input_tokens": True}}),
        ("$.usage.seconds", "invalid_input", {"usage": {"seconds": 1.5}}),
        ("$.usage.seconds", "invalid_input", {"usage": {"seconds": "1e3"}}),
        ("$.usage.input_tokens", "inconsistent_usage", {"usage": {"input_tokens": 5, "cache_read_tokens": 6}}),
        ("$.usage.output_tokens", "inconsistent_usage", {"usage": {"output_tokens": 5, "reasoning_tokens": 6}}),
        ("$.started_at", "invalid_input", {"started_at": "2026-11-22T10:00:00"}),
        ("$.started_at", "invalid_input", {"started_at": "2026-02-30T10:00:00Z"}),
        ("$.started_at", "out_of_range", {"started_at": "2026-11-23T12:00:00.000001Z"}),
        ("$.started_at", "out_of_range", {"started_at": "1969-12-31T23:59:59Z"}),
        ("$.status", "invalid_input", {"status": "processing"}),
        ("$.type", "invalid_input", {"type": "chat"}),
        ("$.id", "invalid_input", {"id": "a/b"}),
        ("$.id", "invalid_input", {"id": "a\n"}),
        ("$.model", "out_of_range", {"model": ""}),
        ("$.model", "invalid_input", {"model": "a\u0000b"}),
        ("$.metadata", "out_of_range", {"metadata": {"a": "x" * 16_384}}),
        ("$.error.message", "out_of_range", {"error": {"code": "x", "message": "m" * 1_001}}),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_path(service: Service, path: str, code: str, fields: Json) -> None:
    """Each bound has its code and names the place."""
    response = service.post(CALLS, a_call(**fields))
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert paths(response.json()) == {path}


def test_values_at_their_bounds_are_taken(service: Service) -> None:
    """The greatest of everything lands and reads back as it was sent."""
    usage = {"input_tokens": 10**12, "output_tokens": 10**12, "cache_read_tokens": 10**12, "seconds": "999999.999999"}
    call = a_call("x" * 128, model="m" * 200, usage=usage, duration_ms=10**12, started_at="2026-11-23T12:00:00Z")
    assert service.post(CALLS, call).status_code == 201
    shown = service.get(f"{CALLS}/{'x' * 128}", APP).json()
    assert {name: shown["usage"][name] for name in usage} == usage
    assert (shown["model"], shown["duration_ms"], shown["started_at"]) == (
        "m" * 200,
        10**12,
        "2026-11-23T12:00:00.000000Z",
    )


def test_an_entry_over_65535_bytes_is_refused(service: Service) -> None:
    """`entry_too_large` for data that alone would fill an entry; its neighbour in a batch lands."""
    for big in (a_call("big", metadata={"m": "x" * 65_536}), a_call("big", usage={"native": {"n": ["x"] * 20_000}})):
        response = service.post(CALLS, big)
        assert (response.status_code, response.json()["code"]) == (413, "entry_too_large")
        result = service.post(CALLS, [big, a_call("small")]).json()
        assert [item["status"] for item in result["items"]] in (["rejected", "accepted"], ["rejected", "duplicate"])
        assert result["items"][0]["problem"]["code"] == "entry_too_large"


def test_an_entry_that_its_parts_make_too_large_is_refused(service: Service) -> None:
    """An end that corrects a time-out holds that too: each part is within its bounds, the whole is not."""
    large = {"m": "x" * 16_300}
    service.post(f"{CALLS}/big/start", start_of(metadata=large, **dict.fromkeys(WIDE, "\U0001f600" * 200)))
    service.clock.now_us += QUIET.call_timeout_us
    position = service.position()
    end = {
        "metadata": large,
        "usage": {"native": large},
        "error": {"code": "\u0001" * 200, "message": "\u0001" * 1_000},
    }
    response = service.post(f"{CALLS}/big/fail", end)
    assert (response.status_code, response.json()["code"]) == (413, "entry_too_large")
    assert service.position() == position
    assert service.post(f"{CALLS}/big/fail", {"error": {"code": "small"}}).status_code == 201


WIDE = ("provider", "model", "user_id", "account", "credential_id", "request_id", "trace_id")


# Apps and roles


def test_the_app_comes_from_the_key(service: Service) -> None:
    """An app's key posts for its app, whether it says so or not, and for no other."""
    service.post(CALLS, a_call("silent"))
    service.post(CALLS, a_call("said", app=APP))
    assert [item["app"] for item in service.get(CALLS).json()["items"]] == [APP, APP]
    response = service.post(CALLS, a_call("spoofed", app=OTHER_APP))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert service.get(f"{CALLS}/spoofed?app={OTHER_APP}").status_code == 404


def test_a_spoofed_item_of_a_batch_is_rejected_alone(service: Service) -> None:
    """One item that names another app takes nothing with it."""
    result = service.post(CALLS, [a_call("a"), a_call("b", app=OTHER_APP), a_call("c", app=APP)]).json()
    assert [item["status"] for item in result["items"]] == ["accepted", "rejected", "accepted"]
    assert result["items"][1]["problem"]["status"] == 403


def test_an_admin_names_the_app(service: Service) -> None:
    """Without one an admin's call is refused; with one it is that app's."""
    response = service.post(CALLS, a_call(), "admin")
    assert response.status_code == 400
    assert paths(response.json()) == {"$.app"}
    assert service.post(CALLS, a_call(app=OTHER_APP), "admin").status_code == 201
    assert service.get(f"{CALLS}/c-1", OTHER_APP).json()["app"] == OTHER_APP


def test_an_app_reads_its_own_calls_only(service: Service) -> None:
    """Lists, single calls and trails of another app are closed to it."""
    service.post(CALLS, a_call("mine"))
    service.post(CALLS, a_call("theirs"), OTHER_APP)
    assert [item["id"] for item in service.get(CALLS, APP).json()["items"]] == ["mine"]
    for path in (f"{CALLS}/theirs", f"{CALLS}/theirs/events"):
        assert service.get(path, APP).status_code == 404
        assert service.get(f"{path}?app={OTHER_APP}", APP).status_code == 403
    assert service.get(f"{CALLS}?app={OTHER_APP}", APP).status_code == 403
    assert service.get(f"/v1/model-call-stats?app={OTHER_APP}", APP).status_code == 403
    assert service.get("/v1/model-call-stats", APP).json()["totals"]["calls"] == 1


def test_two_apps_may_use_one_id(service: Service) -> None:
    """They never meet; who reads across apps says which one is meant."""
    service.post(CALLS, a_call("same", model="one"))
    service.post(CALLS, a_call("same", model="two"), OTHER_APP)
    assert service.get(f"{CALLS}/same", APP).json()["model"] == "one"
    assert service.get(f"{CALLS}/same?app={OTHER_APP}").json()["model"] == "two"
    ambiguous = service.get(f"{CALLS}/same", "dashboard")
    assert ambiguous.status_code == 400
    assert "app" in ambiguous.json()["detail"]
    service.post(CALLS, a_call("only"))
    assert service.get(f"{CALLS}/only").json()["app"] == APP


# Batches


def mixed() -> list[object]:
    """Good, duplicate within the batch, duplicate of a stored one, conflicting, malformed in several ways."""
    return [
        a_call("new-1"),
        a_call("old"),
        a_call("new-1"),
        a_call("old", model="other"),
        a_call("bad-1", status="unknown"),
        {"provider": "openai"},
        a_call("bad-2", mistyped=1),
        7,
        a_call("new-2"),
        a_call("bad-3", usage={"input_tokens": 1, "cache_read_tokens": 2}),
    ]


FATES = ["accepted", "duplicate", "duplicate", "conflict", *["rejected"] * 4, "accepted", "rejected"]
IDS = ["new-1", "old", "new-1", "old", "bad-1", None, "bad-2", None, "new-2", "bad-3"]


@pytest.mark.parametrize("content_type", ["application/json", NDJSON])
def test_each_item_of_a_batch_has_its_own_fate(service: Service, content_type: str) -> None:
    """Exactly the good ones land, whatever their neighbours do, and each answer stands at its index."""
    service.post(CALLS, a_call("old"))
    before = service.position()
    body = lines(mixed()) if content_type == NDJSON else msgspec.json.encode(mixed())
    response = service.send(body, content_type=content_type)
    result = response.json()
    assert response.status_code == 207
    assert (result["accepted"], result["duplicate"], result["rejected"]) == (2, 2, 6)
    assert [item["index"] for item in result["items"]] == list(range(10))
    assert [item["status"] for item in result["items"]] == FATES
    assert [item["id"] for item in result["items"]] == IDS
    positions = [item["position"] for item in result["items"]]
    assert positions == [before + 1, before, before + 1, None, None, None, None, None, before + 2, None]
    codes = [item["problem"] and item["problem"]["code"] for item in result["items"]]
    bad = "invalid_input"
    assert codes == [None, None, None, "id_conflict", bad, bad, bad, bad, None, "inconsistent_usage"]
    assert service.read("SELECT id FROM events WHERE position >= ?", (before,)) == [("old",), ("new-1",), ("new-2",)]


def test_items_failures_leaves_out_what_was_accepted(service: Service) -> None:
    """The counts are of all items; the list has those that were not accepted, with their indexes."""
    service.post(CALLS, a_call("old"))
    result = service.post(f"{CALLS}?items=failures", mixed()).json()
    assert (result["accepted"], result["duplicate"], result["rejected"]) == (2, 2, 6)
    assert [item["index"] for item in result["items"]] == [1, 2, 3, 4, 5, 6, 7, 9]
    assert service.post(f"{CALLS}?items=all", mixed()).json()["items"][0]["status"] == "duplicate"
    assert service.post(f"{CALLS}?items=some", mixed()).status_code == 400


@pytest.mark.parametrize("body", [b"[{},", b'[{"id": "a"', b"[1 2]", b"[] []", b'[{"id": "a",}]', b"[{}\n{}]"])
def test_a_syntax_error_in_an_array_is_the_whole_bodys(service: Service, body: bytes) -> None:
    """400 and nothing is stored, although a good item came before the error."""
    position = service.position()
    response = service.send(body.replace(b"{}", msgspec.json.encode(a_call())))
    assert (response.status_code, response.json()["code"]) == (400, "malformed_json")
    assert service.position() == position


def test_a_syntax_error_in_ndjson_is_its_lines_alone(service: Service) -> None:
    """Lines before and after it land; blank lines and CRLF are nobody's fault."""
    body = lines([a_call("a"), b"\n", b'{"id": "b", \n', b"\xff\xfe\n", b"[1]\n", b"  \r\n", a_call("c")])
    result = service.send(body.replace(b"}\n", b"}\r\n"), content_type=NDJSON).json()
    assert [(item["index"], item["status"]) for item in result["items"]] == [
        (0, "accepted"), (1, "rejected"), (2, "rejected"), (3, "rejected"), (4, "accepted"),
    ]  # fmt: skip
    assert result["items"][1]["problem"]["code"] == "malformed_json"
    assert service.get(f"{CALLS}/c", APP).status_code == 200


def test_the_last_line_of_ndjson_needs_no_newline(service: Service) -> None:
    """A body cut off in its last line loses only that line."""
    whole = lines([a_call("a"), a_call("b")])
    assert service.send(whole[:-1], content_type=NDJSON).json()["accepted"] == 2
    cut = lines([a_call("c"), a_call("d")])[:-20]
    result = service.send(cut, content_type=NDJSON).json()
    assert (result["accepted"], result["rejected"]) == (1, 1)


@pytest.mark.parametrize(("body", "content_type"), [(b"[]", "application/json"), (b"", NDJSON), (b"\n \n", NDJSON)])
def test_an_empty_batch_is_a_batch(service: Service, body: bytes, content_type: str) -> None:
    """207 with no items, and nothing is stored."""
    position = service.position()
    response = service.send(body, content_type=content_type)
    assert (response.status_code, response.json()) == (207, {"accepted": 0, "duplicate": 0, "rejected": 0, "items": []})
    assert service.position() == position


def test_ten_thousand_items_are_taken_and_one_more_is_not(service: Service) -> None:
    """The bound holds at max and max + 1, for both forms, and a refused batch stores nothing."""
    calls = [a_call(f"n-{n}", app=APP) for n in range(10_001)]
    position = service.position()
    for body, content_type in ((msgspec.json.encode(calls), "application/json"), (lines(calls), NDJSON)):
        response = service.send(body, content_type=content_type)
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert service.position() == position
    result = service.send(msgspec.json.encode(calls[:-1])).json()
    assert (result["accepted"], result["rejected"]) == (10_000, 0)
    assert [item["position"] for item in result["items"]] == list(range(position + 1, position + 10_001))
    again = service.send(lines(calls[:-1]), content_type=NDJSON).json()
    assert again["duplicate"] == 10_000
    assert service.position() == position + 10_000


@pytest.mark.parametrize("item", [b"0", b"{}", b'""', b"[]"])
@pytest.mark.parametrize("content_type", ["application/json", NDJSON])
def test_a_body_of_millions_of_tiny_items_is_refused_cheaply(service: Service, item: bytes, content_type: str) -> None:
    """Counting stops at the bound: 16 MiB of items costs neither their memory nor their time."""
    separator = b"\n" if content_type == NDJSON else b","
    items = separator.join([item] * (BODY_BYTES_MAX // 4))
    body = items if content_type == NDJSON else b"[" + items + b"]"
    response = service.send(body, content_type=content_type)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_a_body_may_have_16_mib_and_no_more(service: Service) -> None:
    """Exactly 16 MiB is read, one byte more is not."""
    call = msgspec.json.encode(a_call())
    padded = call + b" " * (BODY_BYTES_MAX - len(call))
    assert service.send(padded).status_code == 201
    over = service.send(padded + b" ")
    assert (over.status_code, over.json()["code"]) == (413, "body_too_large")
    assert service.send(padded + b" " * 1024 * 1024, content_type=NDJSON).status_code == 413


def test_a_batch_tells_nothing_of_items_that_another_request_owns(service: Service) -> None:
    """Two batches of the same calls at once: each call is accepted by one and a duplicate in the other."""
    calls = [a_call(f"p-{n}") for n in range(2_500)]

    def post(part: list[Json]) -> Json:
        return service.post(CALLS, part).json()

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(post, (calls, calls[::-1])))
    assert [result["rejected"] for result in results] == [0, 0]
    assert sum(result["accepted"] for result in results) == 2_500
    assert service.read("SELECT count(*) FROM events WHERE type = 'model_call.recorded.v2'") == [(2_500,)]


def test_fifty_posts_of_one_id_at_once_are_one_event(service: Service) -> None:
    """Every caller gets the same receipt; exactly one is told that its post was the first."""
    gate = threading.Barrier(50)

    def post(_: int) -> tuple[int, Json]:
        gate.wait()
        response = service.post(CALLS, a_call())
        return response.status_code, response.json()

    position = service.position()
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(post, range(50)))
    assert sorted(status for status, _ in answers) == [*[200] * 49, 201]
    assert sorted(receipt["duplicate"] for _, receipt in answers) == [False, *[True] * 49]
    assert all(without_duplicate(receipt) == without_duplicate(answers[0][1]) for _, receipt in answers)
    assert service.position() == position + 1


# Long calls


def start_of(**fields: object) -> Json:
    names = ("provider", "model", "type", "started_at", "user_id")
    return {**{name: value for name, value in a_call().items() if name in names}, **fields}


def test_a_started_call_is_processing_until_it_completes(service: Service) -> None:
    """Statistics count it when it has finished, and the trail has both events."""
    started = service.post(f"{CALLS}/long/start", start_of())
    assert (started.status_code, started.json()["duplicate"]) == (201, False)
    assert service.get(f"{CALLS}/long", APP).json()["status"] == "processing"
    assert service.get("/v1/model-call-stats").json()["totals"]["calls"] == 0
    ended = service.post(f"{CALLS}/long/complete", {"usage": {"input_tokens": 3, "output_tokens": 4}, "duration_ms": 9})
    assert ended.status_code == 201
    shown = service.get(f"{CALLS}/long", APP).json()
    assert (shown["status"], shown["model"], shown["duration_ms"]) == ("success", "gpt-4o", 9)
    assert shown["position"] == ended.json()["position"]
    totals = service.get("/v1/model-call-stats").json()["totals"]
    assert (totals["calls"], totals["succeeded"], totals["input_tokens"]) == (1, 1, 3)
    types = [entry["type"] for entry in service.get(f"{CALLS}/long/events", APP).json()["items"]]
    assert types == ["model_call.started.v1", "model_call.completed.v2"]


def test_starts_and_ends_are_idempotent(service: Service) -> None:
    """Same content: 200 and the first receipt. Other content: 409 that tells which."""
    first = service.post(f"{CALLS}/long/start", start_of())
    service.clock.now_us += SECOND_US
    again = service.post(f"{CALLS}/long/start", start_of(id="long"))
    assert (again.status_code, again.json()) == (200, {**first.json(), "duplicate": True})
    other = service.post(f"{CALLS}/long/start", start_of(model="other"))
    assert (other.status_code, other.json()["code"], paths(other.json())) == (409, "id_conflict", {"$.model"})
    ended = service.post(f"{CALLS}/long/fail", {"error": {"code": "timeout"}})
    service.clock.now_us += SECOND_US
    again = service.post(f"{CALLS}/long/fail", {"error": {"code": "timeout"}, "status": "failed"})
    assert (again.status_code, again.json()) == (200, {**ended.json(), "duplicate": True})
    for verb, content in (
        ("fail", {"error": {"code": "other"}}),
        ("complete", {}),
        ("complete", {"error": {"code": "timeout"}}),
    ):
        refused = service.post(f"{CALLS}/long/{verb}", content)
        assert (refused.status_code, refused.json()["code"]) == (409, "already_finished")


def test_a_call_that_was_never_started_cannot_end(service: Service) -> None:
    """404 for an unknown one and for another app's; 409 for one that was posted finished."""
    service.post(f"{CALLS}/theirs/start", start_of(), OTHER_APP)
    service.post(CALLS, a_call("whole"))
    assert service.post(f"{CALLS}/none/complete", {}).status_code == 404
    assert service.post(f"{CALLS}/theirs/complete", {}).status_code == 404
    assert service.post(f"{CALLS}/whole/complete", {}).json()["code"] == "already_finished"
    assert service.post(f"{CALLS}/whole/start", start_of()).json()["code"] == "id_conflict"
    assert service.post(CALLS, a_call("theirs"), OTHER_APP).json()["code"] == "id_conflict"


def test_the_path_names_the_call(service: Service) -> None:
    """A body that names another id or another status is refused, and so is an id that cannot be one."""
    assert service.post(f"{CALLS}/a/start", start_of(id="b")).status_code == 400
    assert service.post(f"{CALLS}/a%20b/start", start_of()).status_code == 400
    assert service.post(f"{CALLS}/{'a' * 129}/start", start_of()).status_code == 400
    service.post(f"{CALLS}/a/start", start_of())
    assert service.post(f"{CALLS}/a/complete", {"status": "failed"}).status_code == 400
    assert service.post(f"{CALLS}/a/complete", {"started_at": "2026-11-22T10:00:01Z"}).status_code == 400
    assert service.post(f"{CALLS}/a/complete", {"started_at": "2026-11-22T11:00:00.123456+01:00"}).status_code == 201


def test_a_call_that_does_not_end_is_timed_out_and_its_late_end_corrects_that(service: Service) -> None:
    """It counts as failed from its time-out until its completion comes, and then once, as what it was."""
    service.post(f"{CALLS}/late/start", start_of())
    service.clock.now_us += QUIET.call_timeout_us
    require(service.ledger.execute_now([SweepModelCalls(service.clock(), 100)]))
    assert service.get(f"{CALLS}/late", APP).json()["status"] == "timed_out"
    totals = service.get("/v1/model-call-stats").json()["totals"]
    assert (totals["calls"], totals["succeeded"], totals["failed"]) == (1, 0, 1)
    assert service.post(f"{CALLS}/late/complete", {"usage": {"input_tokens": 7}}).status_code == 201
    assert service.get(f"{CALLS}/late", APP).json()["status"] == "success"
    totals = service.get("/v1/model-call-stats").json()["totals"]
    assert (totals["calls"], totals["succeeded"], totals["failed"], totals["input_tokens"]) == (1, 1, 0, 7)
    types = [entry["type"] for entry in service.get(f"{CALLS}/late/events", APP).json()["items"]]
    assert types == ["model_call.started.v1", "model_call.timed_out.v1", "model_call.completed.v2"]


def test_an_end_after_the_time_is_over_settles_the_time_out_first(service: Service) -> None:
    """Whether a sweep came by makes no difference to the history."""
    service.post(f"{CALLS}/late/start", start_of())
    service.clock.now_us += QUIET.call_timeout_us
    service.post(f"{CALLS}/late/fail", {})
    types = [entry["type"] for entry in service.get(f"{CALLS}/late/events", APP).json()["items"]]
    assert types == ["model_call.started.v1", "model_call.timed_out.v1", "model_call.failed.v2"]
    assert service.get("/v1/model-call-stats").json()["totals"]["failed"] == 1


# Reading


def test_a_call_reads_back_as_it_was_posted(service: Service) -> None:
    """Every posted field under its name, zeros included, times in UTC."""
    call = a_call(
        usage={"input_tokens": 5, "output_tokens": 4, "cache_read_tokens": 3, "cache_write_tokens": 2,
               "reasoning_tokens": 1, "images": 6, "seconds": "7.5", "estimated": True, "native": {"prompt": 1}},
        account="acc", credential_id="cred", request_id="req", trace_id="trace", attempt=2, provider_ttfb_ms=11,
        status="failed", error={"code": "rate_limited", "message": "slow down"}, metadata={"feature": "search"},
    )  # fmt: skip
    position = service.post(CALLS, call).json()["position"]
    shown = service.get(f"{CALLS}/c-1", APP).json()
    assert {name: shown[name] for name in call} == call
    assert {name: shown[name] for name in shown if name not in call} == {
        "app": APP, "position": position, "recorded_at": at(NOW_US), "cost": None, "vendor_cost": None,
        "cost_status": "unpriced", "cost_reason": "no_price", "rate_position": None, "price_context": None,
        "revision": 0, "voided": False,
    }  # fmt: skip


def test_the_trail_of_a_call_is_its_stored_entries(service: Service) -> None:
    """One event, of the documented type and subject, its data the posted fields under the posted names."""
    service.post(CALLS, a_call())
    [entry] = service.get(f"{CALLS}/c-1/events", APP).json()["items"]
    assert (entry["type"], entry["subject"]) == ("model_call.recorded.v2", f"model_call/{APP}/c-1")
    rating = {"status": "unpriced", "reason": "no_price"}
    assert entry["data"] == {**a_call(), "app": APP, "rating": rating}
    assert msgspec.json.decode(service.read("SELECT entry FROM events ORDER BY position DESC LIMIT 1")[0][0]) == entry


def test_an_unknown_call_is_not_found(service: Service) -> None:
    """404 whoever asks, also for text that can be no id."""
    for caller in ("admin", APP, "dashboard"):
        assert service.get(f"{CALLS}/none", caller).status_code == 404
        assert service.get(f"{CALLS}/%00%F0%9F%98%80%27%22", caller).status_code == 404
    assert service.get(f"{CALLS}/none/events").status_code == 404


FILTERED: list[tuple[str, object, str]] = [
    ("user_id", "u-2", "user_id=u-2"),
    ("provider", "anthropic", "provider=anthropic"),
    ("model", "claude", "model=claude"),
    ("type", "embedding", "type=embedding"),
    ("status", "failed", "status=failed"),
    ("credential_id", "cred", "credential_id=cred"),
    ("request_id", "req", "request_id=req"),
    ("trace_id", "trace", "trace_id=trace"),
    ("duration_ms", 5_000, "min_duration_ms=5000"),
    ("started_at", "2026-11-22T11:00:00Z", "from=2026-11-22T11:00:00Z"),
    ("started_at", "2026-11-22T08:59:59.999999Z", "to=2026-11-22T09:00:00Z"),
    ("error", {"code": "boom", "message": "Der Ärger ist GROSS"}, "q=%C3%84rger+ist+gross"),
    ("request_id", "Req-77", "q=rEQ-7"),
]


@pytest.mark.parametrize(("field", "value", "query"), FILTERED)
def test_each_filter_selects_its_calls(service: Service, field: str, value: object, query: str) -> None:
    """The one that matches, newest first, and none else; together with others they narrow further."""
    others = [a_call(f"other-{n}") for n in range(3)]
    service.post(CALLS, [others[0], a_call("wanted", **{field: value}), *others[1:]])
    assert [item["id"] for item in service.get(f"{CALLS}?{query}").json()["items"]] == ["wanted"]
    assert service.get(f"{CALLS}?{query}&app={OTHER_APP}").json() == {"items": [], "next_cursor": None}


def test_the_app_filter_selects_the_app(service: Service) -> None:
    """An admin or dashboard narrows to one app."""
    service.post(CALLS, a_call("mine"))
    service.post(CALLS, a_call("theirs"), OTHER_APP)
    assert [item["id"] for item in service.get(f"{CALLS}?app={OTHER_APP}", "dashboard").json()["items"]] == ["theirs"]
    assert service.get(f"{CALLS}?status=processing").json()["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        "modle=gpt-4o", "model=", "model=a&model=b", "status=ok", "type=chat", "limit=0", "limit=-1", "limit=ten",
        "from=yesterday", "from=2026-11-22T10:00:00", "to=9999-12-31T23:59:59-23:59", "min_duration_ms=-1", "cursor=!!",
        "cursor=abcd", "q=", "status=null", "app=a/b", "model=%ff", "limit=1.5", "min_duration_ms=1.5",
    ],
)  # fmt: skip
def test_a_query_that_is_not_understood_is_refused(service: Service, query: str) -> None:
    """A mistyped filter must not select everything: 400 that names the parameter."""
    response = service.get(f"{CALLS}?{query}")
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert response.json()["code"] in {"invalid_input", "out_of_range"}


def test_forged_cursors_are_refused(service: Service) -> None:
    """A cursor is opaque: what does not come from a page is 400, whatever it holds."""
    service.post(CALLS, a_call())
    for forged in (encode_cursor(2**70, 1), encode_cursor("a", "b"), encode_cursor(1), encode_cursor(-(2**70), 2**63)):
        assert service.get(f"{CALLS}?cursor={forged}").status_code == 400


def test_pages_are_stable_under_inserts(service: Service) -> None:
    """Walking by cursor sees every call that was there, once, newest first, whatever lands meanwhile."""
    started = [f"2026-11-22T10:{n % 7:02}:00Z" for n in range(40)]
    service.post(CALLS, [a_call(f"n-{n}", started_at=time) for n, time in enumerate(started)])
    seen: list[tuple[str, int]] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = service.get(f"{CALLS}?limit=7" + (f"&cursor={cursor}" if cursor else "")).json()
        seen += [(item["started_at"], item["position"]) for item in page["items"] if item["id"].startswith("n-")]
        cursor, pages = page["next_cursor"], pages + 1
        late = [a_call(f"late-{pages}-{n}", started_at=time) for n, time in enumerate(started[:7])]
        newest = a_call(f"new-{pages}", started_at="2026-11-22T11:00:00Z")
        service.post(CALLS, [*late, newest])
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen)) == 40


def test_a_limit_over_a_thousand_means_a_thousand(service: Service) -> None:
    """Also when it is absurd; the rest follows by cursor, and the default is a hundred."""
    record(service.ledger, [a_call(f"n-{n}", app=APP) for n in range(1_001)])
    for limit in ("1000", "1001", str(10**9), str(10**30)):
        page = service.get(f"{CALLS}?limit={limit}").json()
        assert len(page["items"]) == 1_000
    rest = service.get(f"{CALLS}?cursor={page['next_cursor']}").json()
    assert (len(rest["items"]), rest["next_cursor"]) == (1, None)
    assert len(service.get(CALLS).json()["items"]) == 100


def test_a_filter_without_an_index_pages_through_what_it_scans(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may be short and still have a cursor; following it finds everything."""
    monkeypatch.setattr("projections.model_call_list.SCAN_ROWS_MAX", 10)
    calls = [a_call(f"n-{n}", app=APP, trace_id="wanted" if n % 25 == 0 else None) for n in range(100)]
    record(service.ledger, calls)
    found: list[str] = []
    cursor, pages = "", 0
    while cursor is not None:
        page = service.get(f"{CALLS}?trace_id=wanted" + (f"&cursor={cursor}" if cursor else "")).json()
        found += [item["id"] for item in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert found == ["n-75", "n-50", "n-25", "n-0"]
    assert pages >= 10


def test_an_unknown_parameter_of_a_single_post_is_refused(service: Service) -> None:
    """A mistyped parameter must not vanish, whatever the form of the body."""
    assert service.post(f"{CALLS}?items=zzz", a_call("c-1")).status_code == 400
    assert service.position() == service.read("SELECT max(position) FROM events")[0][0]
    assert service.request("GET", f"{CALLS}/c-1", APP).status_code == 404
