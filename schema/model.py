"""A model that a provider offers: what it is called, what it can do, how it is grouped. Prices are model rates."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schema.catalogue import Change, Create, Delete, Kind, Sort, Text, Url, check_content
from schema.event import event
from schema.ids import ClientId, Name, ledger_source

NOUN = "model"
SOURCE = ledger_source(NOUN)

Category = Literal["chat", "image", "video", "audio", "music", "embedding"]
Capability = Literal["stream", "vision", "function", "tools", "thinking", "json", "audio", "image_generation"]
# By hand, or found on the list of the vendor itself.
ModelSource = Literal["hand", "vendor"]
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


class KeptModel(Model, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model as kept: how it came here, and since when its vendor's own list does not have it; null if it does."""

    source: ModelSource = "hand"
    missing_since: str | None = None


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
class ModelCreated(KeptModel, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model came into being."""


@event("model.changed", 1)
class ModelChanged(KeptModel, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model as it is after a change; `replaces` is the position of its event before.

    `by` vendor: its list was looked at and the model was missing, or is there again.
    """

    replaces: int
    by: ModelSource = "hand"


@event("model.deleted", 1)
class ModelDeleted(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model is no longer offered. Its calls, rates and history stay."""

    id: ClientId
    replaces: int
    reason: Name | None = None


MODEL = Kind(
    noun=NOUN,
    source=SOURCE,
    table="models",
    content=KeptModel,
    created=ModelCreated,
    changed=ModelChanged,
    deleted=ModelDeleted,
)


class CreateModel(Create[ModelCreated]):
    """Command: a model comes into being. Its content was checked."""


class ChangeModel(Change[ModelChange]):
    """Command: change a model. The change was checked."""


class DeleteModel(Delete):
    """Command: a model is no longer offered."""


class ModelView(KeptModel, kw_only=True, forbid_unknown_fields=False, omit_defaults=False):
    """A model as read: `position` is that of its latest event, and its ETag."""

    deleted: bool
    position: int
    created_at: str
    changed_at: str


class ModelReceipt(ModelView, kw_only=True):
    """A model as it was created; a duplicate gets the first one."""

    duplicate: bool


class ModelFilter(Struct, kw_only=True):
    """Which models; None means any. `missing`: from the vendor's own list; `deleted` lists the deleted ones too."""

    provider: ClientId | None = None
    group: Name | None = None
    category: Category | None = None
    capability: Capability | None = None
    active: bool | None = None
    source: ModelSource | None = None
    missing: bool | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="Text in id and names.")] | None = None
    deleted: bool = False


class GroupCount(Struct, kw_only=True):
    """How many models have this group or category; null counts those that have none."""

    name: str | None
    models: int


class ModelGroups(Struct, kw_only=True):
    """Models that are not deleted, counted by group and by category."""

    groups: list[GroupCount]
    categories: list[GroupCount]


def check_model(content: Model | ModelChange) -> None:
    """Check a posted model or change; raises InvalidInput or OutOfRange naming the path."""
    check_content(content, "metadata")
