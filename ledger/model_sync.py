"""Who follows its vendor's own list of models, and when that is due."""

import apsw
from msgspec import Struct

from projections import model_list_sync
from projections import provider as providers
from schema.errors import NotFound
from schema.model_sync import ModelSync, ModelSyncState
from schema.provider import Provider
from schema.times import SECOND_US, format_time, parse_time


class ModelFollower(Struct, frozen=True):
    """A provider that is not deleted, and its last sync that changed something."""

    provider: Provider
    last: ModelSync | None

    def due_us(self, known_us: int | None) -> int | None:
        """When its next sync is due; `known_us` is what this process knows of it. None: never."""
        if self.provider.model_sync is None or not self.provider.enabled:
            return None
        if known_us is not None or self.last is None:
            return known_us or 0
        return parse_time(self.last.synced_at) + self.provider.sync_interval_s * SECOND_US


def followers(db: apsw.Connection) -> list[ModelFollower]:
    """Every provider whose list is followed by itself."""
    known = [each for each in providers.registered(db).values() if each is not None and each.model_sync is not None]
    return [ModelFollower(each, model_list_sync.find(db, each.id)) for each in known if each.enabled]


def follower(db: apsw.Connection, id_: str) -> ModelFollower:
    """A provider; raises NotFound."""
    provider = providers.registered(db).get(id_)
    if provider is None:
        raise NotFound(f"there is no provider {id_} that is not deleted")
    return ModelFollower(provider, model_list_sync.find(db, id_))


def state(found: ModelFollower, known_us: int | None, now_us: int) -> ModelSyncState:
    """How a provider's list is followed; what is overdue is due now."""
    due_us = found.due_us(known_us)
    return ModelSyncState(
        provider=found.provider.id, model_sync=found.provider.model_sync,
        sync_interval_s=found.provider.sync_interval_s, last_sync=found.last,
        next_due=None if due_us is None else format_time(max(due_us, now_us)),
    )  # fmt: skip
