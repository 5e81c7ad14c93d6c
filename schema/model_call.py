"""A call to a model, as posted and as events.

`gc=False`: calls come by the thousand a second and hold no cycles, so the collector need not look at them.
"""

from functools import lru_cache
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schema.charge import Charge
from schema.event import Payload, event, upcast
from schema.ids import AppId, ClientId, Name, app_source
from schema.times import TimeText

NOUN = "model_call"
QUANTITY_MAX = 10**12
ERROR_MESSAGE_CHARS_MAX = 1_000

CallType = Literal["chat_completion", "embedding", "image_generation", "audio_generation", "video", "custom"]
FinalStatus = Literal["success", "failed"]
Status = Literal["processing", "success", "failed", "timed_out"]
CostStatus = Literal["priced", "unpriced", "estimated", "free"]

Quantity = Annotated[int, Meta(ge=0, le=QUANTITY_MAX)]
Milliseconds = Annotated[int, Meta(ge=0, le=QUANTITY_MAX, description="Milliseconds.")]
Attempt = Annotated[int, Meta(ge=1, le=1_000_000, description="1 for the first try; retries share request_id.")]
Seconds = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?\Z",  # below 10^12 microseconds, the limit that statistics can add up
        description="Seconds of audio or video, a decimal string with at most six digits and six decimals.",
        examples=["12.5"],
    ),
]
FreeData = Annotated[
    dict[str, Any],
    Meta(description="Free data, kept for ever: at most 16 KiB, 16 levels deep.", examples=[{"feature": "search"}]),
]


Units = Annotated[
    dict[str, Quantity],
    Meta(
        max_length=32,
        description="Other priced units: `cache_write_1h_tokens`, `input_audio_tokens`, `web_searches` … Parts of the "
        "totals above are named here once more, never added to them.",
        examples=[{"cache_write_1h_tokens": 100}],
    ),
]
PriceContext = Annotated[
    dict[str, Name],
    Meta(
        max_length=8,
        description="What else the price depends on, in the price list's words.",
        examples=[{"service_tier": "flex"}],
    ),
]


