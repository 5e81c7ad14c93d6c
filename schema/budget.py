"""Budgets: what calls may cost in a day, a month or a rolling window; one that is hard also declines what asks first.

A budget covers the calls of one scope. What is spent of it is what these calls cost, as they stand now.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import Change, Create, Delete, Kind, check_content
from schema.charge import Amount, accept_amount
from schema.errors import FieldError, InsufficientCredit, InvalidInput
from schema.event import event
from schema.hold import TAG_VALUE_CHARS_MAX, TagKey
from schema.ids import AppId, ClientId, Name, ledger_source

NOUN = "budget"
SOURCE = ledger_source(NOUN)
BUDGETS_MAX = 10_000  # in force
SCOPE_BUDGETS_MAX = 10  # in force, of one scope: so many may decline one hold
WINDOW_HOURS_MAX = 744
THRESHOLDS_MAX = 10
THRESHOLD_PERCENT_MAX = 1_000
THRESHOLDS_DEFAULT = (80, 100)

ScopeKind = Literal["account", "app", "user", "model", "tag"]
SCOPE_KINDS: tuple[ScopeKind, ...] = ("account", "app", "user", "model", "tag")
PeriodKind = Literal["day", "month", "rolling"]
Enforcement = Literal["soft", "hard"]
Timezone = Annotated[str, Meta(min_length=1, max_length=64, description="An IANA zone.", examples=["Europe/Berlin"])]
WindowHours = Annotated[int, Meta(ge=1, le=WINDOW_HOURS_MAX, description="Hours; at most 31 days.")]
Thresholds = Annotated[
    list[Annotated[int, Meta(ge=1, le=THRESHOLD_PERCENT_MAX)]],
    Meta(min_length=1, max_length=THRESHOLDS_MAX, description="Percent of the amount.", examples=[[50, 80, 100]]),
]


class BudgetScope(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """Which calls: those charged to an account, of an app, a user, a model, or with a tag.

    A tag is an entry of a call's metadata whose value is a text: `key` names it, `id` is the value. With `app` a user,
    a model or a tag counts in that app only.
    """

    kind: ScopeKind
    id: Name
    app: AppId | None = None
    key: TagKey | None = None

    @property
    def text(self) -> str:
        """One text for a scope; neither an app nor a key has a slash in it."""
        if self.kind in {"account", "app"}:
            return f"{self.kind}/{self.id}"
        key = "" if self.key is None else f"{self.key}/"
        return f"{self.kind}/{self.app or ''}/{key}{self.id}"


def scope_of(text: str) -> BudgetScope:
    """The scope that a text stands for."""
    kind, _, rest = text.partition("/")
    if kind in {"account", "app"}:
        return BudgetScope(kind=_kind(kind), id=rest)
    app, _, rest = rest.partition("/")
    if kind == "tag":
        key, _, value = rest.partition("/")
        return BudgetScope(kind="tag", id=value, app=app or None, key=key)
    return BudgetScope(kind=_kind(kind), id=rest, app=app or None)


def _kind(text: str) -> ScopeKind:
    return next(kind for kind in SCOPE_KINDS if kind == text)


class Budget(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A budget as posted. `timezone` is of a day or month, `window_hours` of a rolling window.

    A crossing of each of `thresholds` (80 and 100 unless given) is an event, once a period. A hard budget also declines
    holds that it has no room for.
    """

    id: ClientId
    scope: BudgetScope
    amount: Amount
    period: PeriodKind
    timezone: Timezone = "UTC"
    window_hours: WindowHours | None = None
    enforcement: Enforcement = "soft"
    thresholds: Thresholds | None = None
    name: Name | None = None
    metadata: dict[str, Any] | None = None

    @property
    def sort(self) -> int:
        """Budgets are listed by id."""
        return 0


class BudgetChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given; null sets an optional field back. Scope and period stay."""

    amount: Amount | UnsetType = UNSET
    enforcement: Enforcement | UnsetType = UNSET
    thresholds: Thresholds | UnsetType | None = UNSET
    name: Name | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


@event("budget.created", 1)
class BudgetCreated(Budget, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A budget came into force. It counts calls that started at `counts_from` or later.

    `opening` is what those before this event came to, by the start of the day, month or hour.
    """

    counts_from: str
    opening: dict[str, str] | None = None


