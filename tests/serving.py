"""The service for tests: inside the process over a ledger of its own, or as a real server on a free port."""

import io
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, cast

import apsw
import httpx
import msgspec
import structlog
from litestar import Litestar
from litestar.testing import TestClient

from api.app import create_app
from api.lease_upkeep import CredentialProbe
from api.outbound import Outbound
from api.settings import ApiSettings
from ledger.database import open_reader
from ledger.keyring import Keyring, MasterKey, master_key
from ledger.ledger import Ledger
from ledger.queue import CommandQueue
from ops import logs
from schema.acceptance import accept
from schema.errors import LedgerError
from schema.key import CreateKey, KeyCreated, RevokeKey, Role
from schema.model_call import ModelCallRecorded, RecordModelCall
from schema.times import DAY_US, format_time, parse_time
from tests.sources import ROOT

Json = dict[str, Any]

NOW = "2026-11-22T12:00:00.000000Z"
NOW_US = parse_time(NOW)
CALLS = "/v1/model-calls"
APP = "shop"
OTHER_APP = "ide"
# Who calls: a role, or for keys of role app the app's name.
CALLERS: dict[str, tuple[Role, str | None]] = {
    "admin": ("admin", None),
    "auditor": ("auditor", None),
    "dashboard": ("dashboard", None),
    APP: ("app", APP),
    OTHER_APP: ("app", OTHER_APP),
}
TEST_KEY, OTHER_KEY = master_key(bytes(range(32))), master_key(bytes(32))
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


class Clock:
    """The service's time, which stands still until a test moves it."""

    def __init__(self, now_us: int = NOW_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us


def key_text(name: str) -> str:
    return f"ulk_{name}_{sha256(name.encode()).hexdigest()}"


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key_text(name)}"}


def add_keys(ledger: Ledger, names: Iterable[str] = CALLERS) -> None:
    commands = [CreateKey("test", NOW_US - DAY_US, _created(name)) for name in names]
    require(ledger.execute_now(commands))


def _created(name: str) -> KeyCreated:
    role, app = CALLERS[name]
    return KeyCreated(id=name, role=role, app=app, sha256=sha256(key_text(name).encode()).hexdigest())


def require(outcomes: Sequence[object]) -> None:
    failed = [outcome for outcome in outcomes if isinstance(outcome, LedgerError)]
    assert failed == []


def a_call(id_: str = "c-1", **fields: object) -> Json:
    """A call as posted; keyword arguments replace fields."""
    return {
        "id": id_,
        "provider": "openai",
        "model": "gpt-4o",
        "type": "chat_completion",
        "status": "success",
        "started_at": "2026-11-22T10:00:00.123456Z",
        "duration_ms": 1840,
        "ttfb_ms": 310,
        "usage": {"input_tokens": 374, "output_tokens": 44},
        "user_id": "u-1",
        **fields,
    }


def record(ledger: Ledger, calls: Iterable[Json], *, now_us: int = NOW_US, at_once: int = 5_000) -> None:
    """Record calls that name their app, past the API."""
    remaining = iter(calls)
    while part := msgspec.convert(list(islice(remaining, at_once)), list[ModelCallRecorded]):
        commands = [RecordModelCall("test", now_us, accept(call, now_us), call) for call in part]
        require(ledger.execute_now(commands))


def a_keyring(*keys: MasterKey) -> Keyring:
    """A keyring with these master keys, or with one that every test has."""
    return Keyring(lambda: keys or (TEST_KEY,), secrets.token_bytes)


class Service:
    """The application inside this process, with a key for each caller."""

    def __init__(self, ledger: Ledger, client: TestClient[Litestar], clock: Clock) -> None:
        self.ledger = ledger
        self.client = client
        self.clock = clock

    def get(self, path: str, caller: str = "admin", **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        return self.request("GET", path, caller, **options)

    def post(self, path: str, json: object, caller: str = APP, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        return self.request("POST", path, caller, json=json, **options)

    def send(
        self, content: bytes, caller: str = APP, *, content_type: str = "application/json", path: str = CALLS
    ) -> httpx.Response:
        return self.request("POST", path, caller, content=content, headers={"Content-Type": content_type})

    def request(self, method: str, path: str, caller: str | None = "admin", **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        headers = {**(bearer(caller) if caller else {}), **options.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **options)

    def position(self) -> int:
        """The journal's head."""
        return self.read("SELECT size FROM journal_head")[0][0]

    def read(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of the ledger's file."""
        with reading(self.ledger) as db:
            return db.execute(sql, bindings).fetchall()

    def revoke(self, name: str) -> None:
        require(self.ledger.execute_now([RevokeKey("test", self.clock(), name)]))


@contextmanager
def reading(ledger: Ledger) -> Generator[apsw.Connection, None, None]:
    db = open_reader(ledger.path)
    try:
        yield db
    finally:
        db.close()


# Nothing sweeps by itself, so that tests decide what happens when.
QUIET = ApiSettings(sweep_interval_s=86_400.0)


@contextmanager
def serving(
    data_dir: Path,
    *,
    settings: ApiSettings = QUIET,
    queue: CommandQueue | None = None,
    keyring: Keyring | None = None,
    probe: CredentialProbe | None = None,
    outbound: Outbound | None = None,
) -> Generator[Service, None, None]:
    """The service over a ledger with a key for each caller, inside this process."""
    clock = Clock()
    ledger = Ledger(data_dir, durability="os", queue=queue, keyring=keyring or a_keyring())
    app = create_app(ledger, settings, clock, probe=probe, outbound=outbound)
    with TestClient(app, raise_server_exceptions=False) as client:
        add_keys(ledger)
        yield Service(ledger, client, clock)


@contextmanager
def captured_log(format_: logs.LogFormat, level_: str = "info") -> Generator[Callable[[], str], None, None]:
    """What this process logs meanwhile, as it would be written by the service."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level, stream = root.handlers[:], root.level, io.StringIO()
    logs.configure(level_, format_)
    [handler] = cast("list[logging.StreamHandler[io.StringIO]]", root.handlers)
    handler.setStream(stream)
    try:
        yield stream.getvalue
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**before)


class LiveServer:
    """A real server in processes of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def worker_pids(self) -> list[int]:
        """The processes that answer: the children of the one that was started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def resident_bytes(self) -> int:
        """Memory that the server holds, all its processes together."""
        return sum(_resident_bytes(pid) for pid in (self.process.pid, *self.worker_pids()))


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def live_server(data_dir: Path, **settings: object) -> Generator[LiveServer, None, None]:
    """`usage-ledger serve` over a data directory, as it runs for users; `prepare` makes that before."""
    port = free_port()
    environ = {**os.environ, **{f"USAGE_LEDGER_{name.upper()}": str(value) for name, value in settings.items()}}
    command = (sys.executable, "-m", "ops.cli", "serve", "--data-dir", str(data_dir), "--port", str(port))
    log = data_dir / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
    server = LiveServer(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait_until_ready(server)
        yield server
    finally:
        _stop(process)


def prepare(data_dir: Path, fill: Callable[[Ledger], None] | None = None) -> None:
    """Make the ledger, its keys, and what else a test wants in it before a server opens it."""
    ledger = Ledger(data_dir, durability="os")
    try:
        ledger.open(NOW_US)
        add_keys(ledger)
        if fill is not None:
            fill(ledger)
    finally:
        ledger.close()


def _wait_until_ready(server: LiveServer) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log.read_text()
        try:
            if httpx.get(f"{server.url}/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(server.log.read_text())


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def at(time_us: int) -> str:
    return format_time(time_us)
