"""What calls and their statistics can be asked for."""

from typing import Literal

from msgspec import Struct

from schema.correction import Basis
from schema.model_call import CallType, Status

Granularity = Literal["hour", "day", "month", "total"]
Dimension = Literal["app", "user_id", "provider", "model", "type", "status", "credential_id"]
DIMENSIONS: tuple[Dimension, ...] = ("app", "user_id", "provider", "model", "type", "status", "credential_id")


class CallFilter(Struct, frozen=True, kw_only=True):
    """Which calls. Times are microseconds by the call's start, `to_us` is exclusive; None means any."""

    from_us: int | None = None
    to_us: int | None = None
    app: str | None = None
    user_id: str | None = None
    provider: str | None = None
    model: str | None = None
    type: CallType | None = None
    status: Status | None = None
    credential_id: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    min_duration_ms: int | None = None
    q: str | None = None
    basis: Basis = "corrected"

    def dimensions(self) -> dict[Dimension, str]:
        """The filters that statistics keep apart."""
        return {name: value for name in DIMENSIONS if (value := getattr(self, name)) is not None}

    def needs_calls(self) -> bool:
        """Whether only the calls themselves can answer."""
        return any(value is not None for value in (self.request_id, self.trace_id, self.min_duration_ms, self.q))


class StatQuery(Struct, frozen=True, kw_only=True):
    """Statistics of the calls that a filter selects."""

    filter: CallFilter
    granularity: Granularity = "total"
    timezone: str = "UTC"
    group_by: tuple[Dimension, ...] = ()
    fill: bool = False


class StatTotals(Struct, kw_only=True):
    """Sums over finished calls. Costs are credits, of the calls that have a price; `unpriced_calls` have none.

    `vendor_cost` is of the calls that have one, which may be fewer; it is null for role app.
    """

    calls: int
    succeeded: int
    failed: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    images: int
    seconds: str
    cost: str
    vendor_cost: str | None
    unpriced_calls: int
    duration_ms_sum: int
    ttfb_ms_sum: int
    ttfb_calls: int


class StatBucket(StatTotals, kw_only=True):
    """The sums of one group in [start, end)."""

    start: str
    end: str
    group: dict[Dimension, str | None]


class Stats(Struct, kw_only=True):
    """The buckets that have calls, in order of start and group, and the sums over all of them."""

    buckets: list[StatBucket]
    totals: StatTotals
