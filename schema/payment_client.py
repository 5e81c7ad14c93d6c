"""Payment clients: who may tell that an order was paid, and by which secrets its word is known.

A secret has named values, any of which may have signed: while one replaces another, both are there.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import Change, Delete, Kind
from schema.errors import FieldError, InvalidInput, OutOfRange
from schema.event import event
from schema.ids import Name, ledger_source
from schema.sealed import SECRET_BYTES_MAX, Drawn, Sealed, Secret

NOUN = "payment_client"
TOLERANCE_S_DEFAULT = 300

PaymentClientId = Annotated[
    # No colon: a payment's id is its client's, a colon and the vendor's own.
    str, Meta(pattern=r"^[A-Za-z0-9._-]{1,32}\Z", description="1 to 32 of A-Z a-z 0-9 . _ -", examples=["stripe"]),
]  # fmt: skip
Scheme = Annotated[
    str,
    Meta(
        pattern=r"^[a-z_]{1,32}\Z",
        description="How its callbacks are signed and written: standard_webhooks or stripe.",
        examples=["standard_webhooks"],
    ),
]
ToleranceSeconds = Annotated[
    int, Meta(ge=1, le=3_600, description="Seconds that a callback may be older, or newer, than the ledger's clock.")
]


class PaymentClientPost(Struct, kw_only=True, forbid_unknown_fields=True):
    """A payment client as posted. It repeats no secret when it is printed."""

    id: PaymentClientId
    name: Name | None = None
    scheme: Scheme
    secret: Secret
    tolerance_s: ToleranceSeconds = TOLERANCE_S_DEFAULT
    enabled: bool = True

    def __repr__(self) -> str:
        return f"PaymentClientPost(id={self.id!r})"


class PaymentClientChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given. Secrets are replaced whole: `{"new": …, "old": …}` for a while."""

    name: Name | UnsetType | None = UNSET
    secret: Secret | UnsetType = UNSET
    tolerance_s: ToleranceSeconds | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET

    def __repr__(self) -> str:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]
        return f"PaymentClientChange({', '.join(given)})"


class PaymentClient(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A payment client as kept, its secret sealed."""

    id: PaymentClientId
    name: Name | None = None
    scheme: Scheme
    secret: Sealed
    tolerance_s: ToleranceSeconds = TOLERANCE_S_DEFAULT
    enabled: bool = True

    @property
    def sort(self) -> int:
        """Payment clients are listed by id."""
        return 0


@event("payment_client.created", 1)
class PaymentClientCreated(PaymentClient, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A payment client came into being."""


@event("payment_client.changed", 1)
class PaymentClientChanged(PaymentClient, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A payment client as it is after a change; `replaces` is the position of its event before."""

    replaces: int


@event("payment_client.deleted", 1)
class PaymentClientDeleted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A payment client's word counts no more; its secrets were destroyed with their data key."""

    id: PaymentClientId
    replaces: int
    reason: Name | None = None


PAYMENT_CLIENT = Kind(
    noun=NOUN,
    source=ledger_source(NOUN),
    table="payment_clients",
    content=PaymentClient,
    created=PaymentClientCreated,
    changed=PaymentClientChanged,
    deleted=PaymentClientDeleted,
)


class CreatePaymentClient(Struct, kw_only=True):
    """Command: a payment client comes into being. Its content was checked."""

    actor: str
    received_at_us: int
    content: PaymentClientPost
    drawn: Drawn


class ChangePaymentClient(Change[PaymentClientChange], kw_only=True):
    """Command: change a payment client. The change was checked."""

    drawn: Drawn


class DeletePaymentClient(Delete):
    """Command: a payment client's word counts no more."""


class PaymentClientView(Struct, kw_only=True):
    """A payment client as read: `secret` is masked, `position` that of its latest event, and its ETag."""

    id: str
    name: str | None
    scheme: str
    secret: dict[str, str]
    tolerance_s: int
    enabled: bool
    deleted: bool
    position: int
    created_at: str
    changed_at: str


class PaymentClientReceipt(PaymentClientView, kw_only=True):
    """A payment client as it was created; a duplicate gets the first one."""

    duplicate: bool


def subject_of(id_: str) -> str:
    """What a payment client's data key is for."""
    return f"{NOUN}/{id_}"


def check_payment_client(content: PaymentClientPost | PaymentClientChange) -> None:
    """Check what types cannot say of a posted payment client or change; raises InvalidInput or OutOfRange."""
    if isinstance(content.name, str) and not content.name.isprintable():
        raise InvalidInput(errors=(FieldError("$.name", "Expected printable characters only"),))
    secret = content.secret
    if secret is not UNSET and len(msgspec.json.encode(secret)) > SECRET_BYTES_MAX:
        raise OutOfRange(errors=(FieldError("$.secret", f"Expected at most {SECRET_BYTES_MAX} bytes as JSON"),))
