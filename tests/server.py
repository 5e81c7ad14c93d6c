"""A real server in a process group of its own: started, asked, stopped, or killed whole."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tests.serving import bearer, free_port
from tests.sources import ROOT

Json = dict[str, Any]

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 30.0
POLL_S = 0.01
# What a server that went away looks like to its clients.
Disconnected = (OSError, HTTPException)


class Answer:
    """A response, read to its end."""

    def __init__(self, status: int, content: bytes) -> None:
        self.status = status
        self.content = content

    def json(self) -> Json:
        found: Json = json.loads(self.content)
        return found


class Server:
    """`usage-ledger serve`. The group of processes it starts is named by the first one's pid."""

    def __init__(self, data_dir: Path, *options: str, **settings: object) -> None:
        self.port = free_port()
        environ = {f"USAGE_LEDGER_{name.upper()}": str(value) for name, value in settings.items()}
        command = ("serve", "--data-dir", str(data_dir), "--port", str(self.port), *options)
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ops.cli", *command],
                cwd=ROOT, env={**os.environ, **environ}, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT_S)

    def get(self, path: str, caller: str = "admin") -> Answer:
        """One request over a connection of its own."""
        connection = self.connect()
        try:
            return ask(connection, "GET", path, caller)
        finally:
            connection.close()

    def wait_until_ready(self) -> "Server":
        wait_for(self._is_ready, START_TIMEOUT_S)
        return self

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/health/ready").status == 200
        except Disconnected:
            return False

    def members(self) -> list[int]:
        """The processes of the group that still run."""
        return [pid for pid, _ in _group(self.pid)]

    def workers(self) -> list[int]:
        """The processes that answer."""
        return [pid for pid, parent in _group(self.pid) if parent == self.pid and _is_worker(pid)]

    def worker_of(self, connection: HTTPConnection) -> int:
        """Which worker holds the other end of a connection that has been used."""
        inode = _inode(self.port, connection.sock.getsockname()[1])
        return next(pid for pid in self.workers() if inode in _sockets(pid))

    def kill(self) -> None:
        """End all its processes at once, as a crash would."""
        if self.members():
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        wait_for(lambda: not self.members(), END_TIMEOUT_S)

    def terminate(self) -> int:
        """Ask it to stop; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_TIMEOUT_S)


@contextmanager
def started(data_dir: Path, *options: str, **settings: object) -> Generator[Server, None, None]:
    """A server that takes requests; whatever is left of it at the end is killed."""
    server = Server(data_dir, *options, **settings)
    try:
        yield server.wait_until_ready()
    finally:
        server.kill()


def ask(
    connection: HTTPConnection,
    method: str,
    path: str,
    caller: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request over a connection that may be used again; raises one of `Disconnected` where no whole answer came."""
    connection.request(method, path, body, {**bearer(caller), **(headers or {})})
    response = connection.getresponse()
    return Answer(response.status, response.read())


def run_cli(data_dir: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A `usage-ledger` command over the data directory, running."""
    command = [sys.executable, "-m", "ops.cli", *arguments, "--data-dir", str(data_dir)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(command: "subprocess.Popen[str]") -> str:
    """What a command that must succeed wrote to stdout."""
    out, err = command.communicate(timeout=END_TIMEOUT_S)
    assert command.returncode == 0, err
    return out


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(POLL_S)


def _group(leader: int) -> list[tuple[int, int]]:
    """Pid and parent of each running process of a group."""
    found: list[tuple[int, int]] = []
    for directory in Path("/proc").iterdir():
        try:
            # After the name, which may hold anything, come state, parent and group.
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] not in "ZX":
            found.append((int(directory.name), int(fields[1])))
    return found


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _inode(port: int, peer_port: int) -> str:
    """The socket on this machine at `port` that is connected to `peer_port`."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(address.rpartition(":")[2], 16) for address in fields[1:3]]
        if ports == [port, peer_port]:
            return fields[9]
    raise AssertionError(f"nothing at {port} is connected to {peer_port}")


def _sockets(pid: int) -> set[str]:
    found: set[str] = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[len("socket:[") : -1])
    return found
