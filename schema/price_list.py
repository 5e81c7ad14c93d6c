"""A market's price list, and what following it did."""

from msgspec import Struct

from schema.event import event
from schema.ids import ClientId, Name, ledger_source
from schema.model_rate import ListedPrice, ModelRateSet

NOUN = "price_list"
SOURCE = ledger_source(NOUN)


class OfferedModel(Struct, kw_only=True):
    """A model on the list: its dated prices, oldest first, as vendor prices of mode auto. Ids are left to the sync.

    `problem` tells why a listed model has no prices here.
    """

    model: Name
    display_name: Name | None = None
    context_window: int | None = None
    rates: list[ModelRateSet]
    problem: str | None = None


class OfferedProvider(Struct, kw_only=True):
    """A provider on the list."""

    id: ClientId
    name: Name
    website: str | None = None
    fallback_providers: list[ClientId] | None = None
    models: list[OfferedModel]


@event("price_list.synced", 1)
class PriceListSynced(Struct, kw_only=True, omit_defaults=True):
    """A provider's prices were brought up to date with a list, and this changed something."""

    provider: ClientId
    listed: ListedPrice
    created: int = 0
    updated: int = 0
    skipped: int = 0
    missing: int = 0


class SyncPriceList(Struct, kw_only=True):
    """Command: bring one provider's prices up to date with a list."""

    actor: str
    received_at_us: int
    listed: ListedPrice
    provider: OfferedProvider
