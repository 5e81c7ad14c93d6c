"""Re-rating: the calls of a range are priced anew, by events that name what they replace, in batches."""

from typing import Literal

from msgspec import Struct

from schema.correction import Reason
from schema.event import event
from schema.ids import AppId, ClientId, Name, ledger_source
from schema.model_call import CallType, RatingPolicy
from schema.times import TimeText

NOUN = "rerate"
SOURCE = ledger_source(NOUN)
STEP_CALLS_MAX = 500  # calls looked at in one transaction

RerateStatus = Literal["running", "completed", "reverting", "reverted"]


class RerateFilter(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which calls of the range."""

    app: AppId | None = None
    provider: Name | None = None
    model: Name | None = None
    type: CallType | None = None
    user_id: Name | None = None
    cost_status: Literal["priced", "unpriced", "estimated", "free"] | None = None


class PostedRerate(Struct, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A re-rate as posted. `dry_run` works out the totals and stores nothing."""

    id: ClientId
    from_: TimeText
    to: TimeText
    filter: RerateFilter | None = None
    reason: Reason | None = None
    dry_run: bool = False


class Amounts(Struct, kw_only=True):
    """Totals over calls: credits as decimal strings, and how many have no price."""

    cost: str = "0"
    vendor_cost: str = "0"
    unpriced: int = 0


class Progress(Struct, kw_only=True, omit_defaults=True):
    """What a run has done so far, and where it goes on: below the start (microseconds) and position of a call."""

    seen: int = 0
    changed: int = 0
    skipped: int = 0
    before: Amounts
    after: Amounts
    next: tuple[int, int] | None = None


@event("rerate.started", 1)
class RerateStarted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"from_": "from"}):
    """A re-rate began. It prices by the rates that are set when each batch is decided."""

    id: ClientId
    from_: TimeText
    to: TimeText
    filter: RerateFilter | None = None
    reason: Reason | None = None


@event("rerate.advanced", 1)
class RerateAdvanced(Struct, kw_only=True, omit_defaults=True):
    """A batch was re-rated, or taken back: `progress` is the whole run's. Without `next` it is over."""

    id: ClientId
    reverting: bool = False
    progress: Progress


@event("rerate.reverting", 1)
class RerateReverting(Struct, kw_only=True, omit_defaults=True):
    """A re-rate is being taken back: each of its calls gets the rating that it had before."""

    id: ClientId
    reason: Reason | None = None


class StartRerate(Struct, kw_only=True):
    """Command: begin a re-rate."""

    actor: str
    received_at_us: int
    rerate: RerateStarted


class AdvanceRerate(Struct, kw_only=True):
    """Command: do the next batch of a re-rate that is running or being reverted."""

    received_at_us: int
    id: str
    policy: RatingPolicy
    limit: int = STEP_CALLS_MAX
    actor: str = "ledger"


class RevertRerate(Struct, kw_only=True):
    """Command: take a completed re-rate back."""

    actor: str
    received_at_us: int
    data: RerateReverting


class RerateView(Struct, kw_only=True, rename={"from_": "from"}):
    """A re-rate as read. `before` and `after` are totals over the calls that it has seen."""

    id: str
    status: RerateStatus | Literal["dry_run"]
    from_: str
    to: str
    filter: RerateFilter | None
    reason: str | None
    seen: int
    changed: int
    skipped: int
    before: Amounts
    after: Amounts
    position: int | None = None
    started_at: str | None = None
    actor: str | None = None
