"""A model that a provider offers: what it is called, what it can do, how it is grouped. Prices are model rates."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.event import event
from schema.ids import ClientId, Name, ledger_source
from schema.provider import Sort, Text, Url

NOUN = "model"
SOURCE = ledger_source(NOUN)

Category = Literal["chat", "image", "video", "audio", "music", "embedding"]
Capability = Literal["stream", "vision", "function", "tools", "thinking", "json", "audio", "image_generation"]
Tokens = Annotated[int, Meta(ge=0, le=1_000_000_000, description="Tokens.")]
Capabilities = Annotated[list[Capability], Meta(max_length=16)]


class Model(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model as posted. (`provider`, `model`) is unique; calls name both."""

    id: ClientId
    provider: ClientId
    model: Name
    display_name: Name | None = None
    description: Text | None = None
    group: Name | None = None
    category: Category | None = None
    capabilities: Capabilities | None = None
    max_tokens: Tokens | None = None
    context_window: Tokens | None = None
    logo: Url | None = None
    sort: Sort = 0
    active: bool = True
    metadata: dict[str, Any] | None = None


class ModelChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH changes: fields that are given; null sets an optional field back."""

    display_name: Name | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET
    group: Name | UnsetType | None = UNSET
    category: Category | UnsetType | None = UNSET
    capabilities: Capabilities | UnsetType | None = UNSET
    max_tokens: Tokens | UnsetType | None = UNSET
    context_window: Tokens | UnsetType | None = UNSET
    logo: Url | UnsetType | None = UNSET
    sort: Sort | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET


@event("model.created", 1)
class ModelCreated(Model, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model came into being."""


@event("model.changed", 1)
class ModelChanged(Model, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model as it is after a change; `replaces` is the position of its event before."""

    replaces: int


@event("model.deleted", 1)
class ModelDeleted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model is no longer offered. Its calls, rates and history stay."""

    id: ClientId
    replaces: int
    reason: Name | None = None
