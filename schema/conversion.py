"""Conversions: how many credits an amount of a currency buys. One a currency; a package has a price of its own.

An amount is an integer of the currency's minor unit. What it buys is `amount_minor x credits / per_minor`, rounded
once, half up, to ten decimals.
"""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import Change, Create, Kind, check_content
from schema.charge import Amount, accept_amount
from schema.errors import FieldError, InvalidInput
from schema.event import event
from schema.ids import ledger_source
from schema.money import amount_e10, half_up

NOUN = "conversion"
MINOR_MAX = 10**12

Currency = Annotated[
    str, Meta(pattern=r"^[A-Z]{3}\Z", description="A currency, ISO 4217.", examples=["USD"]),
]  # fmt: skip
MinorUnits = Annotated[
    int, Meta(ge=1, le=MINOR_MAX, description="An amount of the currency's minor unit, as cents.", examples=[999])
]


class Conversion(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A conversion as posted: `per_minor` of the currency's minor units buy `credits`.

    Orders of a free amount take it while it is active, for `least_minor` to `most_minor`.
    """

    id: Currency
    credits: Amount
    per_minor: MinorUnits
    least_minor: MinorUnits = 1
    most_minor: MinorUnits = MINOR_MAX
    active: bool = True
    metadata: dict[str, Any] | None = None

    @property
    def sort(self) -> int:
        """Conversions are listed by currency."""
        return 0


class ConversionChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given. Orders keep what they were placed with."""

    credits: Amount | UnsetType = UNSET
    per_minor: MinorUnits | UnsetType = UNSET
    least_minor: MinorUnits | UnsetType = UNSET
    most_minor: MinorUnits | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


@event("conversion.created", 1)
class ConversionCreated(Conversion, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A currency can be paid with."""


@event("conversion.changed", 1)
class ConversionChanged(Conversion, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A conversion as it is after a change; `replaces` is the position of its event before."""

    replaces: int


class NeverDeleted(Struct):
    """Conversions are not deleted but made inactive. No event has this."""


CONVERSION = Kind(
    noun=NOUN,
    source=ledger_source(NOUN),
    table="conversions",
    content=Conversion,
    created=ConversionCreated,
    changed=ConversionChanged,
    deleted=NeverDeleted,
)


class CreateConversion(Create[ConversionCreated]):
    """Command: a currency can be paid with. Its content was checked."""


class ChangeConversion(Change[ConversionChange]):
    """Command: change a conversion. The change was checked."""


class ConversionView(Conversion, kw_only=True, forbid_unknown_fields=False, omit_defaults=False):
    """A conversion as read: `position` is that of its latest event, and its ETag."""

    deleted: bool
    position: int
    created_at: str
    changed_at: str


class ConversionReceipt(ConversionView, kw_only=True):
    """A conversion as it was created; a duplicate gets the first one."""

    duplicate: bool


def check_conversion(content: Conversion | ConversionChange) -> None:
    """Bring a posted conversion or change to its normal form; raises InvalidInput or OutOfRange naming the path."""
    check_content(content, "metadata")
    if isinstance(content.credits, str):
        content.credits = accept_amount(content.credits, "$.credits")
    if isinstance(content, Conversion):
        check_limits(content)


def check_limits(conversion: Conversion) -> None:
    """The least that can be paid is not above the most."""
    if conversion.least_minor > conversion.most_minor:
        raise InvalidInput(errors=(FieldError("$.least_minor", "Expected at most `most_minor`"),))


def credits_e10(conversion: Conversion, amount_minor: int) -> int:
    """What an amount buys, in 1e-10 credits."""
    return half_up(amount_minor * amount_e10(conversion.credits), conversion.per_minor)
