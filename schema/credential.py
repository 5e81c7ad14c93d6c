"""A secret that a provider lets calls in with: whose it is, how much of the traffic it gets, whether it is in use.

Events that change a record hold all of it as it is afterwards, as those of providers do; the secret is sealed in them.
Events that only tell what happened to it (a penalty, a quota, a reset) leave the record and its position as they are.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import SORT_MAX, Delete, Kind
from schema.errors import FieldError, InvalidInput, OutOfRange
from schema.event import event
from schema.ids import ClientId, Name, ledger_source
from schema.sealed import SECRET_BYTES_MAX, Drawn, Sealed, Secret

NOUN = "credential"
SOURCE = ledger_source(NOUN)
WEIGHT_DEFAULT = 100
LIMIT_MAX = 1_000_000_000_000
# Choosing one looks at all of a provider's.
CREDENTIALS_PER_PROVIDER_MAX = 1_000
TIMEZONE_DEFAULT = "UTC"
RESERVED_IDS = frozenset({"lease", ".", ".."})  # what /v1/credentials/{id} could not name

CredentialType = Literal["api_key", "access_key_pair", "custom"]
# Why a credential is not in use: by hand, or the outcome of calls with it.
DisabledReason = Literal["manual", "auth", "payment", "server", "timeout"]
Weight = Annotated[
    int, Meta(ge=0, le=1_000_000, description="Its share of the traffic among those of its priority; 0 drains it.")
]
Priority = Annotated[int, Meta(ge=0, le=SORT_MAX, description="Lower comes first.")]
Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Calls.")]
Zone = Annotated[str, Meta(min_length=1, max_length=64, description="IANA time zone of its days and months.")]
QuotaKind = Literal["daily", "monthly"]
Counters = Literal["all", "daily", "monthly", "error"]

FIELDS_OF: dict[CredentialType, tuple[str, ...]] = {
    "api_key": ("api_key",),
    "access_key_pair": ("access_key_id", "secret_access_key"),
}


class CredentialPost(Struct, kw_only=True, forbid_unknown_fields=True):
    """A credential as posted under its provider. It repeats no secret when it is printed."""

    id: ClientId
    name: Name | None = None
    type: CredentialType = "api_key"
    secret: Secret
    weight: Weight = WEIGHT_DEFAULT
    priority: Priority = 0
    daily_limit: Limit | None = None
    monthly_limit: Limit | None = None
    timezone: Zone | None = None
    enabled: bool = True

    def __repr__(self) -> str:
        return f"CredentialPost(id={self.id!r})"


class CredentialChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given; null sets an optional field back. A secret is replaced whole."""

    name: Name | UnsetType | None = UNSET
    secret: Secret | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    daily_limit: Limit | UnsetType | None = UNSET
    monthly_limit: Limit | UnsetType | None = UNSET
    timezone: Zone | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET

    def __repr__(self) -> str:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not UNSET]
        return f"CredentialChange({', '.join(given)})"


