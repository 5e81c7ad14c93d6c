"""What a call would cost: asked before it is made, answered as it would be charged."""

from typing import Any

import msgspec
from msgspec import Struct

from schema.ids import AppId, ClientId, Name
from schema.model_call import (
    Attempt,
    CallError,
    CallType,
    CostStatus,
    FinalStatus,
    FreeData,
    Milliseconds,
    ModelCall,
    PriceContext,
    Usage,
)
from schema.times import TimeText

UNNAMED = "estimate"


class EstimatedCall(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A call as it would be posted. `id` may be left out; `status` is then success, `started_at` now."""

    id: ClientId | None = None
    app: AppId | None = None
    provider: Name
    model: Name
    type: CallType
    status: FinalStatus | None = None
    started_at: TimeText | None = None
    duration_ms: Milliseconds | None = None
    ttfb_ms: Milliseconds | None = None
    usage: Usage | None = None
    user_id: Name | None = None
    account: Name | None = None
    credential_id: Name | None = None
    request_id: Name | None = None
    trace_id: Name | None = None
    attempt: Attempt | None = 1
    provider_ttfb_ms: Milliseconds | None = None
    error: CallError | None = None
    price_context: PriceContext | None = None
    metadata: FreeData | None = None


class EstimateLine(Struct, kw_only=True):
    """A part of a cost: `quantity` (a count, or seconds) times `rate` is exactly `amount`, in credits."""

    unit: str
    quantity: str
    rate: str
    amount: str


class Estimate(Struct, kw_only=True):
    """What a call comes to. The lines are exact; their sum, rounded half up to ten decimals, is the cost."""

    cost: str | None
    input_cost: str | None
    vendor_cost: str | None
    cost_status: CostStatus
    cost_reason: str | None
    rate_id: str | None
    rate_position: int | None
    lines: list[EstimateLine]


def as_posted(call: EstimatedCall, now: str) -> ModelCall:
    """The call that would be posted; `now` is its start where it names none."""
    absent: dict[str, Any] = {"id": UNNAMED, "status": "success", "started_at": now}
    given = {name: value for name, value in msgspec.structs.asdict(call).items() if value is not None}
    return ModelCall(**(absent | given))
