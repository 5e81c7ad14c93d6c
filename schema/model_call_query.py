"""What calls and their statistics can be asked for."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from schema.correction import Basis
from schema.model_call import CallType, Status

Granularity = Literal["hour", "day", "month", "total"]
Dimension = Literal["app", "user_id", "provider", "model", "type", "status", "credential_id"]
DIMENSIONS: tuple[Dimension, ...] = ("app", "user_id", "provider", "model", "type", "status", "credential_id")
PercentileSource = Literal["histograms", "calls"]
Ranking = Literal["calls", "failed", "cost", "vendor_cost", "input_tokens", "output_tokens", "duration_ms_sum"]


class CallFilter(Struct, frozen=True, kw_only=True):
    """Which calls. Times are microseconds by the call's start, `to_us` is exclusive; None means any.

    `as_of` is a position: calls as the event there left them.
    """

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
    as_of: int | None = None

    def dimensions(self) -> dict[Dimension, str]:
        """The filters that statistics keep apart."""
        return {name: value for name in DIMENSIONS if (value := getattr(self, name)) is not None}

    def needs_calls(self) -> bool:
        """Whether only the calls themselves can answer."""
        return any(
            value is not None for value in (self.request_id, self.trace_id, self.min_duration_ms, self.q, self.as_of)
        )


class StatQuery(Struct, frozen=True, kw_only=True):
    """Statistics of the calls that a filter selects."""

    filter: CallFilter
    granularity: Granularity = "total"
    timezone: str = "UTC"
    group_by: tuple[Dimension, ...] = ()
    fill: bool = False
    compare: bool = False
    top: int | None = None
    top_by: Ranking = "calls"
    percentiles: bool = False
    distinct: tuple[Dimension, ...] = ()


class StatTotals(Struct, kw_only=True):
    """Sums over finished calls. Costs are credits, of the calls that have a price; `unpriced_calls` have none.

    `vendor_cost` is of the calls that have one, which may be fewer; it is null for role app. Percentiles are of the
    calls that tell how long they took, null where none does. `distinct` counts the names that calls have of each
    dimension asked for.
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
    duration_ms_p50: int | UnsetType | None = UNSET
    duration_ms_p95: int | UnsetType | None = UNSET
    duration_ms_p99: int | UnsetType | None = UNSET
    ttfb_ms_p50: int | UnsetType | None = UNSET
    ttfb_ms_p95: int | UnsetType | None = UNSET
    distinct: dict[Dimension, int] | UnsetType = UNSET


class Percentiles(Struct, kw_only=True):
    """Where percentiles are from, and by how much of itself each may be off.

    `source` is null where they are: they would take more calls than one answer looks at.
    """

    source: PercentileSource | None
    relative_error: str


class StatBucket(StatTotals, kw_only=True):
    """The sums of one group in [start, end). `others` counts the groups of a remainder, whose `group` is empty."""

    start: str
    end: str
    group: dict[Dimension, str | None]
    others: int | UnsetType = UNSET


class Stats(Struct, kw_only=True):
    """The buckets that have calls, in order of start and group, and the sums over all of them.

    `groups` counts the distinct groups where `top` was asked for; `previous` are, where asked for, the totals of the
    range of equal length just before.
    """

    buckets: list[StatBucket]
    totals: StatTotals
    groups: int | UnsetType = UNSET
    previous: StatTotals | UnsetType = UNSET
    percentiles: Percentiles | UnsetType = UNSET


class ReasonCount(Struct, kw_only=True):
    """Failed calls of one reason: the error's code as posted, `timed_out`, or null where none was given.

    `others` counts the reasons of a remainder.
    """

    reason: str | None
    calls: int
    others: int = 0


class ReasonBucket(ReasonCount, kw_only=True):
    """The same in [start, end)."""

    start: str
    end: str


class CallErrors(Struct, kw_only=True):
    """Failed calls by reason, most frequent first, and by bucket.

    `since` is null where the whole range was counted, else the start of the part that was: the newest calls.
    """

    reasons: list[ReasonCount]
    buckets: list[ReasonBucket]
    failed: int
    since: str | None = None
