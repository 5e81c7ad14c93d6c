"""A call as its readers see it: the receipt of a post, and the whole call."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from schema.correction import ModelCallCorrected
from schema.entry import Recorded
from schema.model_call import (
    MODEL_CALL_EVENTS,
    CallError,
    CallType,
    CostStatus,
    ModelCall,
    ModelCallStarted,
    Rating,
    Status,
)
from schema.money import COST_DECIMALS, format_scaled
from schema.times import format_time


class Receipt(Struct, kw_only=True):
    """What the ledger promises about one call. `cost` is a decimal string of credits, or null."""

    id: str
    position: int
    recorded_at: str
    duplicate: bool
    cost: str | None = None
    cost_status: CostStatus = "unpriced"
    cost_reason: str | None = "no_price"


class UsageView(Struct, kw_only=True):
    """Every quantity, zeros included. `seconds` is a decimal string."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    seconds: str = "0"
    units: dict[str, int] | UnsetType = UNSET
    estimated: bool = False
    native: dict[str, Any] | None = None


class ModelCallView(Struct, kw_only=True):
    """A call as read. Durations are milliseconds; `position` is that of its latest event.

    `revision` counts its corrections, voids and re-rates.
    """

    id: str
    app: str
    provider: str
    model: str
    type: CallType
    status: Status
    started_at: str
    duration_ms: int | None = None
    ttfb_ms: int | None = None
    provider_ttfb_ms: int | None = None
    usage: UsageView | None = None
    user_id: str | None = None
    account: str | None = None
    credential_id: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    attempt: int = 1
    error: CallError | None = None
    price_context: dict[str, str] | None = None
    metadata: dict[str, Any] | None = None
    cost: str | None = None
    vendor_cost: str | None = None
    cost_status: CostStatus = "unpriced"
    cost_reason: str | None = "no_price"
    rate_position: int | None = None
    revision: int = 0
    voided: bool = False
    recorded_at: str
    position: int


def receipt(recorded: Recorded, *, duplicate: bool) -> Receipt:
    """The receipt of an event: derived from it alone, so a duplicate gets the first one."""
    rating = rating_of(recorded.data)
    return Receipt(
        id=recorded.id.partition("/")[0],
        position=recorded.position,
        recorded_at=format_time(recorded.recorded_at_us),
        duplicate=duplicate,
        cost=rating.cost,
        cost_status=rating.status,
        cost_reason=rating.reason,
    )


UNRATED = Rating(status="unpriced", reason="no_price")
UNFINISHED = Rating(status="unpriced", reason="unfinished")


def rating_of(data: Struct) -> Rating:
    """What an event says of its call's cost; calls of a time without rates have none."""
    if not isinstance(data, ModelCall):
        return UNFINISHED
    return getattr(data, "rating", None) or UNRATED


class CallRow(Struct, frozen=True):
    """What the projection knows of a call: where its events are, and what it costs as of now."""

    position: int
    event_position: int
    rated: int
    revision: int
    voided: int
    cost_e10: int | None
    input_cost_e10: int | None
    vendor_cost_e10: int | None
    cost_status: CostStatus
    cost_reason: str | None
    rate: int | None


def credits_text(amount_e10: int | None) -> str | None:
    """An amount as a decimal string; None stays None."""
    return None if amount_e10 is None else format_scaled(amount_e10, COST_DECIMALS)


def view(recorded: Recorded, row: CallRow) -> ModelCallView:
    """A call: the whole of it by the event that tells it, its cost by the row."""
    data = recorded.data
    assert isinstance(data, (*MODEL_CALL_EVENTS, ModelCallCorrected))
    fields = {name: getattr(data, name) for name in _VIEWED if hasattr(data, name)}
    if not isinstance(data, ModelCall):
        fields["status"] = "processing" if isinstance(data, ModelCallStarted) else "timed_out"
    if isinstance(data, ModelCall) and data.usage is not None:
        usage: dict[str, Any] = msgspec.structs.asdict(data.usage)
        usage["units"] = usage["units"] or UNSET
        fields["usage"] = UsageView(**usage)
    return ModelCallView(
        recorded_at=format_time(recorded.recorded_at_us),
        position=max(recorded.position, row.rated),
        cost=credits_text(row.cost_e10),
        vendor_cost=credits_text(row.vendor_cost_e10),
        cost_status=row.cost_status,
        cost_reason=row.cost_reason,
        rate_position=row.rate,
        revision=max(row.revision, 0),  # below 0 it had not ended
        voided=bool(row.voided),
        **fields,
    )


_STORED = {*ModelCall.__struct_fields__, *ModelCallStarted.__struct_fields__}
_VIEWED = tuple(field for field in ModelCallView.__struct_fields__ if field in _STORED)