@event("budget.changed", 1)
class BudgetChanged(Budget, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A budget as it is after a change; `replaces` is the position of its event before."""

    replaces: int


@event("budget.retired", 1)
class BudgetRetired(Struct, kw_only=True, omit_defaults=True):
    """A budget is no longer in force: it counts and declines nothing more. Its history stays."""

    id: ClientId
    replaces: int
    reason: Name | None = None


@event("budget.crossed", 1)
class BudgetCrossed(Struct, kw_only=True, omit_defaults=True):
    """What is spent reached `threshold` percent of the amount, for the first time in [period_start, period_end)."""

    id: ClientId
    scope: BudgetScope
    threshold: int
    amount: str
    spent: str
    enforcement: Enforcement
    period: PeriodKind
    period_start: str
    period_end: str


BUDGET = Kind(
    noun=NOUN,
    source=SOURCE,
    table="budgets",
    content=Budget,
    created=BudgetCreated,
    changed=BudgetChanged,
    deleted=BudgetRetired,
)


class CreateBudget(Create[Budget]):
    """Command: a budget comes into force. Its content was checked."""


class ChangeBudget(Change[BudgetChange]):
    """Command: change a budget. The change was checked."""


class RetireBudget(Delete):
    """Command: a budget is no longer in force."""


class BudgetExceeded(InsufficientCredit):
    """A hard budget leaves no room for this much; that is final for this id."""

    code = "budget_exceeded"
    hint = "Wait for the budget's next period or raise its amount (GET /v1/budgets/{id}), then ask with a new id."

    budget: str | None = None

    @classmethod
    def of(cls, budget: str, missing: str) -> "BudgetExceeded":
        """The decline by a budget, and by how many credits."""
        error = cls(f"budget {budget} has no room for it: {missing} credits are missing")
        error.missing, error.budget = missing, budget
        return error


class BudgetFilter(Struct, kw_only=True):
    """Which budgets; None means any. `q` is text in id, name and scope. `retired` lists retired ones too."""

    kind: ScopeKind | None = None
    scope_id: Name | None = None
    app: AppId | None = None
    enforcement: Enforcement | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="Text in id, name and scope.")] | None = None
    retired: bool = False


class Crossing(Struct, kw_only=True):
    """A threshold that was crossed, and the position of the event that says so."""

    threshold: int
    position: int


class BudgetView(Struct, kw_only=True):
    """A budget as read: what is spent and held of it in the period that is now, `crossed` what was crossed in it.

    `remaining` is amount - spent - held, and below zero where calls came that nobody asked for. `counts_from`: calls
    that started before are not counted. A rolling window reaches back to the start of a whole hour of UTC. `position`
    is that of its latest change, and its ETag.
    """

    id: str
    scope: BudgetScope
    amount: str
    period: PeriodKind
    timezone: str
    window_hours: int | None
    enforcement: Enforcement
    thresholds: list[int]
    name: str | None
    metadata: dict[str, Any] | None
    period_start: str
    period_end: str
    spent: str
    held: str
    remaining: str
    counts_from: str
    crossed: list[Crossing]
    retired: bool
    position: int
    created_at: str
    changed_at: str


def check_budget(content: Budget | BudgetChange) -> None:
    """Check a posted budget or change and bring it to its normal form; raises InvalidInput, OutOfRange naming the path.

    Whether the zone exists is found where it is used.
    """
    check_content(content, "metadata")
    if isinstance(content.amount, str):
        content.amount = accept_amount(content.amount, "$.amount")
    if isinstance(content.thresholds, list):
        content.thresholds = sorted(set(content.thresholds))
    if isinstance(content, Budget):
        content.thresholds = content.thresholds or list(THRESHOLDS_DEFAULT)
        errors = tuple(_faults(content))
        if errors:
            raise InvalidInput(errors=errors)
    elif content.thresholds is None:
        content.thresholds = list(THRESHOLDS_DEFAULT)


def _faults(content: Budget) -> Iterator[FieldError]:
    scope = content.scope
    if not scope.id.isprintable():
        yield FieldError("$.scope.id", "Expected printable characters only")
    if scope.app is not None and scope.kind in {"account", "app"}:
        yield FieldError("$.scope.app", "Expected an app only for a user, a model or a tag")
    if (scope.kind == "tag") != (scope.key is not None):
        yield FieldError("$.scope.key", "Expected a key for a tag, and for nothing else")
    if scope.kind == "tag" and len(scope.id) > TAG_VALUE_CHARS_MAX:
        yield FieldError("$.scope.id", f"Expected at most {TAG_VALUE_CHARS_MAX} characters")
    rolling = content.period == "rolling"
    if rolling != (content.window_hours is not None):
        yield FieldError("$.window_hours", "Expected hours for a rolling window, and for nothing else")
    if rolling and content.timezone != "UTC":
        yield FieldError("$.timezone", "Expected a zone only for a day or a month")
