"""The vendor's own list of models, and what following it did."""

from typing import Literal

from msgspec import Struct

from schema.event import event
from schema.ids import ClientId, ledger_source
from schema.provider import ModelSyncPolicy

NOUN = "model_list"
SOURCE = ledger_source(NOUN)
# Of one provider, deleted ones too: a sync looks at all of them.
PROVIDER_MODELS_MAX = 10_000

ModelSyncAction = Literal["created", "returned", "missing"]


@event("model_list.synced", 1)
class ModelListSynced(Struct, kw_only=True, omit_defaults=True):
    """A provider's models were brought up to date with its own list, and this changed something."""

    provider: ClientId
    credential: ClientId
    listed: int
    created: int = 0
    updated: int = 0
    skipped: int = 0
    missing: int = 0


class SyncModels(Struct, kw_only=True):
    """Command: bring a provider's models up to date with the names that the vendor lists.

    Where these are not `complete`, none is taken for missing.
    """

    actor: str
    received_at_us: int
    provider: str
    credential: str
    names: tuple[str, ...]
    complete: bool
    activate: bool | None


class ModelSyncRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A sync as asked for. `activate` is for new models; without it the provider's `model_sync` decides.

    Without a `credential_id`: the provider's first that is enabled. `dry_run` writes nothing.
    """

    dry_run: bool = False
    credential_id: ClientId | None = None
    activate: bool | None = None


class ModelDiff(Struct, kw_only=True):
    """What a sync found of one model. `missing` is told at every sync until the model returns or is deleted."""

    id: str
    model: str
    action: ModelSyncAction


class ModelSyncReport(Struct, kw_only=True):
    """What a sync did, or would do.

    Created: registered, active or not. Updated: missing before, listed again. Skipped: as it was, also deleted here.
    Missing: registered here and not listed by the vendor. `complete` is false where the list could not be taken
    whole; then none is missing.
    """

    listed: int = 0
    complete: bool = True
    created: int = 0
    updated: int = 0
    skipped: int = 0
    missing: int = 0
    items: list[ModelDiff] = []


class ModelSync(Struct, kw_only=True):
    """The last sync of a provider's models that changed something."""

    position: int
    synced_at: str
    credential_id: str
    listed: int
    created: int
    updated: int
    skipped: int
    missing: int


class ModelSyncState(Struct, kw_only=True):
    """How a provider's own list is followed. `next_due` is null where that is not done by itself."""

    provider: str
    model_sync: ModelSyncPolicy | None
    sync_interval_s: int
    last_sync: ModelSync | None
    next_due: str | None
