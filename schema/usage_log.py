"""Calls as lines of a bill: what was used, what it cost, what is left of it."""

from typing import Any, Literal

from msgspec import Struct

from schema.entry import Recorded
from schema.model_call import CallType, CostStatus, Status
from schema.model_call_view import CallRow, UsageView, credits_text, view

RequestType = Literal["chat", "embedding", "image", "audio", "video", "custom"]
REQUEST_TYPES: dict[CallType, RequestType] = {
    "chat_completion": "chat", "embedding": "embedding", "image_generation": "image", "audio_generation": "audio",
    "video": "video", "custom": "custom",
}  # fmt: skip


class UsageLog(Struct, kw_only=True):
    """A finished call. Costs are credits, null where there is no price; output_cost is total_cost − input_cost.

    `margin` is total_cost − vendor_cost. `conversation_id` and `message_id` are texts of the call's metadata.
    """

    id: str
    app: str
    user_id: str | None
    provider: str
    model: str
    request_type: RequestType
    type: CallType
    status: Status
    input_tokens: int
    output_tokens: int
    total_tokens: int
    images: int
    seconds: str
    input_cost: str | None
    output_cost: str | None
    total_cost: str | None
    vendor_cost: str | None
    margin: str | None
    cost_status: CostStatus
    cost_reason: str | None
    request_id: str | None
    conversation_id: str | None
    message_id: str | None
    started_at: str
    recorded_at: str
    position: int
    revision: int


def usage_log(recorded: Recorded, row: CallRow) -> UsageLog:
    """A finished call: what it used by the event that tells it, what it cost by the row."""
    call = view(recorded, row)
    usage = call.usage or UsageView()
    metadata = call.metadata or {}
    return UsageLog(
        id=call.id,
        app=call.app,
        user_id=call.user_id,
        provider=call.provider,
        model=call.model,
        request_type=REQUEST_TYPES[call.type],
        type=call.type,
        status=call.status,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        images=usage.images,
        seconds=usage.seconds,
        input_cost=credits_text(row.input_cost_e10),
        output_cost=_less(row.cost_e10, row.input_cost_e10),
        total_cost=call.cost,
        vendor_cost=call.vendor_cost,
        margin=_less(row.cost_e10, row.vendor_cost_e10),
        cost_status=call.cost_status,
        cost_reason=call.cost_reason,
        request_id=call.request_id,
        conversation_id=_text(metadata, "conversation_id"),
        message_id=_text(metadata, "message_id"),
        started_at=call.started_at,
        recorded_at=call.recorded_at,
        position=call.position,
        revision=call.revision,
    )


def _less(amount_e10: int | None, part_e10: int | None) -> str | None:
    return None if amount_e10 is None or part_e10 is None else credits_text(amount_e10 - part_e10)


def _text(metadata: dict[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    return value if isinstance(value, str) else None
