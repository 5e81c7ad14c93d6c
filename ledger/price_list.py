"""Who follows which price list, and how a list becomes commands."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import apsw
from msgspec import Struct
from msgspec.structs import replace

from projections import price_list_sync
from projections import provider as providers
from schema import provider
from schema.errors import FieldError, InvalidInput
from schema.model_rate import ListedPrice
from schema.price_list import (
    ITEMS_MAX,
    OfferedProvider,
    PriceDiff,
    ProviderSync,
    SyncPriceList,
    SyncReport,
)
from schema.times import SECOND_US, parse_time


class PriceListSource(Protocol):
    """Where a list comes from. `load` may take seconds, so it is called off the event loop."""

    name: str

    def load(self) -> tuple[ListedPrice, list[OfferedProvider]]:
        """The list as it is now."""
        ...


class Follower(Struct, frozen=True):
    """A provider and the provider on the list whose prices it has; registered or not."""

    id: str
    price_list_id: str
    auto_sync: bool = False
    sync_interval_s: int = provider.SYNC_INTERVAL_S_DEFAULT
    last: ProviderSync | None = None

    def due_us(self, tried_us: int | None = None) -> int:
        """When its next sync is due, after the last that changed something and the last that was tried."""
        last_us = 0 if self.last is None else parse_time(self.last.synced_at)
        return max(last_us, tried_us or 0) + self.sync_interval_s * SECOND_US


def followers(db: apsw.Connection, listed: Iterable[str] = ()) -> dict[str, Follower]:
    """Every registered provider, and those on the list that are not; without the deleted ones."""
    syncs, known = price_list_sync.syncs(db), providers.registered(db)
    found = {id_: Follower(id_, id_, last=syncs.get(id_)) for id_ in listed if id_ not in known}
    for id_, each in known.items():
        if each is not None:
            price_list_id = each.price_list_id or id_
            found[id_] = Follower(id_, price_list_id, each.auto_sync, each.sync_interval_s, syncs.get(id_))
    return dict(sorted(found.items()))


def selected(
    found: Mapping[str, Follower], offered: Mapping[str, OfferedProvider], names: Sequence[str] | None
) -> list[Follower]:
    """The followers that are named, or all whose prices are on the list. Raises InvalidInput for a name that is not."""
    able = {id_: each for id_, each in found.items() if each.price_list_id in offered}
    if names is None:
        return list(able.values())
    errors = [
        FieldError(f"$.providers[{n}]", f"{name!r} is neither on the price list nor follows a provider that is")
        for n, name in enumerate(names)
        if name not in able
    ]
    if errors:
        raise InvalidInput(errors=tuple(errors))
    return [able[name] for name in dict.fromkeys(names)]


def command(
    actor: str, now_us: int, listed: ListedPrice, follower: Follower, offered: Mapping[str, OfferedProvider]
) -> SyncPriceList:
    """The command that brings a follower up to date."""
    prices = offered[follower.price_list_id]
    if follower.id != prices.id:
        models = [
            replace(model, rates=[replace(rate, provider=follower.id) for rate in model.rates])
            for model in prices.models
        ]
        prices = replace(prices, id=follower.id, models=models)
    return SyncPriceList(actor=actor, received_at_us=now_us, listed=listed, provider=prices)


def total(reports: Iterable[SyncReport]) -> SyncReport:
    """Several providers' reports as one, with at most 10,000 items."""
    found = SyncReport(items=[])
    items: list[PriceDiff] = []
    for report in reports:
        found.created += report.created
        found.updated += report.updated
        found.skipped += report.skipped
        found.missing += report.missing
        items += report.items
    found.items = items[:ITEMS_MAX]
    found.items_omitted = len(items) - len(found.items)
    return found
