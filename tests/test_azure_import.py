"""Importing the Azure traces: every call once, through the file or over HTTP, however often it is tried."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.database import open_reader
from ledger.ledger import LEDGER_FILE
from ops.call_import import (
    ATTEMPTS_MAX,
    BATCH_CALLS,
    Answer,
    Call,
    Failure,
    import_calls,
    over_http,
)
from schema.errors import ServiceRefused, ServiceUnreachable
from tests.console import answer, run
from tests.serving import Service, key_text, serving

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TRACES = {"code": 8_819, "conv": 19_366}
CALLS, INPUT_TOKENS, OUTPUT_TOKENS = 28_185, 40_421_844, 4_334_561
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
OPTIONS = ("--app", "ide", "--provider", "azure", "--model", "gpt-4")


def trace(tmp_path: Path, rows: int, *, first: int = 0) -> Path:
    lines = [
        f"2023-11-16 18:17:{n // 1000 % 60:02d}.{n % 1000:03d}0000,{n + 1},7\n" for n in range(first, first + rows)
    ]
    path = tmp_path / f"trace-{first}-{rows}.csv"
    path.write_text(HEADER + "".join(lines))
    return path


def totals(data_dir: Path) -> tuple[Any, ...]:
    db = open_reader(data_dir / LEDGER_FILE)
    try:
        [row] = db.execute("SELECT count(*), sum(input_tokens), sum(output_tokens) FROM model_calls")
        return row
    finally:
        db.close()


def test_the_real_traces_are_imported_to_the_last_token_and_once(tmp_path: Path) -> None:
    files = {name: DATA / f"azure-llm-inference-2023-{name}.csv" for name in TRACES}
    if not all(path.exists() for path in files.values()):
        pytest.skip("The Azure traces are not part of the project")
    environment = {"USAGE_LEDGER_DURABILITY": "os"}
    for fate in ("accepted", "duplicate"):
        for name, rows in TRACES.items():
            options = ("--app", name, "--provider", "azure", "--model", "gpt-4", "--data-dir", str(tmp_path), "--json")
            result = run("import", "azure-llm-trace", files[name], *options, env=environment)
            assert result.exit_code == 0
            counts = json.loads(result.stdout)
            assert counts == {"accepted": 0, "duplicate": 0, "rejected": 0, "failures": [], fate: rows}
        assert totals(tmp_path) == (CALLS, INPUT_TOKENS, OUTPUT_TOKENS)
    report = answer("verify", "--data-dir", tmp_path)
    assert (report["ok"], report["size"]) == (True, CALLS)


def test_calls_of_the_same_id_and_other_content_are_rejected_and_exit_1(tmp_path: Path) -> None:
    path = trace(tmp_path, BATCH_CALLS + 1)
    directory = ("--data-dir", str(tmp_path / "data"))
    assert run("import", "azure-llm-trace", path, *OPTIONS, *directory).exit_code == 0
    result = run("import", "azure-llm-trace", path, *OPTIONS[:-1], "gpt-5", *directory)
    assert result.exit_code == 1
    assert result.stdout == f"accepted 0, duplicate 0, rejected {BATCH_CALLS + 1}\n"
    assert "[id_conflict]" in result.stderr


def test_a_malformed_file_imports_nothing(tmp_path: Path) -> None:
    path = trace(tmp_path, 3)
    path.write_text(path.read_text() + "2023-11-16 18:17:03,minus one,7\n")
    result = run("import", "azure-llm-trace", path, *OPTIONS, "--data-dir", tmp_path / "data")
    assert result.exit_code == 1
    assert "line 5: ContextTokens is not a whole number of tokens" in result.stderr
    assert not (tmp_path / "data").exists()


def test_url_and_key_go_together(tmp_path: Path) -> None:
    result = run("import", "azure-llm-trace", trace(tmp_path, 1), *OPTIONS, "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2


def posting(service: Service, key: str) -> httpx.Client:
    service.client.headers["Authorization"] = f"Bearer {key}"
    return service.client


def calls(number: int) -> list[Call]:
    return [
        {
            "id": f"c-{n}", "app": "shop", "provider": "azure", "model": "gpt-4", "type": "chat_completion",
            "status": "success", "started_at": "2023-11-16T18:17:03Z", "usage": {"input_tokens": n, "output_tokens": 1},
        }
        for n in range(number)
    ]  # fmt: skip


def test_over_http_the_same_counts_come_back(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        settled: list[int] = []
        post = over_http(posting(service, key_text("admin")))
        first = import_calls(calls(BATCH_CALLS + 10), post, settled.append)
        assert (first.accepted, first.duplicate, first.rejected) == (BATCH_CALLS + 10, 0, 0)
        assert settled == [BATCH_CALLS, BATCH_CALLS + 10]
        changed = [{**call, "model": "gpt-5"} for call in calls(3)]
        again = import_calls([*changed, *calls(10)[3:], {"id": "bad"}], post, settled.append)
        assert (again.accepted, again.duplicate, again.rejected) == (0, 7, 4)
        assert [failure.code for failure in again.failures] == [*["id_conflict"] * 3, "invalid_input"]


def test_a_key_that_may_not_is_refused_with_the_services_words(tmp_path: Path) -> None:
    with serving(tmp_path) as service, pytest.raises(ServiceRefused, match=r"401.*unauthenticated"):
        import_calls(calls(1), over_http(posting(service, "ulk_no_body")), lambda _: None)


def scripted(answers: list[Callable[[], httpx.Response]]) -> tuple[httpx.Client, list[list[str]]]:
    """A client of a service that answers as told, and the ids it was sent."""
    seen: list[list[str]] = []
    remaining = iter(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append([call["id"] for call in json.loads(request.content)])
        assert request.url.query == b"items=failures"
        return next(remaining)()

    return httpx.Client(base_url="http://ledger", transport=httpx.MockTransport(handle)), seen


def result(accepted: int, items: list[dict[str, object]] | None = None) -> httpx.Response:
    body = {"accepted": accepted, "duplicate": 0, "rejected": len(items or []), "items": items or []}
    return httpx.Response(207, json=body)


def unreachable() -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def test_what_is_overloaded_or_away_gets_the_same_ids_again_after_the_time_it_asks() -> None:
    client, seen = scripted(
        [
            lambda: httpx.Response(503, headers={"Retry-After": "3"}),
            lambda: httpx.Response(429, headers={"Retry-After": "7"}),
            unreachable,
            lambda: httpx.Response(503),
            lambda: result(2),
        ]
    )
    slept: list[float] = []
    done = import_calls(calls(2), over_http(client), lambda _: None, slept.append)
    assert done.accepted == 2
    assert slept == [3, 7, 4, 8]
    assert seen == [["c-0", "c-1"]] * 5


def test_only_calls_that_may_be_retried_are() -> None:
    later = {"code": "storage_unavailable", "detail": "no", "retryable": True}
    never = {"code": "out_of_range", "detail": "too big", "retryable": False}
    client, seen = scripted(
        [
            lambda: result(
                1,
                [
                    {"index": 0, "id": "c-0", "status": "rejected", "problem": never},
                    {"index": 2, "id": "c-2", "status": "rejected", "problem": later},
                ],
            ),
            lambda: result(1),
        ]
    )
    done = import_calls(calls(3), over_http(client), lambda _: None, lambda _: None)
    assert seen == [["c-0", "c-1", "c-2"], ["c-2"]]
    assert (done.accepted, done.rejected, done.failures[0].code) == (2, 1, "out_of_range")


def test_a_service_that_stays_away_is_told_after_a_bounded_number_of_tries() -> None:
    client, seen = scripted([unreachable] * ATTEMPTS_MAX)
    slept: list[float] = []
    with pytest.raises(ServiceUnreachable, match="connection refused"):
        import_calls(calls(1), over_http(client), lambda _: None, slept.append)
    assert len(seen) == ATTEMPTS_MAX
    assert max(slept) <= 30


def test_calls_that_stay_refused_for_now_are_counted_in_the_end() -> None:
    def post(batch: list[Call]) -> Answer:
        failures = [Failure(index=0, id="c-0", code="overloaded", detail="full", retryable=True)]
        return Answer(accepted=0, failures=failures)

    done = import_calls(calls(1), post, lambda _: None, lambda _: None)
    assert (done.accepted, done.rejected) == (0, 1)
