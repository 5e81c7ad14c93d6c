"""A lease: the loan of a credential for one call, and the outcome that comes back.

Leases are state, not events: what an auditor needs of them are the calls, which name their credential, and the events
of the credential itself. A lease is kept for some weeks, and its id is idempotent while it is kept.
"""

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from schema.credential import Counters, CredentialType, CredentialView, QuotaKind
from schema.ids import CLIENT_ID_LENGTH_MAX, ClientId, Name
from schema.times import DAY_US

LEASES_KEPT_DAYS = 35
LEASES_KEPT_US = LEASES_KEPT_DAYS * DAY_US
EXPIRES_IN_S_DEFAULT = 600
EXPIRES_IN_S_MAX = 86_400
RETRY_AFTER_S_MAX = 31_536_000
MODEL_CHARS_MAX = CLIENT_ID_LENGTH_MAX + 1 + 200  # `provider/model`

CredentialStatus = Literal["normal", "disabled", "error", "unreadable", "rate_limited", "daily_limit", "monthly_limit"]
Outcome = Literal["success", "auth", "payment", "rate_limited", "content", "server", "timeout", "not_sent"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


class LeaseRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is asked for: a credential of one provider, or of any that offers a model."""

    id: ClientId | None = None
    provider: ClientId | None = None
    model: (
        Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS_MAX, description="A model, or `provider/model`.")]
        | None
    ) = None
    expires_in_s: Annotated[int, Meta(ge=1, le=EXPIRES_IN_S_MAX, description="Seconds.")] = EXPIRES_IN_S_DEFAULT


class LeaseReport(Struct, kw_only=True, forbid_unknown_fields=True):
    """How the call went. `retry_after_s` is what the vendor asked for when it limited the rate."""

    outcome: Outcome
    retry_after_s: Annotated[int, Meta(ge=0, le=RETRY_AFTER_S_MAX, description="Seconds.")] | None = None


class CredentialResetRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which counters are set back: what a day or month has used, errors and penalty, or all. `reactivate` enables."""

    counters: Counters = "all"
    reactivate: bool = False


class LeaseCredential(Struct):
    """Command: lend a credential. `app` is the caller's, None for an admin; the id was drawn where none was given."""

    actor: str
    received_at_us: int
    app: str | None
    id: str
    wanted: LeaseRequest


class ReportLease(Struct):
    """Command: how a lease ended. `app` is the caller's, None for an admin."""

    actor: str
    received_at_us: int
    app: str | None
    id: str
    report: LeaseReport


class TakeBackLease(Struct):
    """Command: the secret of a lease just made could not be opened. It is kept as not sent, under the id `spare`."""

    received_at_us: int
    id: str
    credential: str
    spare: str
    actor: str = "ledger"


class PruneLeases(Struct):
    """Command: forget what is older than leases are kept, at most `limit` of them."""

    received_at_us: int
    limit: int
    actor: str = "ledger"


class ClaimRechecks(Struct):
    """Command: take on the disabled credentials that are to be looked at again, at most `limit` of them.

    And at most `per_provider` of each provider, none of those that are `busy`: a slow vendor keeps no other's waiting.
    """

    received_at_us: int
    limit: int
    per_provider: int
    busy: tuple[str, ...] = ()
    actor: str = "ledger"


class RecheckCredential(Struct):
    """Command: what looking at a disabled credential came to. `claim` is until when it was claimed for that."""

    received_at_us: int
    id: str
    claim: int
    works: bool
    actor: str = "ledger"


class ResetCredential(Struct):
    """Command: set a credential's counters back, and perhaps bring it back into use."""

    actor: str
    received_at_us: int
    id: str
    reset: CredentialResetRequest


class LeaseView(Struct, kw_only=True):
    """A lease as read: never with the secret. `model` is what was asked for, if it was a model."""

    id: str
    provider: str
    credential_id: str
    model: str | None
    app: str | None
    actor: str
    leased_at: str
    expires_at: str
    outcome: Outcome | None
    retry_after_s: int | None
    reported_at: str | None


class QuotaUsage(Struct, kw_only=True):
    """What was lent in a day or month of the credential's zone; limit and percent are null without a limit."""

    period: str
    used: int
    limit: int | None
    percent: int | None
    resets_at: str


class CredentialFigures(Struct, kw_only=True):
    """How a credential stands: its status, what was lent of it, and the calls that named it.

    `near_limit` is from 90 percent of a quota on; `errors` are those in a row; `calls` are finished calls.
    """

    status: CredentialStatus
    near_limit: bool
    usage: dict[QuotaKind, QuotaUsage]
    errors: int
    penalised_until: str | None
    recheck_at: str | None
    last_leased_at: str | None
    calls: int
    last_used_at: str | None


class CredentialDetails(CredentialView, kw_only=True):
    """A credential as read, and how it stands: the fields of `CredentialFigures`."""

    status: CredentialStatus
    near_limit: bool
    usage: dict[QuotaKind, QuotaUsage]
    errors: int
    penalised_until: str | None
    recheck_at: str | None
    last_leased_at: str | None
    calls: int
    last_used_at: str | None


class ProbeTarget(Struct, frozen=True, kw_only=True):
    """What a look at a credential needs. It is not printed."""

    provider: str
    provider_type: str
    base_url: str | None
    credential: str
    type: CredentialType
    secret: dict[str, str]

    def __repr__(self) -> str:
        return f"ProbeTarget(credential={self.credential!r})"


def can_be_probed(type_: CredentialType, base_url: str | None) -> bool:
    """Whether a look at a credential can say anything: a vendor with an address is asked with a key."""
    return type_ == "api_key" and base_url is not None


class LeaseAnswer(Struct, kw_only=True):
    """A credential, lent: `secret` has the fields of its type. Not to be logged or stored."""

    lease_id: str
    provider: str
    credential_id: str
    secret: dict[str, str]
    expires_at: str
    duplicate: bool

    def __repr__(self) -> str:
        return f"LeaseAnswer({self.lease_id!r})"


class LeaseFilter(Struct, kw_only=True):
    """Which leases; None means any."""

    credential_id: ClientId | None = None
    provider: ClientId | None = None
    app: Name | None = None
    outcome: Outcome | None = None
