"""A market's price list, and what following it did."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schema.event import event
from schema.ids import ClientId, Name, ledger_source
from schema.model_rate import ListedPrice, ModelRateSet, PriceBook

NOUN = "price_list"
SOURCE = ledger_source(NOUN)
PROVIDERS_MAX = 1_000
ITEMS_MAX = 10_000

SyncAction = Literal["created", "updated", "skipped", "missing", "problem", "drift", "below_cost"]


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
    """A provider's prices were brought up to date with a list, and this changed something.

    `drifted` counts models with a price set by hand that differs from the list, `below_cost` those charged below cost.
    """

    provider: ClientId
    listed: ListedPrice
    created: int = 0
    updated: int = 0
    skipped: int = 0
    missing: int = 0
    drifted: int = 0
    below_cost: int = 0


class SyncPriceList(Struct, kw_only=True):
    """Command: bring one provider's prices up to date with a list."""

    actor: str
    received_at_us: int
    listed: ListedPrice
    provider: OfferedProvider


class SyncRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A sync as asked for. Without `providers`: of every provider on the list. `dry_run` writes nothing."""

    dry_run: bool = False
    providers: Annotated[list[Name], Meta(max_length=PROVIDERS_MAX)] | None = None


class PriceDiff(Struct, kw_only=True):
    """What a sync found of one model: the charged prices before and after.

    `drift`: a price set by hand differs from the list, whose prices are `after`. `below_cost`: less is charged than
    the vendor asks. Both by more than 2 %.
    """

    provider: str
    model: str
    action: SyncAction
    before: PriceBook | None = None
    after: PriceBook | None = None
    reason: str | None = None


class SyncReport(Struct, kw_only=True):
    """What a sync did, or would do. Items leave out what was skipped; `items_omitted` tells of more than 10,000."""

    created: int = 0
    updated: int = 0
    skipped: int = 0
    missing: int = 0
    items: list[PriceDiff] = []
    items_omitted: int = 0


class ProviderSync(Struct, kw_only=True):
    """The last sync of a provider that changed something."""

    provider: str
    position: int
    synced_at: str
    listed: ListedPrice
    created: int
    updated: int
    skipped: int
    missing: int


class FollowedProvider(Struct, kw_only=True):
    """How a provider follows the list. `next_due` is null where nothing is synced by itself."""

    provider: str
    price_list_id: str
    auto_sync: bool
    last_sync: ProviderSync | None
    next_due: str | None


class PriceListView(Struct, kw_only=True):
    """The installed list, and who follows it."""

    listed: ListedPrice
    models: int
    providers: list[FollowedProvider]
