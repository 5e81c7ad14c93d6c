"""The service under measurement, and the no-op beside it: each a process of its own on a free port."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
from msgspec import Struct

START_SECONDS_MAX = 30
CLI = (sys.executable, "-m", "ops.cli")


class Service(Struct):
    """A running service."""

    host: str
    port: int
    key: str

    def metric(self, name: str) -> int:
        """A counter or gauge, by its full name."""
        url = f"http://{self.host}:{self.port}/metrics"
        text = httpx.get(url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30).text
        return next(int(float(line.split()[-1])) for line in text.splitlines() if line.startswith(f"{name} "))


@contextmanager
def ledger_service(data_dir: Path, prepare: Callable[[Path], None] | None = None) -> Generator[Service]:
    """The service on a new ledger, durability full, one worker; `prepare` fills its directory before."""
    init = subprocess.run([*CLI, "init", "--data-dir", str(data_dir)], check=True, capture_output=True, text=True)
    if prepare is not None:
        prepare(data_dir)
    port = _free_port()
    command = [*CLI, "serve", "--data-dir", str(data_dir), "--port", str(port)]
    with _process(command, f"http://127.0.0.1:{port}/health/ready"):
        yield Service("127.0.0.1", port, init.stdout.strip())


@contextmanager
def noop_service() -> Generator[Service]:
    """The no-op route."""
    port = _free_port()
    command = [
        sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--port", str(port), "--no-ws",
        "--http", "1", "--log-level", "error", "ops.bench.noop:create_app",
    ]  # fmt: skip
    with _process(command, f"http://127.0.0.1:{port}/"):
        yield Service("127.0.0.1", port, "none")


def _free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _process(command: list[str], url: str) -> Generator[None]:
    process = subprocess.Popen(command, env={**os.environ, "USAGE_LEDGER_LOG_LEVEL": "warning"})
    try:
        _wait(process, command, url)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(process: "subprocess.Popen[bytes]", command: list[str], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url, timeout=5)
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    message = f"the service did not start: {' '.join(command)}"
    raise RuntimeError(message)
