"""The command line: what each command prints where, how it fails, and how the service starts and stops."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from api.auth import authenticate
from ledger.database import open_reader
from ledger.ledger import LEDGER_FILE
from ops.cli import Commands, main
from ops.keys import new_key
from ops.serve import _port_held, free_port
from projections.engine import registry
from projections.key import find
from schema.errors import AddressInUse, Unauthenticated
from tests.console import WAIT_S_MAX, answer, fill, run, settings_of, start, until
from tests.serving import a_call

COMMANDS = {
    "backup", "demo", "import", "init", "keys", "migrate",
    "rebuild", "restore", "rotate-key", "serve", "settings", "sign-in-link", "status", "sync-prices", "verify",
}  # fmt: skip
KEY = re.compile(r"ulk_[0-9a-z-]+_[A-Za-z0-9_-]{43}")
HOST = "127.0.0.1"
STOP_S_MAX = 10


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def role_of(data_dir: Path, key: str) -> tuple[str, str | None]:
    db = open_reader(data_dir / LEDGER_FILE)
    try:
        principal = authenticate(partial(find, db), f"Bearer {key}".encode())
        return principal.role, principal.app
    finally:
        db.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An initialised directory."""
    directory = tmp_path / "data"
    assert run("init", "--data-dir", directory).exit_code == 0
    return directory


def test_the_commands_are_those_of_the_contract_and_each_explains_itself() -> None:
    assert isinstance(main, Commands)
    result = run("--help")
    listed = set(re.findall(r"^  ([a-z-]+) ", result.stdout.partition("Commands:")[2], re.MULTILINE))
    assert listed == COMMANDS
    for name in COMMANDS:
        shown = run(name, "--help")
        assert shown.exit_code == 0
        assert "--data-dir" in shown.stdout or "Commands:" in shown.stdout


def test_init_prints_the_admin_key_once_and_alone(tmp_path: Path) -> None:
    first = run("init", "--data-dir", tmp_path / "data")
    assert first.exit_code == 0
    key = first.stdout.removesuffix("\n")
    assert KEY.fullmatch(key)
    assert key not in first.stderr
    assert role_of(tmp_path / "data", key) == ("admin", None)
    second = run("init", "--data-dir", tmp_path / "data")
    assert (second.exit_code, second.stdout) == (0, "")
    assert "already initialised" in second.stderr
    assert role_of(tmp_path / "data", key) == ("admin", None)
    assert answer("init", "--data-dir", tmp_path / "data") == {"created": False, "key_id": None, "key": None}


def test_of_inits_that_race_one_prints_the_key(tmp_path: Path) -> None:
    racing = [start("init", "--data-dir", tmp_path / "data") for _ in range(4)]
    printed = [each.communicate(timeout=WAIT_S_MAX)[0] for each in racing]
    assert [each.returncode for each in racing] == [0] * 4
    [key] = filter(None, printed)
    assert role_of(tmp_path / "data", key.strip()) == ("admin", None)
    assert {each.name for each in (tmp_path / "data").iterdir()} == {LEDGER_FILE, "lock", "secret.key"}


def test_init_makes_the_master_key_once_and_for_its_owner_alone(data_dir: Path) -> None:
    path = data_dir / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_bytes()
    assert len(key.strip()) == 44
    assert run("init", "--data-dir", data_dir).exit_code == 0
    assert path.read_bytes() == key


def test_a_master_key_in_the_environment_is_not_written(data_dir: Path, tmp_path: Path) -> None:
    key = (data_dir / "secret.key").read_text().strip()
    assert run("init", "--data-dir", tmp_path / "other", env={"USAGE_LEDGER_SECRET_KEY": key}).exit_code == 0
    assert not (tmp_path / "other" / "secret.key").exists()


def test_keys_are_long_and_never_the_same() -> None:
    keys = [new_key() for _ in range(100)]
    assert len({key.text for key in keys}) == len({key.id for key in keys}) == 100
    assert all(KEY.fullmatch(key.text) and key.text.split("_", 2)[1] == key.id for key in keys)
    assert all(len(key.text.split("_", 2)[2]) == 43 for key in keys)


