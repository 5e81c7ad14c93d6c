"""Following the price list: providers that ask for it are synced when it is time, and once when the list has changed.

What is due is read from the ledger, so it survives a restart. Several workers may do this at once: one that comes
second finds nothing to change.
"""

import asyncio
from collections.abc import Mapping

import structlog

from api.services import Services
from ledger.decision import preview
from ledger.ledger import Ledger
from ledger.price_list import Follower, PriceListSource, command, followers
from ledger.writer import Appended
from schema.errors import LedgerError
from schema.model_rate import ListedPrice
from schema.price_list import OfferedProvider, SyncPriceList, SyncReport

log = structlog.get_logger()

CHECK_INTERVAL_S = 60
ACTOR = "ledger:price_list"

Offered = dict[str, OfferedProvider]


async def load(source: PriceListSource) -> tuple[ListedPrice, Offered]:
    """The list, its providers by id."""
    listed, offered = await asyncio.to_thread(source.load)
    return listed, {each.id: each for each in offered}


async def sync(ledger: Ledger, wanted: SyncPriceList) -> SyncReport:
    """Bring one provider up to date. Raises LedgerError."""
    return report_of(await ledger.execute_one(wanted))


def report_of(outcome: Appended) -> SyncReport:
    """What a sync tells its caller."""
    assert isinstance(outcome.report, SyncReport)
    return outcome.report


async def forever(services: Services) -> None:
    """Sync what is due, every minute."""
    while services.price_list is not None:
        try:
            await follow(services, services.price_list)
        except LedgerError as error:
            log.warning("price_sync_waits", code=error.code)
        except Exception:
            log.exception("price_sync_failed")  # a list is foreign: whatever it raises must not end following for good
        await asyncio.sleep(CHECK_INTERVAL_S)


async def follow(services: Services, source: PriceListSource) -> None:
    """Sync the providers that are due. Where nothing has changed, nothing is written and no lock is taken."""
    readers, tried_us = services.ledger.readers, services.prices_tried_us
    asking = [each for each in (await readers.run(followers)).values() if each.auto_sync]
    now_us = services.clock()
    if not any(_maybe_due(each, tried_us, now_us) for each in asking):
        return
    listed, offered = await load(source)
    for follower in asking:
        if follower.price_list_id not in offered or not _is_due(follower, listed, tried_us, now_us):
            continue
        wanted = command(ACTOR, now_us, listed, follower, offered)
        if (await readers.run(preview, wanted)).events:
            report = await sync(services.ledger, wanted)
            log.info("prices_synced", provider=follower.id, created=report.created, updated=report.updated)
        tried_us[follower.id] = now_us


def _maybe_due(follower: Follower, tried_us: Mapping[str, int], now_us: int) -> bool:
    """Whether the list must be looked at: a first time by this process, or because it is time."""
    return follower.id not in tried_us or follower.due_us(tried_us[follower.id]) <= now_us


def _is_due(follower: Follower, listed: ListedPrice, tried_us: Mapping[str, int], now_us: int) -> bool:
    if follower.id not in tried_us and (follower.last is None or follower.last.listed.hash != listed.hash):
        return True
    return follower.due_us(tried_us.get(follower.id)) <= now_us
