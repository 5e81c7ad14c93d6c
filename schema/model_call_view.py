"""A call as its readers see it: the receipt of a post, and the whole call."""

from typing import Any

import msgspec
from msgspec import Struct

from schema.entry import Recorded
from schema.model_call import (
    MODEL_CALL_EVENTS,
    CallError,
    CallType,
    CostStatus,
    ModelCall,
    ModelCallStarted,
    Status,
)
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
    units: dict[str, int] | None = None
    estimated: bool = False
    native: dict[str, Any] | None = None


class ModelCallView(Struct, kw_only=True):
    """A call as read. Durations are milliseconds; `position` is that of its latest event."""

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
    recorded_at: str
    position: int


def receipt(recorded: Recorded, *, duplicate: bool) -> Receipt:
    """The receipt of an event: derived from it alone, so a duplicate gets the first one."""
    reason = "unmeasured" if _unmeasured(recorded.data) else "no_price"
    return Receipt(
        id=recorded.id.partition("/")[0],
        position=recorded.position,
        recorded_at=format_time(recorded.recorded_at_us),
        duplicate=duplicate,
        cost_reason=reason,
    )


def _unmeasured(data: Struct) -> bool:
    return isinstance(data, ModelCall) and data.status == "success" and data.usage is None


def view(recorded: Recorded) -> ModelCallView:
    """The call as its latest event tells it."""
    data = recorded.data
    assert isinstance(data, MODEL_CALL_EVENTS)
    fields = {name: getattr(data, name) for name in _VIEWED if hasattr(data, name)}
    if not isinstance(data, ModelCall):
        fields["status"] = "processing" if isinstance(data, ModelCallStarted) else "timed_out"
    if _unmeasured(data):
        fields["cost_reason"] = "unmeasured"
    if isinstance(data, ModelCall) and data.usage is not None:
        fields["usage"] = UsageView(**msgspec.structs.asdict(data.usage))
    return ModelCallView(recorded_at=format_time(recorded.recorded_at_us), position=recorded.position, **fields)


_STORED = {*ModelCall.__struct_fields__, *ModelCallStarted.__struct_fields__}
_VIEWED = tuple(field for field in ModelCallView.__struct_fields__ if field in _STORED)
