"""Credits: what is put into an account, as balance or as free quota, and how free quota ends."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schema.acceptance import accept_instant
from schema.charge import AMOUNT_E10_MAX, Scope, SignedAmount, accept_amount
from schema.correction import Reason
from schema.errors import FieldError, InvalidInput
from schema.event import event
from schema.ids import ClientId
from schema.times import TimeText

PRIORITY_MAX = 1_000
EVER_CREDITS_MAX = 800_000_000  # given to one account in its life: what 64 bits hold at 1e-10
GRANTS_LIVE_MAX = 1_000
OWN_ID = "~"  # what the ids begin with that the ledger gives to credits of orders and coupons

CreditKind = Literal["recharge", "refund", "gift_register", "gift_signin", "gift_referral", "adjustment"]
TransactionKind = CreditKind | Literal["consumption", "expiry"]
Priority = Annotated[int, Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX, description="Among scoped grants, lower goes first.")]


class PostedCredit(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A credit as posted. Gifts are free quota unless said otherwise; the rest is balance.

    Only free quota expires, and only it can have a scope. An adjustment says why, and may be negative. `related` names
    what it belongs to, as an order or a call.
    """

    id: ClientId
    kind: CreditKind
    amount: SignedAmount
    free: bool | None = None
    expires_at: TimeText | None = None
    scope: Scope | None = None
    priority: Priority = 0
    reason: Reason | None = None
    related: ClientId | None = None


@event("account.credited", 1)
class AccountCredited(PostedCredit, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Credit was put into an account. `after` is balance and free quota together afterwards."""

    account: ClientId
    sequence: int
    after: str


@event("account.credit_declined", 1)
class CreditDeclined(PostedCredit, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A negative adjustment would have taken more than was available. That is final for its id."""

    account: ClientId
    missing: str


@event("grant.expired", 1)
class GrantExpired(Struct, kw_only=True, omit_defaults=True):
    """What was left of a grant, and nobody held, ended with its time."""

    account: str
    grant: str
    amount: str
    sequence: int
    after: str


@event("account.collected", 1)
class AccountCollected(Struct, kw_only=True, omit_defaults=True):
    """What an account owed was paid from its balance."""

    account: str
    amount: str
    sequence: int
    after: str


class CreditAccount(Struct, kw_only=True):
    """Command: credit an account. The credit was accepted."""

    actor: str
    received_at_us: int
    account: str
    credit: PostedCredit


class SweepAccounts(Struct):
    """Command: end the holds and grants whose time is over by `received_at_us`, at most `limit` of each."""

    received_at_us: int
    limit: int
    actor: str = "ledger"


class CreditReceipt(Struct, kw_only=True):
    """A credit as it was taken: `before` and `after` are balance and free quota together."""

    id: str
    account: str
    kind: CreditKind
    amount: str
    free: bool
    expires_at: str | None
    sequence: int
    before: str
    after: str
    position: int
    recorded_at: str
    duplicate: bool


def credit_id(account: str, id_: str) -> str:
    """The event id of a credit: one id is one credit of one account."""
    return f"{account}/credit/{id_}"


def accept_credit(credit: PostedCredit) -> None:
    """Bring a posted credit to its normal form in place; raises InvalidInput or OutOfRange naming the path."""
    if credit.id.startswith(OWN_ID):
        raise InvalidInput(errors=(FieldError("$.id", f"Expected an id that does not begin with {OWN_ID}"),))
    if credit.free is None:
        credit.free = credit.kind.startswith("gift_")
    negative = credit.kind == "adjustment" and not credit.free
    credit.amount = accept_amount(credit.amount, "$.amount", least_e10=-AMOUNT_E10_MAX if negative else 1)
    if credit.amount == "0":
        raise InvalidInput(errors=(FieldError("$.amount", "Expected an amount other than 0"),))
    if credit.kind == "adjustment" and credit.reason is None:
        raise InvalidInput(errors=(FieldError("$.reason", "Expected a reason for an adjustment"),))
    if credit.reason is not None and not credit.reason.isprintable():
        raise InvalidInput(errors=(FieldError("$.reason", "Expected printable characters only"),))
    if credit.expires_at is not None:
        credit.expires_at = accept_instant(credit.expires_at, "$.expires_at")
    if not credit.free:
        given = {"expires_at": credit.expires_at, "scope": credit.scope, "priority": credit.priority or None}
        errors = tuple(FieldError(f"$.{n}", "Expected only with `free`") for n, v in given.items() if v is not None)
        if errors:
            raise InvalidInput(errors=errors)
