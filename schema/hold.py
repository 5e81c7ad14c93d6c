"""Holds: credit set aside before a call and settled after it. One that is not settled or released ends by itself."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schema.charge import Amount, BudgetSpend, Charge, HoldSeconds, accept_amount
from schema.correction import Reason
from schema.errors import FieldError, InvalidInput
from schema.event import event
from schema.ids import AppId, ClientId, Name, app_source, ledger_source
from schema.model_call import CallType

NOUN = "hold"
HOLD_SECONDS_DEFAULT = 900
OPEN_HOLDS_MAX = 10_000  # of one account

HOLD_TAGS_MAX = 8
TAG_VALUE_CHARS_MAX = 200

HoldStatus = Literal["open", "settled", "released", "expired", "declined"]
TagKey = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._:~-]{1,64}\Z", description="A key of metadata.", examples=["feature"])
]
Tags = Annotated[
    dict[TagKey, Annotated[str, Meta(min_length=1, max_length=TAG_VALUE_CHARS_MAX)]], Meta(max_length=HOLD_TAGS_MAX)
]


class PostedHold(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A hold as posted: the most that something can cost. Its id is its app's.

    `call_id` ties it to a call of that app: what the call costs settles it. Provider, model and type say what it is
    for, so that grants with a scope can be held too; model, user and tags (of the call's metadata), so that it counts
    against the budgets that will cover the call.
    """

    id: ClientId
    amount: Amount
    expires_in_s: HoldSeconds = HOLD_SECONDS_DEFAULT
    call_id: ClientId | None = None
    app: AppId | None = None
    provider: Name | None = None
    model: Name | None = None
    type: CallType | None = None
    user_id: Name | None = None
    tags: Tags | None = None


@event("hold.placed", 1)
class HoldPlaced(PostedHold, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Credit was set aside: `free` of it in grants (by the credit's id), the rest in the balance.

    `budgets` are those that cover it: while it is open it counts against them.
    """

    account: ClientId
    expires_at: str
    free: dict[str, str] | None = None
    budgets: list[str] | None = None


@event("hold.declined", 1)
class HoldDeclined(PostedHold, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """There was not enough to set aside, or no room in `budget`. That is final for its id."""

    account: ClientId
    missing: str
    budget: ClientId | None = None


@event("hold.settled", 1)
class HoldSettled(Struct, kw_only=True, omit_defaults=True):
    """What was held for came to `amount`; the rest of the hold is free again, what exceeds it was charged unheld.

    `budget_spend`, where it was settled by hand, is what that counts against budgets.
    """

    id: ClientId
    app: AppId | None = None
    account: str
    amount: str
    charge: Charge
    budget_spend: BudgetSpend | None = None


@event("hold.released", 1)
class HoldReleased(Struct, kw_only=True, omit_defaults=True):
    """Nothing was spent of it."""

    id: ClientId
    app: AppId | None = None
    account: str
    reason: Reason | None = None


@event("hold.expired", 1)
class HoldExpired(Struct, kw_only=True, omit_defaults=True):
    """Its time was over before it was settled or released."""

    id: ClientId
    app: AppId | None = None
    account: str


class PlaceHold(Struct, kw_only=True):
    """Command: hold credit of an account. `any_account`: the caller may hold all accounts."""

    actor: str
    received_at_us: int
    account: str
    hold: PostedHold
    any_account: bool = False


class SettleHold(Struct, kw_only=True):
    """Command: charge what was held for."""

    actor: str
    received_at_us: int
    app: str | None
    id: str
    amount: str


class ReleaseHold(Struct, kw_only=True):
    """Command: give back what was held."""

    actor: str
    received_at_us: int
    app: str | None
    id: str
    reason: str | None = None


class HoldView(Struct, kw_only=True):
    """A hold as read. `settled` is what it came to; `position` is that of its latest event."""

    id: str
    app: str | None
    account: str
    amount: str
    status: HoldStatus
    call_id: str | None
    expires_at: str | None
    settled: str | None
    position: int


class HoldReceipt(HoldView, kw_only=True):
    """A hold as a command left it; a duplicate gets the first answer."""

    recorded_at: str
    duplicate: bool


def source_of(app: str | None) -> str:
    """Where an app's holds come from; those of nobody's app are the ledger's."""
    return ledger_source(NOUN) if app is None else app_source(app, NOUN)


def subject_of(app: str | None, id_: str) -> str:
    """The stream of one hold."""
    return f"{NOUN}/{id_}" if app is None else f"{NOUN}/{app}/{id_}"


def accept_hold(hold: PostedHold) -> None:
    """Bring a posted hold to its normal form in place; raises OutOfRange or InvalidInput naming the path."""
    hold.amount = accept_amount(hold.amount, "$.amount")
    texts = {"$.user_id": hold.user_id, **{f"$.tags.{key}": value for key, value in (hold.tags or {}).items()}}
    errors = tuple(
        FieldError(path, "Expected printable characters only")
        for path, text in texts.items()
        if text is not None and not text.isprintable()
    )
    if errors:
        raise InvalidInput(errors=errors)
