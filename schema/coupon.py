"""Coupons: who has the code gets credits, or more of them for an order, as often and as long as the coupon says.

A code is a bearer's: only its SHA-256 is kept, and it is shown once, in the answer that made it. One that the ledger
draws has 80 bits, which no digest gives away; one that is chosen is as hard to guess as it was chosen.
"""

from base64 import b32encode
from hashlib import sha256
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.acceptance import accept_instant
from schema.catalogue import Change, Create, Delete, Kind, check_content
from schema.charge import Amount, accept_amount
from schema.credit import OWN_ID, CreditReceipt
from schema.errors import FieldError, InvalidInput
from schema.event import event
from schema.ids import AppId, ClientId, Name, ShortId, ledger_source
from schema.money import half_up, parse_scaled
from schema.times import TimeText

NOUN = "coupon"
USES_MAX = 1_000_000_000
CODE_BYTES = 10
GROUP_CHARS = 4
SHOWN_FROM_CHARS = 16
PERCENT_DECIMALS = 2
DAYS_MAX = 3_660

GiftKind = Literal["gift_register", "gift_signin", "gift_referral"]
CouponCode = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{3,63}\Z",
        description="A code: letters in either case; hyphens do not count.",
        examples=["SPRING-2026"],
    ),
]
Percent = Annotated[
    str,
    Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,2})?\Z", description="Percent, at most two decimals.", examples=["12.5"]),
]
Uses = Annotated[int, Meta(ge=1, le=USES_MAX, description="How often; null: without a limit.")]
Apps = Annotated[
    list[AppId], Meta(min_length=1, max_length=100, description="Only accounts that one of these apps may use.")
]
Packages = Annotated[list[ClientId], Meta(min_length=1, max_length=100, description="Only orders of these packages.")]


