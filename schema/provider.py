"""A vendor of models: who it is, where it is reached, how its prices are kept up to date.

A change is an event with every field as it is afterwards, and names the position of the event that it changes; the
history of a provider is its events.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import Change, Create, Delete, Kind, Sort, Text, Url, check_content
from schema.errors import FieldError, InvalidInput
from schema.event import event
from schema.ids import ClientId, Name, ledger_source

NOUN = "provider"
SOURCE = ledger_source(NOUN)
SYNC_INTERVAL_S_DEFAULT = 86_400

ProviderType = Literal[
    "openai", "gemini", "anthropic", "deepseek", "midjourney", "stable_diffusion", "keling", "jimeng", "runway", "suno",
    "bedrock", "google", "ollama", "openrouter", "xai", "doubao", "poe", "ideogram", "azure", "custom",
]  # fmt: skip
# Its own list of models is followed, and new ones are registered as such; null: it is not.
ModelSyncPolicy = Literal["inactive", "active"]
IntervalSeconds = Annotated[int, Meta(ge=60, le=31_536_000, description="Seconds.")]


class Provider(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A provider as posted. Calls name it by `id`. `bedrock` needs a region, the others a base URL to be tested."""

    id: ClientId
    name: Name
    display_name: Name | None = None
    type: ProviderType = "custom"
    base_url: Url | None = None
    region: Name | None = None
    enabled: bool = True
    sort: Sort = 0
    logo: Url | None = None
    website: Url | None = None
    description: Text | None = None
    config: dict[str, Any] | None = None
    auto_sync: bool = False
    sync_interval_s: IntervalSeconds = SYNC_INTERVAL_S_DEFAULT
    model_sync: ModelSyncPolicy | None = None
    price_list_id: Name | None = None
    fallback_providers: Annotated[list[ClientId], Meta(max_length=16)] | None = None


class ProviderChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given; null sets an optional field back."""

    name: Name | UnsetType = UNSET
    display_name: Name | UnsetType | None = UNSET
    type: ProviderType | UnsetType = UNSET
    base_url: Url | UnsetType | None = UNSET
    region: Name | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    sort: Sort | UnsetType = UNSET
    logo: Url | UnsetType | None = UNSET
    website: Url | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    config: dict[str, Any] | UnsetType | None = UNSET
    auto_sync: bool | UnsetType = UNSET
    sync_interval_s: IntervalSeconds | UnsetType = UNSET
    model_sync: ModelSyncPolicy | UnsetType | None = UNSET
    price_list_id: Name | UnsetType | None = UNSET
    fallback_providers: Annotated[list[ClientId], Meta(max_length=16)] | UnsetType | None = UNSET


@event("provider.created", 1)
class ProviderCreated(Provider, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A provider came into being."""


@event("provider.changed", 1)
class ProviderChanged(Provider, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A provider as it is after a change; `replaces` is the position of its event before."""

    replaces: int


@event("provider.deleted", 1)
class ProviderDeleted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A provider is no longer offered. What refers to it stays, and its history too."""

    id: ClientId
    replaces: int
    reason: Name | None = None


PROVIDER = Kind(
    noun=NOUN,
    source=SOURCE,
    table="providers",
    content=Provider,
    created=ProviderCreated,
    changed=ProviderChanged,
    deleted=ProviderDeleted,
)


class CreateProvider(Create[ProviderCreated]):
    """Command: a provider comes into being. Its content was checked."""


class ChangeProvider(Change[ProviderChange]):
    """Command: change a provider. The change was checked."""


class DeleteProvider(Delete):
    """Command: a provider is no longer offered."""


class ProviderView(Provider, kw_only=True, forbid_unknown_fields=False, omit_defaults=False):
    """A provider as read: `position` is that of its latest event, and its ETag. Only an admin sees `config`."""

    deleted: bool
    position: int
    created_at: str
    changed_at: str


class ProviderReceipt(ProviderView, kw_only=True):
    """A provider as it was created; a duplicate gets the first one."""

    duplicate: bool


class ProviderFilter(Struct, kw_only=True):
    """Which providers; None means any. `deleted` lists the deleted ones too."""

    type: ProviderType | None = None
    enabled: bool | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="Text in id and names.")] | None = None
    deleted: bool = False


def check_provider(content: Provider | ProviderChange) -> None:
    """Check a posted provider or change; raises InvalidInput or OutOfRange naming the path."""
    check_content(content, "config")
    if isinstance(content, Provider):
        check_region(content)


def check_region(provider: Provider) -> None:
    """A provider of type bedrock has no address of its own: the region is it."""
    if provider.type == "bedrock" and provider.region is None:
        raise InvalidInput(errors=(FieldError("$.region", "Expected a region, which type bedrock needs"),))
