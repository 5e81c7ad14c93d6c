"""Running the service: granian's workers over one ledger file, stopped cleanly."""

import fcntl
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir
from types import FrameType
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer

from ledger import lock
from ledger.rebuild import Progress
from ops import logs, master_key
from ops.bootstrap import clock_us, create_app, open_ledger
from ops.payment import payment_system
from ops.poster import HttpPoster
from ops.settings import Settings, to_environ
from schema.errors import AddressInUse

log = structlog.get_logger()

REQUESTS_AT_ONCE_MAX = 512
BACKLOG_CONNECTIONS = 2_048
# A worker finishes what its queue holds; one that cannot within this time is killed, and loses only what nobody was
# told is stored.
WORKERS_KILL_TIMEOUT_S = 10
READY_POLL_S = 0.05

OnReady = Callable[[str], None]


def serve(settings: Settings, on_ready: OnReady, progress: Progress | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then return; `on_ready` gets the address, in a thread of its own.

    Raises AddressInUse, what Ledger.open raises, and SystemExit(1) where workers keep dying.
    """
    with _port_held(settings.port), ExitStack() as held:
        check_address(settings.host, settings.port)
        settings.directory.mkdir(parents=True, exist_ok=True)
        held.enter_context(lock.shared(settings.directory))
        master_key.ensure(settings)
        payment_system(settings, HttpPoster(), clock_us)  # says here, and not in each worker, what is lacking
        # Migrations and new projections are the parent's, so that workers find the file ready.
        open_ledger(settings, clock_us(), progress).close()
        os.environ.update(to_environ(settings))
        # An SQLite connection must not cross a fork, and neither must threads that hold locks.
        multiprocessing.set_start_method("spawn", force=True)
        _run(_server(settings), settings, on_ready)


@contextmanager
def _port_held(port: int) -> Generator[None]:
    """Workers share their port, and bind it late: of two services that start at once one must be told no."""
    path = Path(gettempdir()) / f"usage-ledger-{os.getuid()}-{port}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AddressInUse(f"another service is starting or running on port {port}") from error
        yield
    finally:
        os.close(handle)


class Server(MPServer):
    """Workers are born ignoring Ctrl-C, which is the parent's business: it tells them."""

    def startup(self, spawn_target: Any, target_loader: Any) -> None:  # noqa: ANN401 - granian's own
        self.on_startup(_ignore_interrupt)
        super().startup(spawn_target, target_loader)  # pyright: ignore[reportUnknownMemberType]
        signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        self.interrupt_signal = True
        self.main_loop_interrupt.set()


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _server(settings: Settings) -> Server:
    return Server(
        "ops.bootstrap:create_app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.workers,
        loop=Loops.auto,
        http=HTTPModes.http1,
        websockets=False,
        backlog=BACKLOG_CONNECTIONS,
        # Streams are held for long: they must not take the places of requests.
        backpressure=REQUESTS_AT_ONCE_MAX + settings.sse_streams_max,
        respawn_failed_workers=True,
        workers_kill_timeout=WORKERS_KILL_TIMEOUT_S,
        log_level=LogLevels.error,
        log_dictconfig=logs.standard_config(settings.log_level, settings.log_format),
        factory=True,
    )


def _run(server: Server, settings: Settings, on_ready: OnReady) -> None:
    stopped = threading.Event()
    threading.Thread(target=_announce, args=(settings, on_ready, stopped), name="ready", daemon=True).start()
    try:
        # Given as a function, because a name would be looked up in the current directory before our own packages.
        server.serve(target_loader=create_app, wrap_loader=False)
    except SystemExit:
        # A worker that ended by itself just before it was told to counts as failed otherwise.
        if not server.interrupt_signal:
            raise
    finally:
        stopped.set()


def _announce(settings: Settings, on_ready: OnReady, stopped: threading.Event) -> None:
    """A worker listens once its application has started: wait until one takes a connection."""
    while not stopped.is_set():
        try:
            socket.create_connection(_own_address(settings), timeout=1).close()
        except OSError:
            time.sleep(READY_POLL_S)
        else:
            on_ready(url(settings))
            return


def _own_address(settings: Settings) -> tuple[str, int]:
    """Where this machine reaches the service: an address that means every interface is none to connect to."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared only
    return host, settings.port


def url(settings: Settings) -> str:
    """The service's address for people and clients on this machine."""
    host, port = _own_address(settings)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_address(host: str, port: int) -> None:
    """Raise AddressInUse unless nobody listens there: workers share their port, so they would join a stranger."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise AddressInUse(f"{host}:{port} cannot be listened on: {error.strerror or error}") from error


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def announce_on_stderr(address: str) -> None:
    """The line that people and scripts wait for."""
    print(f"usage-ledger listens on {address}", file=sys.stderr, flush=True)  # noqa: T201 - what it is for