class CouponTerms(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a coupon gives, to whom, when and how often. It gives either `credits` or `bonus_percent` of an order's.

    `credits` are free quota of the transaction kind `kind`, and end `credits_expire_in_days` after they were given. It
    can be redeemed from `valid_from` up to `valid_until`.
    """

    id: ShortId
    name: Name | None = None
    credits: Amount | None = None
    bonus_percent: Percent | None = None
    kind: GiftKind = "gift_register"
    credits_expire_in_days: Annotated[int, Meta(ge=1, le=DAYS_MAX)] | None = None
    limit: Uses | None = None
    limit_per_account: Uses | None = 1
    valid_from: TimeText | None = None
    valid_until: TimeText | None = None
    apps: Apps | None = None
    packages: Packages | None = None
    active: bool = True
    metadata: dict[str, Any] | None = None

    @property
    def sort(self) -> int:
        """Coupons are listed by id."""
        return 0


class CouponPost(CouponTerms, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A coupon as posted. Without a `code` one is drawn."""

    code: CouponCode | None = None

    def __repr__(self) -> str:
        return f"CouponPost(id={self.id!r})"


class Coupon(CouponTerms, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A coupon as kept: of its code the digest, and what is shown of it."""

    code_sha256: str
    code_mask: str


class CouponChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given; null sets one back. What a coupon gives, and its code, stay."""

    name: Name | UnsetType | None = UNSET
    limit: Uses | UnsetType | None = UNSET
    limit_per_account: Uses | UnsetType | None = UNSET
    valid_from: TimeText | UnsetType | None = UNSET
    valid_until: TimeText | UnsetType | None = UNSET
    apps: Apps | UnsetType | None = UNSET
    packages: Packages | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


@event("coupon.created", 1)
class CouponCreated(Coupon, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A coupon came into being."""


@event("coupon.changed", 1)
class CouponChanged(Coupon, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A coupon as it is after a change; `replaces` is the position of its event before."""

    replaces: int


@event("coupon.deleted", 1)
class CouponDeleted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A coupon can be redeemed no more. What it gave stays."""

    id: ShortId
    replaces: int
    reason: Name | None = None


@event("coupon.redeemed", 1)
class CouponRedeemed(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An account got a coupon's credits, by the credit of this id."""

    id: ShortId
    coupon: ShortId
    account: ClientId
    amount: str
    credit: ClientId


COUPON = Kind(
    noun=NOUN,
    source=ledger_source(NOUN),
    table="coupons",
    content=Coupon,
    created=CouponCreated,
    changed=CouponChanged,
    deleted=CouponDeleted,
)


class CreateCoupon(Create[CouponCreated], kw_only=True):
    """Command: a coupon comes into being. Its content was checked; `drawn`: its code is the ledger's own."""

    drawn: bool


class ChangeCoupon(Change[CouponChange]):
    """Command: change a coupon. The change was checked."""


class DeleteCoupon(Delete):
    """Command: a coupon can be redeemed no more."""


class PostedRedemption(Struct, kw_only=True, forbid_unknown_fields=True):
    """A redemption as posted; its id is the account's."""

    id: ShortId
    code: CouponCode

    def __repr__(self) -> str:
        return f"PostedRedemption(id={self.id!r})"


class RedeemCoupon(Struct, kw_only=True):
    """Command: an account redeems a coupon. `app`: whose key asks; None where the caller may use any account."""

    actor: str
    received_at_us: int
    account: str
    id: str
    code_sha256: str
    app: str | None


class CouponView(CouponTerms, kw_only=True, forbid_unknown_fields=False, omit_defaults=False):
    """A coupon as read: `code` is masked, `uses` are those that count now, open orders with it too."""

    code: str
    uses: int
    deleted: bool
    position: int
    created_at: str
    changed_at: str


class CouponReceipt(CouponView, kw_only=True):
    """A coupon as it was created, `code` this once in full; a duplicate gets the first one, masked."""

    duplicate: bool


class RedemptionReceipt(Struct, kw_only=True):
    """What a redemption gave, and to which account."""

    id: str
    coupon: str
    credit: CreditReceipt


class CouponFilter(Struct, kw_only=True):
    """Which coupons; None means any. `deleted` lists the deleted ones too."""

    active: bool | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="Text in id and name.")] | None = None
    deleted: bool = False


def plain(code: str) -> str:
    """A code as it is compared."""
    return code.replace("-", "").upper()


def digest(code: str) -> str:
    """What is kept of a code."""
    return sha256(plain(code).encode()).hexdigest()


def code_mask(code: str) -> str:
    """What is shown of a code: with its digest at hand, more would tell the rest."""
    return f"{code[:2]}****" if len(plain(code)) >= SHOWN_FROM_CHARS else "****"


def code_of(drawn: bytes) -> str:
    """A code of 80 random bits, in groups that can be read out."""
    text = b32encode(drawn[:CODE_BYTES]).decode()
    return "-".join(text[n : n + GROUP_CHARS] for n in range(0, len(text), GROUP_CHARS))


def redemption_id(account: str, id_: str) -> str:
    """The event id of a redemption, which is an event of its account: one id is one redemption of one account."""
    return f"{account}/coupon/{id_}"


def credit_for(redemption: str) -> str:
    """The id of the credit that a redemption gave."""
    return f"{OWN_ID}coupon:{redemption}"


def bonus_e10(percent: str, credits_e10: int) -> int:
    """A percentage of credits, rounded half up to 1e-10."""
    return half_up(credits_e10 * parse_scaled(percent, PERCENT_DECIMALS), 100 * 10**PERCENT_DECIMALS)


def check_coupon(content: CouponPost | CouponChange) -> None:
    """Bring a posted coupon or change to its normal form; raises InvalidInput or OutOfRange naming the path."""
    check_content(content, "metadata")
    for name in ("valid_from", "valid_until"):
        value = getattr(content, name)
        if isinstance(value, str):
            setattr(content, name, accept_instant(value, f"$.{name}"))
    if isinstance(content, CouponPost):
        _check_gift(content)
        check_validity(content)
        if content.code is not None and len(plain(content.code)) < GROUP_CHARS:
            message = f"Expected at least {GROUP_CHARS} letters and digits"
            raise InvalidInput(errors=(FieldError("$.code", message),))


def _check_gift(content: CouponPost) -> None:
    if (content.credits is None) == (content.bonus_percent is None):
        raise InvalidInput(errors=(FieldError("$.credits", "Expected either `credits` or `bonus_percent`"),))
    if content.credits is not None:
        content.credits = accept_amount(content.credits, "$.credits")
        if content.packages is not None:
            raise InvalidInput(errors=(FieldError("$.packages", "Expected only with `bonus_percent`"),))
        return
    assert content.bonus_percent is not None
    if not parse_scaled(content.bonus_percent, PERCENT_DECIMALS):
        raise InvalidInput(errors=(FieldError("$.bonus_percent", "Expected more than 0"),))
    if content.credits_expire_in_days is not None:
        message = "Expected only with `credits`: what an order gives is balance"
        raise InvalidInput(errors=(FieldError("$.credits_expire_in_days", message),))


def check_validity(coupon: CouponTerms) -> None:
    """A coupon's time ends after it began."""
    if coupon.valid_from is not None and coupon.valid_until is not None and coupon.valid_from >= coupon.valid_until:
        raise InvalidInput(errors=(FieldError("$.valid_until", "Expected a time after `valid_from`"),))
