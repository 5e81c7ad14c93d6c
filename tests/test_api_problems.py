"""What goes wrong over HTTP: a problem document every time, and nothing changes."""

import gzip
import itertools
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NoReturn

import httpx
import msgspec
import pytest

from api.problems import STATUSES, problem, respond, status_of
from ledger.database import open_writer
from ledger.queue import CommandQueue
from schema import errors
from schema.errors import LedgerError
from tests.serving import APP, CALLS, Service, a_call, bearer, captured_log, key_text, serving

NDJSON = "application/x-ndjson"
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code", "retryable"}
SEED = 20261122
CANARY = "canary-7f3a91"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """For what must change nothing."""
    with serving(tmp_path_factory.mktemp("problems")) as service:
        yield service


def assert_problem(response: httpx.Response, status: int, code: str | None = None) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert set(document) >= PROBLEM_FIELDS
    assert set(document) <= {*PROBLEM_FIELDS, "hint", "errors"}
    assert document["status"] == status
    assert code is None or document["code"] == code
    assert document["type"].endswith(document["code"])
    assert all(isinstance(document[name], str) and document[name] for name in ("type", "title", "detail", "code"))
    assert all(set(error) == {"path", "message"} for error in document.get("errors", []))
    assert document["retryable"] is ("retry-after" in response.headers)


Request = Callable[[Service], httpx.Response]

