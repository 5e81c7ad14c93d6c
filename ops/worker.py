"""A worker process of the service: its application, and how it ends.

Ctrl-C reaches every process of a terminal. Workers leave it to their parent, which then sends each one SIGTERM: told
twice while it starts, a worker would hang until it is killed.
"""

import asyncio
import gc
import multiprocessing
import os
import random
import signal
import threading

import structlog
from litestar import Litestar

from api.app import create_app as create_api
from api.outbound import Outbound
from api.services import services_of
from ops import logs
from ops.bootstrap import api_settings, clock_us, make_ledger
from ops.credential_probe import ModelListProbe
from ops.payment import payment_system
from ops.poster import HttpPoster
from ops.price_list import installed
from ops.settings import Settings, load
from ops.sign_in import session_secret
from schema.errors import SecretUnreadable

GC_THRESHOLD = 50_000

log = structlog.get_logger()


def create_app() -> Litestar:
    """The application of one worker, from its environment. The app opens and closes the ledger."""
    settings = load(os.environ)
    logs.configure(settings.log_level, settings.log_format)
    _calm_the_collector()
    sessions = _session_secret(settings)
    poster = HttpPoster(timeout_s=settings.send_timeout_s)
    outbound = Outbound(poster, _jitter_ppm, payment_system(settings, poster, clock_us))
    app = create_api(
        make_ledger(settings), api_settings(settings), clock_us, installed(), ModelListProbe(),
        session_secret=sessions, outbound=outbound,
    )  # fmt: skip
    if multiprocessing.parent_process() is not None:
        # SIGTERM waits until there is a handler that will not lose it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        _stop_with_parent()
        app.on_startup.append(_end_streams_first)
    return app


def _jitter_ppm() -> int:
    return random.randrange(1_000_001)  # noqa: S311 - so that clients do not come back all at once


def _session_secret(settings: Settings) -> bytes | None:
    """Without a master key the service does what needs none; signing in to the dashboard is not of that."""
    try:
        return session_secret(settings)
    except SecretUnreadable as error:
        log.warning("nobody_signs_in", code=error.code)
        return None


def _calm_the_collector() -> None:
    """Batches make thousands of short-lived objects without cycles: look for cycles rarely, and never at the code."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def _stop_with_parent() -> None:
    """A worker whose parent was killed would go on alone, with nobody left to stop it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="parent-watch", daemon=True).start()


def _end_streams_first(app: Litestar) -> None:
    """On SIGTERM end the event streams, then let the server stop: it waits for responses, and these have no end.

    The server listens to SIGINT as well; that is how it is told. The handler is the interpreter's and not the event
    loop's, which loses what comes while it is not running, as between the application's start and the server's.
    """
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        await services_of(app).tail.stop()
        # Once: told twice before it listens, the server would not stop. A Ctrl-C that is waiting comes now by itself.
        waiting = signal.SIGINT in signal.sigpending()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if not waiting:
            signal.raise_signal(signal.SIGINT)

    def begin() -> None:
        if not stopping:
            stopping.append(loop.create_task(stop()))

    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda _number, _frame: loop.call_soon_threadsafe(begin))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