class Usage(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Quantities as reported. Input includes cached tokens, output includes reasoning: subsets are never added."""

    # None marks "absent" here so that the two totals are always written, even when they are 0.
    input_tokens: Quantity | None = None
    output_tokens: Quantity | None = None
    cache_read_tokens: Quantity | None = 0
    cache_write_tokens: Quantity | None = 0
    reasoning_tokens: Quantity | None = 0
    images: Quantity | None = 0
    seconds: Seconds | None = "0"
    units: Units | None = None
    estimated: bool | None = False
    native: FreeData | None = None


class CallError(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Why a call failed: the vendor's code and message."""

    code: Name
    message: Annotated[str, Meta(max_length=ERROR_MESSAGE_CHARS_MAX)] | None = None


class ModelCall(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A finished call, as an application posts it.

    It is decoded once, brought to its normal form in place by `accept`, and stored as it is; after that nobody
    changes it. That is why it is not frozen.
    """

    id: ClientId
    app: AppId | None = None
    provider: Name
    model: Name
    type: CallType
    status: FinalStatus
    started_at: TimeText
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


class ModelCallStart(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A call that begins now; its end follows as `complete` or `fail`. The path names the id."""

    id: ClientId | None = None
    app: AppId | None = None
    provider: Name
    model: Name
    type: CallType
    started_at: TimeText
    user_id: Name | None = None
    account: Name | None = None
    credential_id: Name | None = None
    request_id: Name | None = None
    trace_id: Name | None = None
    attempt: Attempt | None = 1
    metadata: FreeData | None = None


class ModelCallEnd(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The end of a started call: what is given replaces what the start said, except when it started."""

    id: ClientId | None = None
    status: FinalStatus | None = None
    app: AppId | None = None
    provider: Name | None = None
    model: Name | None = None
    type: CallType | None = None
    started_at: TimeText | None = None
    duration_ms: Milliseconds | None = None
    ttfb_ms: Milliseconds | None = None
    usage: Usage | None = None
    user_id: Name | None = None
    account: Name | None = None
    credential_id: Name | None = None
    request_id: Name | None = None
    trace_id: Name | None = None
    attempt: Attempt | None = None
    provider_ttfb_ms: Milliseconds | None = None
    error: CallError | None = None
    price_context: PriceContext | None = None
    metadata: FreeData | None = None


class Rating(Struct, kw_only=True, omit_defaults=True, gc=False):
    """What a call cost when it was taken: credits as decimal strings, and the position of the rate it used."""

    cost: str | None = None
    input_cost: str | None = None
    vendor_cost: str | None = None
    status: CostStatus
    reason: str | None = None
    rate: int | None = None


@event("model_call.recorded", 2)
class ModelCallRecorded(ModelCall, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A finished call in one event: the posted fields under the posted names, its price, and who was charged."""

    rating: Rating | None = None
    charge: Charge | None = None


@event("model_call.started", 1)
class ModelCallStarted(ModelCallStart, kw_only=True, omit_defaults=True, gc=False):
    """A call began; at `times_out_at` it is given up unless it has ended."""

    times_out_at: TimeText


@event("model_call.timed_out", 1)
class ModelCallTimedOut(ModelCallStart, kw_only=True, omit_defaults=True, gc=False):
    """A started call was given up. `started` is the position of its start."""

    started: int


class Replaced(Struct, kw_only=True, gc=False):
    """What an end takes back: the counted time-out with this event id."""

    id: str
    call: ModelCallTimedOut


class _Finished(ModelCall, kw_only=True, omit_defaults=True, gc=False):
    started: int
    replaces: Replaced | None = None
    rating: Rating | None = None
    charge: Charge | None = None


@event("model_call.completed", 2)
class ModelCallCompleted(_Finished, kw_only=True, omit_defaults=True, gc=False):
    """A started call ended well: the whole call, so that no reader needs its start."""


@event("model_call.failed", 2)
class ModelCallFailed(_Finished, kw_only=True, omit_defaults=True, gc=False):
    """A started call failed: the whole call, so that no reader needs its start."""


@upcast("model_call.recorded", 1)
@upcast("model_call.completed", 1)
@upcast("model_call.failed", 1)
def unrated(payload: Payload) -> Payload:
    """The first versions are of a time without rates: such a call has no rating until it is re-rated."""
    return payload


ModelCallFinished = ModelCallRecorded | ModelCallCompleted | ModelCallFailed
ModelCallEvent = ModelCallFinished | ModelCallStarted | ModelCallTimedOut
FINISHED = (ModelCallRecorded, ModelCallCompleted, ModelCallFailed)
MODEL_CALL_EVENTS = (*FINISHED, ModelCallStarted, ModelCallTimedOut)


class RatingPolicy(Struct, frozen=True):
    """What becomes of a call without a price (kept as unpriced, or refused), and of what a failed call used."""

    unpriced: Literal["accept", "reject"] = "accept"
    failed: Literal["charge", "free"] = "charge"


DEFAULT_POLICY = RatingPolicy()


class RecordModelCall(Struct, gc=False):
    """Command: take a finished call. `call` is accepted and names its app."""

    actor: str
    received_at_us: int
    started_at_us: int
    call: ModelCallRecorded
    policy: RatingPolicy = DEFAULT_POLICY
    any_account: bool = False  # whether it may name an account that is not its app's


class StartModelCall(Struct, gc=False):
    """Command: a call begins. It times out `timeout_us` after the ledger heard of it."""

    actor: str
    received_at_us: int
    started_at_us: int
    timeout_us: int
    call: ModelCallStart


class FinishModelCall(Struct, gc=False):
    """Command: a started call ends."""

    actor: str
    received_at_us: int
    id: str
    app: str
    status: FinalStatus
    end: ModelCallEnd
    policy: RatingPolicy = DEFAULT_POLICY
    any_account: bool = False


class SweepModelCalls(Struct):
    """Command: time out what is due by `received_at_us`, at most `limit` calls at once."""

    received_at_us: int
    limit: int
    actor: str = "ledger"


@lru_cache(maxsize=4096)
def source_of(app: str) -> str:
    """Where an app's calls come from."""
    return app_source(app, NOUN)


def subject_of(app: str, id_: str) -> str:
    """The stream of one call."""
    return f"{NOUN}/{app}/{id_}"
