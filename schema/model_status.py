"""Whether models answer, as the latest calls tell: derived when it is read, so that recording a call costs nothing."""

from typing import Literal

from msgspec import Struct

from schema.ids import Name
from schema.model_call import CallType

ITEMS_MAX = 1_000
SCAN_CALLS_MAX = 20_000

ModelState = Literal["available", "error", "unknown"]
# Codes of failures that say nothing of the model: what was asked for was refused, too much was asked for, or nothing
# was sent. Any other failure counts, also one without a code. Compared in lower case, `-` and a space as `_`.
NOT_THE_MODEL = frozenset({
    # as outcomes of leases
    "content", "rate_limited", "not_sent",
    # as HTTP statuses
    "400", "409", "413", "415", "422", "429", "http_400", "http_409", "http_413", "http_415", "http_422", "http_429",
    # as vendors name them
    "rate_limit", "rate_limit_error", "rate_limit_exceeded", "too_many_requests", "throttlingexception",
    "resource_exhausted", "tokens", "requests", "content_filter", "content_policy", "content_policy_violation",
    "content_filtered", "safety", "responsibleaipolicyviolation", "invalid_request", "invalid_request_error",
    "bad_request", "invalid_argument", "validationexception", "context_length_exceeded", "string_above_max_length",
    "request_too_large", "cancelled", "canceled", "client_cancelled",
})  # fmt: skip


class ModelStatusFilter(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which models; null means any."""

    provider: Name | None = None
    model: Name | None = None
    type: CallType | None = None


class ModelStatus(Struct, kw_only=True):
    """What the latest call that tells anything says: the call began `at` and had this duration.

    `error` is its code where it failed. `type` is null for a registered model of which no call was found.
    """

    provider: str
    model: str
    type: CallType | None
    status: ModelState
    latency_ms: int | None = None
    ttfb_ms: int | None = None
    error: str | None = None
    at: str | None = None


class ModelStatuses(Struct, kw_only=True):
    """The statuses, by provider, model and type.

    `since`: calls that began before were not looked at; null: all were. `omitted` is how many there are beyond 1,000.
    """

    items: list[ModelStatus]
    since: str | None
    omitted: int


def tells_of_model(code: str | None) -> bool:
    """Whether a failure with this code counts as one of the model."""
    return code is None or code.strip().lower().replace("-", "_").replace(" ", "_") not in NOT_THE_MODEL
