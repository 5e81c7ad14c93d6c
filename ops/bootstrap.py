"""The composition root: the one place that puts settings, clock, ledger and API together."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from api.settings import ApiSettings
from ledger.ledger import LEDGER_FILE, Ledger
from ledger.queue import CommandQueue
from ledger.rebuild import Progress
from ops import master_key
from ops.settings import Settings
from schema.errors import NoLedger
from schema.model_call import RatingPolicy
from schema.times import SECOND_US

if TYPE_CHECKING:
    from litestar import Litestar


def clock_us() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1_000


def make_ledger(settings: Settings) -> Ledger:
    """A ledger that is not open yet."""
    queue = CommandQueue(commands_max=settings.queue_commands_max, bytes_max=settings.queue_bytes_max)
    return Ledger(
        settings.directory, durability=settings.durability, queue=queue, keyring=master_key.make_keyring(settings)
    )


def open_ledger(settings: Settings, now_us: int, progress: Progress | None = None) -> Ledger:
    """An open ledger; the caller closes it. Made where there is none. Raises as Ledger.open does."""
    ledger = make_ledger(settings)
    try:
        ledger.open(now_us, progress)
    except BaseException:
        ledger.close()
        raise
    return ledger


@contextmanager
def opened(settings: Settings, progress: Progress | None = None) -> Generator[Ledger, None, None]:
    """A ledger for the length of a block."""
    ledger = open_ledger(settings, clock_us(), progress)
    try:
        yield ledger
    finally:
        ledger.close()


def require_ledger(settings: Settings) -> None:
    """Raise NoLedger where a command would otherwise make an empty one, as after a mistyped --data-dir."""
    if not (settings.directory / LEDGER_FILE).is_file():
        raise NoLedger(f"there is no ledger in {settings.directory}")


def api_settings(settings: Settings) -> ApiSettings:
    """What the API needs to know."""
    return ApiSettings(
        call_timeout_us=round(settings.call_timeout_s * SECOND_US),
        order_lifetime_us=round(settings.order_lifetime_s * SECOND_US),
        sse_heartbeat_s=settings.sse_heartbeat_s,
        session_lifetime_us=round(settings.session_lifetime_s * SECOND_US),
        sse_streams_max=settings.sse_streams_max,
        sweep_interval_s=settings.sweep_interval_s,
        rating_policy=rating_policy(settings),
        quota_timezone=settings.quota_timezone,
        report_from=settings.report_from,
        report_interval_s=settings.report_interval_s,
        report_calls_max=settings.report_calls_max,
        report_attempts_max=settings.report_attempts_max,
        send_timeout_s=settings.send_timeout_s,
        payment_decimals=settings.payment_decimals,
        webhook_attempts_max=settings.webhook_attempts_max,
    )


def rating_policy(settings: Settings) -> RatingPolicy:
    """What becomes of calls without a price, and of what failed calls used."""
    return RatingPolicy(unpriced=settings.unpriced_calls, failed=settings.failed_calls)


def create_app() -> "Litestar":
    """The application of a worker process; for servers that take the name of a factory."""
    # Commands that do not serve should not wait for the web framework to load.
    from ops.worker import create_app as create  # noqa: PLC0415

    return create()
