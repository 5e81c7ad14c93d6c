"""Changes of finished calls: corrections, voids and re-rates. Nothing is edited; each is an event.

Each event carries what statistics counted of the call before it, so that no projection needs another event to apply it.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.charge import Charge
from schema.event import event
from schema.ids import AppId, ClientId, Name
from schema.model_call import (
    Attempt,
    CallError,
    CallType,
    FinalStatus,
    FreeData,
    Milliseconds,
    ModelCall,
    PriceContext,
    Rating,
    RatingPolicy,
    Status,
    Usage,
)
from schema.times import TimeText

Reason = Annotated[
    str,
    Meta(min_length=1, max_length=1_000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z", description="Why; one line of text."),
]
Basis = Literal["corrected", "billed"]


class Counted(Struct, kw_only=True, omit_defaults=True, gc=False):
    """What statistics counted of a call, and the position of the event that said so.

    Where there are budgets, also what they counted it by: the account that was charged, and its tags.
    """

    position: int
    user_id: str | None = None
    provider: str
    model: str
    credential_id: str | None = None
    type: CallType
    status: Status
    started_at: TimeText
    usage: Usage | None = None
    duration_ms: int | None = None
    ttfb_ms: int | None = None
    rating: Rating | None = None
    charged: str | None = None
    tags: dict[str, str] | None = None


class ChargeChange(Struct, kw_only=True, omit_defaults=True, gc=False):
    """What a change moved on accounts, and what the call has been charged in all since; at most two accounts."""

    moves: list[Charge]
    stands: Charge | None = None


class CallCorrection(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a correction sets: given fields replace the call's; null takes an optional field away."""

    provider: Name | UnsetType = UNSET
    model: Name | UnsetType = UNSET
    type: CallType | UnsetType = UNSET
    status: FinalStatus | UnsetType = UNSET
    started_at: TimeText | UnsetType = UNSET
    duration_ms: Milliseconds | UnsetType | None = UNSET
    ttfb_ms: Milliseconds | UnsetType | None = UNSET
    usage: Usage | UnsetType | None = UNSET
    user_id: Name | UnsetType | None = UNSET
    account: Name | UnsetType | None = UNSET
    credential_id: Name | UnsetType | None = UNSET
    request_id: Name | UnsetType | None = UNSET
    trace_id: Name | UnsetType | None = UNSET
    attempt: Attempt | UnsetType = UNSET
    provider_ttfb_ms: Milliseconds | UnsetType | None = UNSET
    error: CallError | UnsetType | None = UNSET
    price_context: PriceContext | UnsetType | None = UNSET
    metadata: FreeData | UnsetType | None = UNSET


class PostedCorrection(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A correction as posted: either `set` or `void`."""

    id: ClientId
    reason: Reason
    app: AppId | None = None
    set: CallCorrection | None = None
    void: bool = False


@event("model_call.corrected", 1)
class ModelCallCorrected(ModelCall, kw_only=True, omit_defaults=True, gc=False):
    """A finished call as it should have been: the whole call, rated anew. `recorded` is its first event's position."""

    recorded: int
    correction: ClientId
    reason: Reason
    set: dict[str, Any]
    replaces: Counted
    rating: Rating | None = None
    charges: ChargeChange | None = None


@event("model_call.voided", 1)
class ModelCallVoided(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A finished call should not have been counted. It stays readable, and is in no sum."""

    id: ClientId
    app: AppId
    recorded: int
    correction: ClientId
    reason: Reason
    replaces: Counted
    charges: ChargeChange | None = None


@event("model_call.rerated", 1)
class ModelCallRerated(Struct, kw_only=True, omit_defaults=True, gc=False):
    """A call's cost was worked out anew; `rerate` names the run, `reverted` that it took the run back."""

    id: ClientId
    app: AppId
    recorded: int
    rerate: ClientId
    reverted: bool = False
    replaces: Counted
    rating: Rating
    charges: ChargeChange | None = None


ModelCallChange = ModelCallVoided | ModelCallRerated
CHANGES = (ModelCallVoided, ModelCallRerated)


class CorrectModelCall(Struct, kw_only=True):
    """Command: correct or void a finished call. `app` names whose."""

    actor: str
    received_at_us: int
    id: str
    app: str
    correction: PostedCorrection
    policy: RatingPolicy