def test_a_created_key_is_printed_alone_and_works_until_revoked(data_dir: Path) -> None:
    result = run("keys", "create", "--role", "app", "--app", "shop", "--name", "checkout", "--data-dir", data_dir)
    assert (result.exit_code, result.stderr) == (0, "")
    key = result.stdout.removesuffix("\n")
    assert role_of(data_dir, key) == ("app", "shop")
    id_ = key.split("_")[1]
    [listed] = [each for each in answer("keys", "list", "--data-dir", data_dir)["items"] if each["id"] == id_]
    assert (listed["role"], listed["app"], listed["name"], listed["revoked_at"]) == ("app", "shop", "checkout", None)
    assert f"{id_}   app" in run("keys", "list", "--data-dir", data_dir).stdout
    assert run("keys", "revoke", id_, "--reason", "left", "--data-dir", data_dir).exit_code == 0
    with pytest.raises(Unauthenticated):
        role_of(data_dir, key)
    again = run("keys", "revoke", id_, "--data-dir", data_dir)
    assert (again.exit_code, "revoked before" in again.stderr) == (0, True)


def test_no_command_shows_a_keys_text_or_digest_again(data_dir: Path) -> None:
    made = answer("keys", "create", "--role", "auditor", "--data-dir", data_dir)
    assert set(made) == {"id", "role", "app", "name", "key"}
    secret = made["key"].split("_", 2)[2]
    for arguments in (("keys", "list"), ("keys", "list", "--json"), ("status", "--json"), ("verify", "--json")):
        assert secret not in run(*arguments, "--data-dir", data_dir).output
    assert "sha256" not in run("keys", "list", "--json", "--data-dir", data_dir).output


