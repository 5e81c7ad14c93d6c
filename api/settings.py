"""What the API needs to know of its surroundings; `ops` reads it from the environment."""

from typing import Literal

from msgspec import Struct

from schema.credential import TIMEZONE_DEFAULT
from schema.model_call import DEFAULT_POLICY, RatingPolicy
from schema.order import LIFETIME_S_DEFAULT
from schema.times import HOUR_US, SECOND_US


class ApiSettings(Struct, frozen=True, kw_only=True):
    """Bounds and intervals, each with its unit, and what becomes of calls without a price."""

    call_timeout_us: int = 1_800 * SECOND_US
    order_lifetime_us: int = LIFETIME_S_DEFAULT * SECOND_US
    sweep_interval_s: float = 30.0
    recheck_interval_s: float = 1.0
    sse_heartbeat_s: float = 15.0
    sse_streams_max: int = 100
    session_lifetime_us: int = 12 * HOUR_US
    body_bytes_max: int = 16 * 1024 * 1024
    batch_items_max: int = 10_000
    rating_policy: RatingPolicy = DEFAULT_POLICY
    quota_timezone: str = TIMEZONE_DEFAULT
    report_from: Literal["now", "beginning"] = "now"
    report_interval_s: float = 600.0
    report_calls_max: int = 10_000
    report_attempts_max: int = 15
    payment_decimals: int = 10
    send_timeout_s: float = 10.0
    webhook_attempts_max: int = 15
