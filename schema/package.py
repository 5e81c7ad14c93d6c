"""Packages: credits at a fixed price, perhaps with some on top. An order keeps what its package was when placed."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import Change, Create, Delete, Kind, Sort, Text, check_content
from schema.charge import AMOUNT_CREDITS_MAX, AMOUNT_E10_MAX, Amount, accept_amount
from schema.conversion import Currency, MinorUnits
from schema.errors import FieldError, OutOfRange
from schema.event import event
from schema.ids import ClientId, Name, ledger_source
from schema.money import ZERO, amount_e10

NOUN = "package"


class Package(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A package as posted: who pays `price_minor` gets `credits` and `bonus_credits`, all of it as balance."""

    id: ClientId
    name: Name
    description: Text | None = None
    currency: Currency
    price_minor: MinorUnits
    credits: Amount
    bonus_credits: Amount = ZERO
    active: bool = True
    sort: Sort = 0
    metadata: dict[str, Any] | None = None


class PackageChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given; null sets an optional field back."""

    name: Name | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    currency: Currency | UnsetType = UNSET
    price_minor: MinorUnits | UnsetType = UNSET
    credits: Amount | UnsetType = UNSET
    bonus_credits: Amount | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    sort: Sort | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


@event("package.created", 1)
class PackageCreated(Package, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A package came into being."""


@event("package.changed", 1)
class PackageChanged(Package, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A package as it is after a change; `replaces` is the position of its event before."""

    replaces: int


@event("package.deleted", 1)
class PackageDeleted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A package is no longer offered. Its orders stay, and those that are open can be paid."""

    id: ClientId
    replaces: int
    reason: Name | None = None


PACKAGE = Kind(
    noun=NOUN,
    source=ledger_source(NOUN),
    table="packages",
    content=Package,
    created=PackageCreated,
    changed=PackageChanged,
    deleted=PackageDeleted,
)


class CreatePackage(Create[PackageCreated]):
    """Command: a package comes into being. Its content was checked."""


class ChangePackage(Change[PackageChange]):
    """Command: change a package. The change was checked."""


class DeletePackage(Delete):
    """Command: a package is no longer offered."""


class PackageView(Package, kw_only=True, forbid_unknown_fields=False, omit_defaults=False):
    """A package as read: `position` is that of its latest event, and its ETag."""

    deleted: bool
    position: int
    created_at: str
    changed_at: str


class PackageReceipt(PackageView, kw_only=True):
    """A package as it was created; a duplicate gets the first one."""

    duplicate: bool


class PackageFilter(Struct, kw_only=True):
    """Which packages; None means any. `deleted` lists the deleted ones too."""

    currency: Currency | None = None
    active: bool | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="Text in id and name.")] | None = None
    deleted: bool = False


def check_package(content: Package | PackageChange) -> None:
    """Bring a posted package or change to its normal form; raises InvalidInput or OutOfRange naming the path."""
    check_content(content, "metadata")
    if isinstance(content.credits, str):
        content.credits = accept_amount(content.credits, "$.credits")
    if isinstance(content.bonus_credits, str):
        content.bonus_credits = accept_amount(content.bonus_credits, "$.bonus_credits", least_e10=0)
    if isinstance(content, Package):
        check_total(content)


def check_total(package: Package) -> None:
    """What is credited at once has a bound."""
    if amount_e10(package.credits) + amount_e10(package.bonus_credits) > AMOUNT_E10_MAX:
        message = f"Expected at most {AMOUNT_CREDITS_MAX} credits with `bonus_credits`"
        raise OutOfRange(errors=(FieldError("$.credits", message),))