@pytest.mark.parametrize(
    "options",
    [
        ("--role", "app"),
        ("--role", "admin", "--app", "shop"),
        ("--role", "emperor"),
        ("--role", "app", "--app", "a/b"),
        ("--role", "app", "--app", ""),
        ("--role", "admin", "--name", "n" * 201),
    ],
)
def test_a_key_that_makes_no_sense_is_a_usage_error(data_dir: Path, options: tuple[str, ...]) -> None:
    result = run("keys", "create", *options, "--data-dir", data_dir)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(answer("keys", "list", "--data-dir", data_dir)["items"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("keys", "revoke", "nobody"), "not_found"),
        (("restore", "nowhere.db"), "not_found"),
        (("serve", "--port", "0"), "invalid_setting"),
    ],
)
def test_an_error_is_one_line_with_code_and_hint(data_dir: Path, arguments: tuple[str, ...], code: str) -> None:
    result = run(*arguments, "--data-dir", data_dir)
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"[{code}] " in line


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("verify",), ("rebuild",), ("backup", "to.db"), ("keys", "list"), ("migrate", "status")],
)
def test_a_mistyped_directory_is_told_and_not_made(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--data-dir", tmp_path / "dta")
    assert result.exit_code == 1
    assert "[no_ledger]" in result.stderr
    assert not (tmp_path / "dta").exists()


def test_a_file_that_is_no_ledger_gives_no_traceback(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(b"no database" * 1_000)
    for command in ("status", "init", "rebuild"):
        result = run(command, "--data-dir", tmp_path)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert result.exception is None or isinstance(result.exception, SystemExit)


def test_status_tells_where_everything_stands(data_dir: Path) -> None:
    fill(settings_of(data_dir), 50)
    found = answer("status", "--data-dir", data_dir)
    assert (found["position"], found["durability"], len(found["root_hash"])) == (51, "full", 64)
    assert found["file_bytes"] == (data_dir / LEDGER_FILE).stat().st_size
    assert {each["name"]: (each["position"], each["lag"]) for each in found["projections"]} == dict.fromkeys(
        registry(), (51, 0)
    )
    assert all(len(each["state_hash"]) == 64 for each in found["projections"])
    text = run("status", "--data-dir", data_dir).stdout
    assert found["root_hash"] in text
    assert "lag 0" in text
    unhashed = answer("status", "--no-hashes", "--data-dir", data_dir)
    assert {each["state_hash"] for each in unhashed["projections"]} == {None}


def test_rebuild_takes_names_and_refuses_others(data_dir: Path) -> None:
    fill(settings_of(data_dir), 20)
    before = answer("status", "--data-dir", data_dir)["projections"]
    assert answer("rebuild", "keys", "--data-dir", data_dir) == {"rebuilt": ["keys"]}
    assert answer("rebuild", "--data-dir", data_dir) == {"rebuilt": list(registry())}
    assert answer("status", "--data-dir", data_dir)["projections"] == before
    result = run("rebuild", "kyes", "--data-dir", data_dir)
    assert result.exit_code == 2
    assert "there is no projection kyes" in result.stderr


def test_migrate_lists_and_applies(data_dir: Path) -> None:
    items = answer("migrate", "status", "--data-dir", data_dir)["items"]
    assert items[0]["number"] == 1
    assert all(each["applied_at"] for each in items)
    assert answer("migrate", "apply", "--data-dir", data_dir) == {"applied": []}
    assert run("migrate", "apply", "--data-dir", data_dir).stdout == "nothing is pending\n"


# From here on the service itself, in processes of its own.


@contextmanager
def served(
    data_dir: Path, *options: str, cwd: Path | None = None
) -> Generator[tuple["subprocess.Popen[str]", str], None, None]:
    """The service and its address, once it says that it is ready; whatever is left of it is killed."""
    port = free_port(HOST)
    process = start("serve", "--data-dir", data_dir, "--port", str(port), *options, cwd=cwd)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line == f"usage-ledger listens on http://{HOST}:{port}\n", line + process.stderr.read()
        yield process, f"http://{HOST}:{port}"
    finally:
        kill(process)


def kill(process: "subprocess.Popen[str]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=WAIT_S_MAX)


def stopped(process: "subprocess.Popen[str]") -> str:
    """What it said while it stopped, which it did in time and with exit code 0."""
    began = time.monotonic()
    _, stderr = process.communicate(timeout=WAIT_S_MAX)
    assert process.returncode == 0, stderr
    assert time.monotonic() - began < STOP_S_MAX
    return stderr


@pytest.fixture
def key(tmp_path: Path) -> str:
    return run("init", "--data-dir", tmp_path / "data").stdout.strip()


def test_the_service_takes_calls_and_stops_cleanly_with_a_stream_open(tmp_path: Path, key: str) -> None:
    """From a directory whose own `ops` and `schema` must not be taken for ours."""
    for name in ("ops", "schema", "api"):
        (tmp_path / "cwd" / name).mkdir(parents=True)
        (tmp_path / "cwd" / name / "__init__.py").write_text("raise ImportError('a stranger')")
    with served(tmp_path / "data", cwd=tmp_path / "cwd") as (process, url), httpx.Client(base_url=url) as client:
        client.headers.update(bearer(key))
        with client.stream("GET", "/v1/events/stream") as stream:
            lines = stream.iter_lines()
            assert next(lines)
            assert client.post("/v1/model-calls", json={**a_call("c-1"), "app": "shop"}).status_code == 201
            process.send_signal(signal.SIGTERM)
            list(lines)
        assert stopped(process) == ""
    assert not (tmp_path / "data" / f"{LEDGER_FILE}-wal").exists(), "the ledger was not closed"
    assert answer("verify", "--data-dir", tmp_path / "data")["size"] == 2


def test_commands_work_beside_the_service(tmp_path: Path, key: str) -> None:
    data_dir = tmp_path / "data"
    with served(data_dir, "--workers", "2") as (process, url):
        made = answer("keys", "create", "--role", "app", "--app", "ide", "--data-dir", data_dir)["key"]
        trace = tmp_path / "trace.csv"
        trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n")
        options = (trace, "--app", "ide", "--provider", "azure", "--model", "gpt-4")
        counts = answer("import", "azure-llm-trace", *options, "--url", url, "--key", made)
        assert (counts["accepted"], counts["rejected"]) == (1, 0)
        assert answer("import", "azure-llm-trace", *options, "--data-dir", data_dir)["duplicate"] == 1
        assert answer("rebuild", "--data-dir", data_dir)["rebuilt"]
        assert answer("verify", "--data-dir", data_dir)["ok"]
        assert answer("backup", tmp_path / "copy.db", "--data-dir", data_dir)["size"] == 3
        refused = run("restore", tmp_path / "copy.db", "--data-dir", data_dir)
        assert "[ledger_busy]" in refused.stderr
        again = run("serve", "--data-dir", data_dir, "--port", url.rpartition(":")[2])
        assert (again.exit_code, "[address_in_use]" in again.stderr) == (1, True)
        assert httpx.get(f"{url}/v1/model-calls", headers=bearer(key)).json()["items"][0]["app"] == "ide"
        # Ctrl-C on a terminal reaches every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        stopped(process)


def test_a_worker_that_dies_is_replaced_and_one_without_parent_stops(tmp_path: Path, key: str) -> None:
    with served(tmp_path / "data") as (process, url):
        [worker] = workers(process.pid)
        os.kill(worker, signal.SIGKILL)
        until(lambda: set(workers(process.pid)) - {worker} and answers(url), "a new worker")
        process.kill()
        until(lambda: not answers(url), "the worker to stop after its parent")


def workers(pid: int) -> list[int]:
    """The worker processes of a service."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", timeout=5).is_success
    except httpx.TransportError:
        return False


def test_a_port_that_is_taken_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        result = run("serve", "--data-dir", tmp_path / "data", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "[address_in_use]" in result.stderr
    assert not (tmp_path / "data").exists()


def test_the_demo_shows_calls_arriving_stops_cleanly_and_runs_again(tmp_path: Path) -> None:
    first = demonstrated(tmp_path / "demo", signal.SIGINT)
    second = demonstrated(tmp_path / "demo", signal.SIGTERM)
    assert first >= 20_000
    assert first < second < first + 2_000, "the second run adds only what has happened since"
    assert answer("verify", "--data-dir", tmp_path / "demo")["ok"]


def demonstrated(data_dir: Path, stop: signal.Signals) -> int:
    """Run the demonstration until a call has arrived, and stop it; the calls that it had when it was ready."""
    process = start("demo", "--data-dir", data_dir, "--port", str(free_port(HOST)))
    try:
        assert process.stdout is not None
        text = ""
        while "Ctrl-C" not in text:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            text += line
        url, key = re.findall(r"http://\S+?:\d+", text)[0], re.findall(r"admin key (\S+)", text)[0]
        before = statistics(url, key)
        until(lambda: statistics(url, key) > before, "a call to arrive")
        assert text.count("curl ") == 2
        os.killpg(process.pid, stop)
        assert stopped(process) == ""
    finally:
        kill(process)
    return before


def statistics(url: str, key: str) -> int:
    calls: int = httpx.get(f"{url}/v1/model-call-stats", headers=bearer(key)).json()["totals"]["calls"]
    return calls


def test_json_is_one_line(data_dir: Path) -> None:
    for arguments in (("status",), ("verify",), ("settings",), ("keys", "list"), ("migrate", "status")):
        result = run(*arguments, "--json", "--data-dir", data_dir)
        [line] = result.stdout.splitlines()
        assert isinstance(json.loads(line), dict)


def test_of_services_that_start_at_once_one_gets_the_port() -> None:
    """Workers share a port and bind it late, so the check of the address alone would let both in."""
    with _port_held(1), pytest.raises(AddressInUse), _port_held(1):
        pass