REFUSED: dict[str, tuple[Request, int, str]] = {
    "not JSON": (lambda s: s.send(b"{"), 400, "malformed_json"),
    "no body": (lambda s: s.send(b""), 400, "malformed_json"),
    "two values": (lambda s: s.send(msgspec.json.encode(a_call()) * 2), 400, "malformed_json"),
    "a string": (lambda s: s.send(b'"x"'), 400, "invalid_input"),
    "null": (lambda s: s.send(b"null"), 400, "invalid_input"),
    "missing fields": (lambda s: s.post(CALLS, {}), 400, "invalid_input"),
    "bad query": (lambda s: s.get(f"{CALLS}?no_such=1"), 400, "invalid_input"),
    "bad percent": (lambda s: s.get(f"{CALLS}?model=%80"), 400, "invalid_input"),
    "many parameters": (lambda s: s.get(f"{CALLS}?" + "&".join(f"p{n}=1" for n in range(60))), 400, "invalid_input"),
    "no key": (lambda s: s.request("GET", CALLS, None), 401, "unauthenticated"),
    "unknown key": (lambda s: s.request("GET", CALLS, "stranger"), 401, "unauthenticated"),
    "other role": (lambda s: s.get("/v1/events", APP), 403, "forbidden"),
    "unknown route": (lambda s: s.get("/v1/nothing"), 404, "not_found"),
    "unknown root": (lambda s: s.get("/%ff%00"), 404, "not_found"),
    "unknown call": (lambda s: s.get(f"{CALLS}/none"), 404, "not_found"),
    "wrong method": (lambda s: s.request("DELETE", CALLS), 405, "method_not_allowed"),
    "odd method": (lambda s: s.request("BREW", CALLS), 405, "method_not_allowed"),
    "too large": (lambda s: s.send(b" " * (17 * 1024 * 1024)), 413, "body_too_large"),
    "too many": (lambda s: s.send(b"{}\n" * 10_001, content_type=NDJSON), 413, "body_too_large"),
    "no content type": (lambda s: s.send(b"{}", content_type=""), 415, "unsupported_media_type"),
    "other content type": (lambda s: s.send(b"{}", content_type="text/csv"), 415, "unsupported_media_type"),
    "ndjson to start": (
        lambda s: s.send(b"{}", content_type=NDJSON, path=f"{CALLS}/a/start"), 415, "unsupported_media_type",
    ),
    "bad Last-Event-ID": (
        lambda s: s.get("/v1/events/stream", headers={"Last-Event-ID": "x"}), 400, "invalid_input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_is_a_problem_document(shared: Service, name: str) -> None:
    """application/problem+json with all its fields and a stable code, and the ledger stays as it was."""
    request, status, code = REFUSED[name]
    before = shared.position()
    assert_problem(request(shared), status, code)
    assert shared.position() == before


def test_401_and_405_say_what_would_do(shared: Service) -> None:
    """The headers that HTTP asks for."""
    assert shared.request("GET", CALLS, None).headers["www-authenticate"] == "Bearer"
    assert {"GET", "POST"} <= set(shared.request("DELETE", CALLS).headers["allow"].split(", "))


def call_with(raw: bytes, field: bytes = b"metadata") -> bytes:
    """A call whose last field is these very bytes."""
    return msgspec.json.encode(a_call())[:-1] + b',"' + field + b'":' + raw + b"}"


HOSTILE: dict[str, bytes] = {
    "NaN": call_with(b'{"a":NaN}'),
    "Infinity": call_with(b'{"a":Infinity}'),
    "minus Infinity": call_with(b"-Infinity", b"attempt"),
    "infinite exponent": call_with(b'{"a":1e999}'),
    "leading zero": call_with(b"01", b"attempt"),
    "hexadecimal": call_with(b"0x1", b"attempt"),
    "half an escape": call_with(b'"\\u12"', b"trace_id"),
    "lone high surrogate": call_with(b'"\\ud800"', b"trace_id"),
    "lone low surrogate": call_with(b'{"a":"\\udc00x"}'),
    "swapped surrogates": call_with(b'"\\udc00\\ud800"', b"trace_id"),
    "surrogate in a key": call_with(b'{"\\ud800":1}'),
    "encoded surrogate": call_with(b'"\xed\xa0\x80"', b"trace_id"),
    "invalid UTF-8": call_with(b'"\xff\xfe"', b"trace_id"),
    "overlong UTF-8": call_with(b'"\xc0\xaf"', b"trace_id"),
    "cut UTF-8": call_with(b'"\xe2\x82"', b"trace_id"),
    "BOM": b"\xef\xbb\xbf" + msgspec.json.encode(a_call()),
    "UTF-16": msgspec.json.encode(a_call()).decode().encode("utf-16"),
    "raw newline in a string": call_with(b'"a\nb"', b"trace_id"),
    "deep arrays": call_with(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "deep objects": call_with(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "deep top": b"[" * 1_000_000,
    "17 levels": call_with(b'{"a":' * 17 + b"1" + b"}" * 17),
    "huge integer": call_with(b"9" * 5_000, b"attempt"),
    "huge free integer": call_with(b'{"a":' + b"9" * 5_000 + b"}"),
    "huge quantity": call_with(b'{"input_tokens":1e400}', b"usage"),
    "fraction of a token": call_with(b'{"input_tokens":1.5}', b"usage"),
    "object for text": call_with(b"{}", b"trace_id"),
    "array for object": call_with(b"[]", b"usage"),
    "number for object": call_with(b"7"),
    "false for object": call_with(b"false", b"error"),
    "boolean for number": call_with(b"true", b"attempt"),
    "float for number": call_with(b"1.0e0001", b"ttfb_ms"),
    "NUL": msgspec.json.encode(a_call()) + b"\0",
    "single quotes": b"{'id': 'a'}",
    "comment": b"/* */ " + msgspec.json.encode(a_call()),
    "gzip": gzip.compress(msgspec.json.encode(a_call())),
    "form": b"id=a&provider=b",
}  # fmt: skip
# What JSON allows and the ledger keeps.
KEPT = {"float for number"}


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in KEPT])
def test_a_hostile_body_is_refused_clearly_in_every_form(shared: Service, name: str) -> None:
    """As one call, as an array and as a line it is a 4xx problem or a rejected item, and nothing changes."""
    body = HOSTILE[name]
    before = shared.position()
    single = shared.send(body)
    assert 400 <= single.status_code < 500
    assert_problem(single, single.status_code)
    assert len(single.content) < 5_000
    batch = shared.send(b"[" + body + b"]")
    assert batch.status_code in {207, *range(400, 500)}
    if batch.status_code == 207:
        assert [item["status"] for item in batch.json()["items"]] == ["rejected"]
    by_line = shared.send(body, content_type=NDJSON).json()
    assert by_line["accepted"] == by_line["duplicate"] == 0
    assert shared.position() == before


def test_a_body_with_a_content_encoding_is_refused(shared: Service) -> None:
    """It says that encodings are not supported, rather than that its bytes are bad JSON."""
    content = gzip.compress(msgspec.json.encode(a_call()))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    before = shared.position()
    assert_problem(shared.request("POST", CALLS, APP, content=content, headers=headers), 415, "unsupported_media_type")
    headers["Content-Encoding"] = "identity"
    assert_problem(shared.request("POST", CALLS, APP, content=b"{", headers=headers), 400, "malformed_json")
    assert shared.position() == before


def test_a_long_name_is_not_echoed(shared: Service) -> None:
    """A megabyte of field name does not come back as a megabyte of problem."""
    response = shared.send(call_with(b"1", b"x" * 1_000_000))
    assert_problem(response, 400, "invalid_input")
    assert len(response.content) < 5_000


def test_random_bytes_are_never_a_fault_of_ours(shared: Service) -> None:
    """Noise, and calls with a few bytes changed, cut or doubled: 4xx, or 2xx where still a call; never 5xx."""
    dice = random.Random(SEED)
    good = msgspec.json.encode(a_call(metadata={"a": [1, "\u00e9", None]}))
    for n in range(400):
        body = dice.randbytes(dice.randrange(200)) if n % 4 == 0 else damaged(dice, good)
        content_type = dice.choice(("application/json", NDJSON))
        response = shared.send(body, content_type=content_type)
        assert response.status_code < 500, (SEED, n, body)
        if response.status_code >= 400:
            assert_problem(response, response.status_code)


def damaged(dice: random.Random, good: bytes) -> bytes:
    body = bytearray(good)
    for _ in range(dice.randint(1, 4)):
        place = dice.randrange(len(body))
        match dice.randrange(3):
            case 0:
                body[place] = dice.randrange(256)
            case 1:
                del body[place : place + dice.randint(1, 9)]
            case _:
                body[place:place] = body[place : place + dice.randint(1, 9)]
    return bytes(body)


def test_random_queries_are_never_a_fault_of_ours(shared: Service) -> None:
    """Any text for any parameter of any read: a page, or a problem of the client's."""
    dice = random.Random(SEED)
    names = (
        *("from", "to", "app", "user_id", "provider", "model", "type", "status", "credential_id", "limit", "cursor"),
        *("min_duration_ms", "q", "granularity", "timezone", "group_by", "fill", "after", "subject"),
    )
    values = (
        *(
            "",
            "0",
            "-1",
            "1e9",
            "null",
            "true",
            "9" * 30,
            "%00",
            "%F0%9F%98%80",
            "a/b",
            "..%2f..%2fetc",
            "'--",
            "model,app",
        ),
        *(
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.9999999Z",
            "2026-11-22T00:00:00%2B23:59",
            "hour",
            "day",
            "month",
        ),
        *("Europe/Berlin", "Asia/Kathmandu", "../UTC", "posixrules", "success", "embedding", "x" * 300),
    )
    paths = (CALLS, "/v1/model-call-stats", "/v1/events", f"{CALLS}/none", f"{CALLS}/none/events")
    for n in range(400):
        query = "&".join(f"{dice.choice(names)}={dice.choice(values)}" for _ in range(dice.randint(1, 4)))
        response = shared.get(f"{dice.choice(paths)}?{query}")
        assert response.status_code < 500, (SEED, n, query)
        if response.status_code >= 400:
            assert_problem(response, response.status_code)


def error_classes() -> list[type[LedgerError]]:
    found = [LedgerError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return found


def test_every_error_has_its_status_code_hint_and_words() -> None:
    """Codes are unique and stable, and every class says what happened and what helps."""
    kinds = error_classes()
    assert len(kinds) > 20
    assert len({kind.code for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert "code" in vars(kind), kind
        assert "hint" in vars(kind), kind
        assert (kind.__doc__ or "").strip().endswith("."), kind
        assert kind.__module__.startswith("schema.")
        assert 400 <= status_of(kind()) < 600


def test_every_error_becomes_a_problem_and_retryable_ones_say_when() -> None:
    """The detail is the class's own sentence unless one is given; Retry-After is there exactly when a retry helps."""
    for kind in error_classes():
        document = problem(kind())
        assert (document.status, document.code, document.retryable) == (status_of(kind()), kind.code, kind.retryable)
        assert document.detail == (kind.__doc__ or "").strip()
        headers = respond(kind("given", retry_after_s=7)).headers
        assert headers.get("Retry-After") == ("7" if kind.retryable else None)
        assert (respond(kind()).headers.get("Retry-After") is not None) == kind.retryable


def test_what_is_worth_a_retry_is_429_or_503_and_what_is_so_is_worth_a_retry() -> None:
    """Of the errors that have a status of their own."""
    waiting = {kind for kind, status in STATUSES.items() if status in {429, 503}}
    assert {kind for kind in STATUSES if kind.retryable} <= waiting
    assert waiting - {kind for kind in STATUSES if kind.retryable} <= {errors.LedgerBusy}


def test_overload_answers_503_and_loses_nothing(tmp_path: Path) -> None:
    """With the writer held up and the queue full, more is refused with Retry-After; what was taken lands."""
    with serving(tmp_path, queue=CommandQueue(commands_max=8)) as service, ThreadPoolExecutor(40) as threads:
        blocker = open_writer(service.ledger.path)
        blocker.execute("BEGIN IMMEDIATE")
        try:
            waiting = [threads.submit(service.post, CALLS, a_call(f"c-{n}")) for n in range(40)]
            refused = [future.result(20) for future in _first(waiting, 20)]
        finally:
            blocker.execute("ROLLBACK")
            blocker.close()
        for response in refused:
            assert_problem(response, 503, "overloaded")
            assert int(response.headers["retry-after"]) >= 1
        answers = [future.result() for future in waiting]
        landed = {f"c-{n}" for n, answer in enumerate(answers) if answer.status_code == 201}
        assert {answer.status_code for answer in answers} == {201, 503}
        assert {id_ for (id_,) in service.read("SELECT id FROM events WHERE type LIKE 'model_call%'")} == landed
        assert service.post(CALLS, a_call("c-39")).status_code in {200, 201}


def _first(futures: "list[Future[httpx.Response]]", count: int) -> "list[Future[httpx.Response]]":
    """The first ones that are done: with the writer held up, only refusals are."""
    return list(itertools.islice(as_completed(futures, timeout=20), count))


def test_a_batch_that_does_not_fit_is_refused_whole(tmp_path: Path) -> None:
    """Nothing of it is stored, so a retry is safe."""
    with serving(tmp_path, queue=CommandQueue(commands_max=8)) as service:
        before = service.position()
        assert_problem(service.post(CALLS, [a_call(f"c-{n}") for n in range(9)]), 503, "overloaded")
        assert service.position() == before
        assert service.post(CALLS, [a_call(f"c-{n}") for n in range(8)]).json()["accepted"] == 8


@pytest.fixture
def logged(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """What a configured process writes to its log."""
    with captured_log(request.param) as log:
        yield log


@pytest.mark.parametrize("logged", ["json", "console"], indirect=True)
def test_an_unexpected_fault_tells_the_client_nothing_and_the_log_enough(
    service: Service, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 without internals; the log has the cause and where, but no local variable and no key."""

    def broken(*_: object) -> NoReturn:
        local = CANARY
        raise RuntimeError(f"the cause, {len(local)}")

    monkeypatch.setattr("ledger.reads.model_call", broken)
    response = service.get(f"{CALLS}/c-1", headers={"X-Secret": CANARY})
    assert_problem(response, 500, "internal_error")
    assert response.json()["detail"] == LedgerError.__doc__
    assert set(response.json()) == {*PROBLEM_FIELDS, "hint"}
    log = logged()
    assert f"the cause, {len(CANARY)}" in log
    assert "broken" in log
    assert "Logging error" not in log
    assert CANARY not in log
    assert key_text("admin") not in log
    assert bearer("admin")["Authorization"] not in log


def test_a_fault_does_not_stop_the_service(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request is answered, and the writer goes on."""
    with monkeypatch.context() as patch:
        patch.setattr("ledger.reads.model_call", None)
        assert_problem(service.get(f"{CALLS}/c-1"), 500, "internal_error")
    assert service.post(CALLS, a_call()).status_code == 201
    assert service.get(f"{CALLS}/c-1").status_code == 200
