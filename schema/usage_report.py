"""Usage reports: what calls cost, by app and user, told to a payment system in batches with ids of their own.

A batch is told until the payment system has it, always under the same id, so however often it is sent it counts once.
What changes a call that was reported goes into a later batch, as the difference.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schema.correction import Reason
from schema.errors import LedgerError
from schema.event import event
from schema.ids import AppId, Name, ledger_source

NOUN = "usage_report"
SOURCE = ledger_source(NOUN)
REPORTING_NOUN = "usage_reporting"
REPORTING_SOURCE = ledger_source(REPORTING_NOUN)
REPORTING_ID = "reporting"  # there is one reporting

DECIMALS_MAX = 10  # amounts have no more
ERROR_CHARS_MAX = 300

BatchStatus = Literal["pending", "claimed", "reported", "failed", "dead"]
# What sending came to. `refused`: sending the same again is of no use.
SendOutcome = Literal["accepted", "duplicate", "failed", "refused"]
Decimals = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]
BatchId = Annotated[str, Meta(pattern=r"^ur-[0-9a-f]{40}\Z", description="The ledger's own id of a batch.")]


class ReportSettled(LedgerError):
    """This batch was reported; sending it again would be of no use."""

    code = "report_settled"
    hint = "What the payment system lacks is shown by GET /v1/usage-reports/reconciliation."


class NoPaymentSystem(LedgerError):
    """This service reports to no payment system."""

    code = "no_payment_system"
    hint = "Set USAGE_LEDGER_PAYMENT_SYSTEM and what it needs, then restart the service."


class PaymentFailed(LedgerError):
    """The payment system gave no usable answer."""

    code = "payment_failed"
    hint = "The detail names what it answered; ask again, or look at the payment system itself."


@event("usage_reporting.started", 1)
class ReportingStarted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """From the event after this position on, what calls cost is reported."""

    after: int


@event("usage_reporting.paused", 1)
class ReportingPaused(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Nothing is sent until it is resumed; batches go on being made."""

    reason: Reason | None = None


@event("usage_reporting.resumed", 1)
class ReportingResumed(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Batches are sent again."""

    reason: Reason | None = None


class _Batch(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A batch as events tell of it: `after` and `until` bound the positions that it is about."""

    id: BatchId
    app: AppId
    user_id: Name | None = None
    after: int
    until: int
    calls: int
    amount: str
    value: str
    decimals: Decimals
    attempts: int


@event("usage_report.reported", 1)
class UsageReported(_Batch, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The payment system has a batch; `duplicate` where it said that it had it before."""

    duplicate: bool = False


@event("usage_report.dead", 1)
class UsageReportDead(_Batch, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A batch is not sent any more until someone says so."""

    error: str


@event("usage_report.retried", 1)
class UsageReportRetried(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A batch is to be sent again, now."""

    id: BatchId
    reason: Reason | None = None


class Moved(Struct, frozen=True):
    """What a stretch of the journal adds to what an app's user is to pay. `until` is the last position of it."""

    app: str
    user_id: str  # empty: none
    amount_e10: int
    calls: int
    tokens: int
    until: int


class Cut(Struct, frozen=True):
    """When what is collected becomes a batch: so long after its first call, or with so many calls; and its unit."""

    interval_us: int
    calls_max: int
    decimals: int


class StartReporting(Struct):
    """Command: collect from now on, or from the first event of the journal; once."""

    received_at_us: int
    from_beginning: bool
    actor: str = "ledger:usage_report"


class CollectUsage(Struct):
    """Command: take in what the events after `after` until `until` moved; nothing, where that was done already."""

    received_at_us: int
    after: int
    until: int
    moved: tuple[Moved, ...]


class CutBatches(Struct):
    """Command: make batches of what is due, a bounded number."""

    received_at_us: int
    cut: Cut
    limit: int


class ClaimBatches(Struct):
    """Command: take on the sending of what is due, for a while; none sends for longer.

    `resend_us`: for so long the payment system knows an id again.
    """

    received_at_us: int
    limit: int
    claim_us: int
    resend_us: int | None
    actor: str = "ledger:usage_report"


class FinishBatch(Struct):
    """Command: what sending a claimed batch came to. `jitter_ppm` was drawn: a part of the wait, in millionths."""

    received_at_us: int
    id: str
    claim: int
    outcome: SendOutcome
    tries_max: int
    jitter_ppm: int
    error: str | None = None
    retry_after_s: int | None = None
    actor: str = "ledger:usage_report"


class RetryBatch(Struct):
    """Command: send a batch again, now."""

    actor: str
    received_at_us: int
    id: str
    reason: str | None


class PauseReporting(Struct):
    """Command: stop sending, or go on."""

    actor: str
    received_at_us: int
    paused: bool
    reason: str | None


class PruneBatches(Struct):
    """Command: forget batches that were reported long ago; their sums stay."""

    received_at_us: int
    limit: int


class PostedReason(Struct, kw_only=True, forbid_unknown_fields=True):
    """Why, as kept in the journal. The body may be left out."""

    reason: Reason | None = None


class BatchFilter(Struct, kw_only=True):
    """Which batches; None means any."""

    status: BatchStatus | None = None
    app: AppId | None = None
    user_id: Name | None = None


class BatchView(Struct, kw_only=True):
    """A batch: `amount` in credits, `value` the integer that is sent, in units of ten to the minus `decimals`.

    It is about calls, and changes of calls, at positions over `after` until `until`. `due_at` is when it is sent next,
    or taken from a process that does not finish.
    """

    id: str
    status: BatchStatus
    app: str
    user_id: str | None
    customer: str
    amount: str
    value: str
    decimals: int
    calls: int
    tokens: int
    after: int
    until: int
    created_at: str
    attempts: int
    due_at: str | None
    reported_at: str | None
    duplicate: bool
    error: str | None


class ReportingView(Struct, kw_only=True):
    """How reporting stands. `behind` counts events that are not collected yet, `oldest_age_s` is of what is unsent."""

    started: bool
    paused: bool
    payment_system: str | None
    started_after: int
    position: int
    behind: int
    collecting: int
    batches: dict[BatchStatus, int]
    oldest_age_s: int | None


GapKind = Literal["ledger", "unreported", "remote"]


class Reconciled(Struct, kw_only=True):
    """One app's user. Amounts in credits: `ledger` is what calls cost since reporting began.

    `reported` is what the payment system took, `open` what is yet to be sent, in batches or being collected, of which
    `dead` is not sent by itself. `remote` is what the payment system says, null where it cannot be asked.
    `gaps`: `ledger` where ledger is not reported and open together, `unreported` where something is dead, `remote`
    where the payment system has another sum than what was reported.
    """

    app: str
    user_id: str | None
    customer: str
    ledger: str
    reported: str
    open: str
    dead: str
    remote: str | None
    gaps: list[GapKind]


def customer_of(app: str, user_id: str | None) -> str:
    """Whom the payment system is to charge: the user, or the app for calls without one."""
    return user_id or app