class Credential(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A credential as kept. `secret` is null once it was erased; `disabled_reason` is null while it is enabled."""

    id: ClientId
    provider: ClientId
    name: Name | None = None
    type: CredentialType = "api_key"
    secret: Sealed | None = None
    weight: Weight = WEIGHT_DEFAULT
    priority: Priority = 0
    daily_limit: Limit | None = None
    monthly_limit: Limit | None = None
    timezone: Zone = TIMEZONE_DEFAULT
    enabled: bool = True
    disabled_reason: DisabledReason | None = None

    @property
    def active(self) -> bool:
        """Whether it takes traffic, its quotas aside."""
        return self.enabled and self.weight > 0


@event("credential.created", 1)
class CredentialCreated(Credential, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A credential came into being."""


@event("credential.changed", 1)
class CredentialChanged(Credential, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A credential as it is after a change; `replaces` is the position of its event before."""

    replaces: int


@event("credential.disabled", 1)
class CredentialDisabled(Credential, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Calls with it failed and it was taken out of use; `errors` is how many failed in a row."""

    replaces: int
    errors: int


@event("credential.restored", 1)
class CredentialRestored(Credential, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What its failures took out of use is in use again, by hand or because a re-check succeeded."""

    replaces: int
    by: Literal["hand", "probe"]


@event("credential.deleted", 1)
class CredentialDeleted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A credential is no longer used. Its calls and history stay, and its secret, sealed, until it is erased."""

    id: ClientId
    replaces: int
    reason: Name | None = None


@event("credential.erased", 1)
class CredentialErased(CredentialDeleted, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Its data key `key` was destroyed, so that nobody reads its secrets again; it is deleted with it."""

    key: str


@event("credential.penalised", 1)
class CredentialPenalised(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The vendor limited its rate: it gets less of the traffic until then."""

    id: ClientId
    until: str
    retry_after_s: int | None = None


@event("credential.quota_near", 1)
class CredentialQuotaNear(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Nearly all calls of a period, such as 2026-11-22 or 2026-11, are used."""

    id: ClientId
    quota: QuotaKind
    period: str
    used: int
    limit: int


@event("credential.quota_exhausted", 1)
class CredentialQuotaExhausted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All calls of a period are used."""

    id: ClientId
    quota: QuotaKind
    period: str
    used: int
    limit: int


@event("credential.reset", 1)
class CredentialReset(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Counters were set back by hand."""

    id: ClientId
    counters: Counters


CREDENTIAL = Kind(
    noun=NOUN,
    source=SOURCE,
    table="credentials",
    content=Credential,
    created=CredentialCreated,
    changed=CredentialChanged,
    deleted=CredentialDeleted,
)


class CreateCredential(Struct, kw_only=True):
    """Command: a credential comes into being. Its content was checked; `timezone` is for one that names none."""

    actor: str
    received_at_us: int
    provider: str
    content: CredentialPost
    timezone: str
    drawn: Drawn


class ChangeCredential(Struct, kw_only=True):
    """Command: change a credential, provided that its latest change is at `position`; None means wherever it is.

    `force` lets it be the provider's last active one that goes out of use.
    """

    actor: str
    received_at_us: int
    id: str
    position: int | None
    change: CredentialChange
    drawn: Drawn
    force: bool = False


class DeleteCredential(Delete, kw_only=True):
    """Command: a credential is no longer used."""

    force: bool = False


class EraseCredential(Delete, kw_only=True):
    """Command: destroy a credential's data key, and delete what still lives of it."""

    force: bool = False


class CredentialView(Struct, kw_only=True):
    """A credential as read: `secret` is masked, `position` that of its latest change, and its ETag."""

    id: str
    provider: str
    name: str | None
    type: CredentialType
    secret: dict[str, str] | None
    weight: int
    priority: int
    daily_limit: int | None
    monthly_limit: int | None
    timezone: str
    enabled: bool
    disabled_reason: DisabledReason | None
    deleted: bool
    erased: bool
    position: int
    created_at: str
    changed_at: str


class CredentialReceipt(CredentialView, kw_only=True):
    """A credential as it was created; a duplicate gets the first one."""

    duplicate: bool


class CredentialFilter(Struct, kw_only=True):
    """Which credentials; None means any. `deleted` lists the deleted ones too."""

    type: CredentialType | None = None
    enabled: bool | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="Text in id and name.")] | None = None
    deleted: bool = False


def subject_of(id_: str) -> str:
    """What a credential's data key is for."""
    return f"{NOUN}/{id_}"


def check_credential(content: CredentialPost | CredentialChange) -> None:
    """Check what types cannot say of a posted credential or change; raises InvalidInput or OutOfRange."""
    if isinstance(content.name, str) and not content.name.isprintable():
        raise InvalidInput(errors=(FieldError("$.name", "Expected printable characters only"),))
    secret: Any = content.secret
    if secret is not UNSET and len(msgspec.json.encode(secret)) > SECRET_BYTES_MAX:
        raise OutOfRange(errors=(FieldError("$.secret", f"Expected at most {SECRET_BYTES_MAX} bytes as JSON"),))
    if isinstance(content, CredentialPost):
        if content.id in RESERVED_IDS:
            raise InvalidInput(errors=(FieldError("$.id", "Expected another id: paths mean something else by it"),))
        check_fields(content.type, content.secret)


def check_fields(type_: CredentialType, secret: dict[str, str]) -> None:
    """A type has its own fields, all of them and no other, printable; `custom` has any. Raises InvalidInput."""
    expected = FIELDS_OF.get(type_)
    if expected is not None and set(expected) != set(secret):
        message = f"Expected {' and '.join(expected)}, which type {type_} has"
        raise InvalidInput(errors=(FieldError("$.secret", message),))
    unprintable = () if expected is None else [name for name in expected if not secret[name].isprintable()]
    if unprintable:
        message = "Expected printable characters only"
        raise InvalidInput(errors=tuple(FieldError(f"$.secret.{name}", message) for name in unprintable))
