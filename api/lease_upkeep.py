"""What leases need beside requests: looks at credentials that errors disabled, and old leases forgotten.

What is due is in the ledger, so a restart loses nothing; a look is claimed first, so of several workers one takes it.
"""

import asyncio
from collections import Counter

import structlog

from api import lending
from api.services import Services
from api.vendor import CredentialProbe
from ledger import lease_reads
from ledger.commands.credential_recheck import Claim, Claimed
from ledger.commands.lease_prune import Pruned
from schema.errors import LedgerError, SecretUnreadable
from schema.lease import LEASES_KEPT_US, ClaimRechecks, ProbeTarget, PruneLeases, RecheckCredential
from schema.times import SECOND_US

log = structlog.get_logger()

LOOK_S = 15.0  # all of a look, however slowly a vendor's answer drips
LOOKS_MAX = 16
LOOKS_PER_PROVIDER_MAX = 4
PRUNE_INTERVAL_S = 60.0
PRUNED_AT_ONCE_MAX = 1_000


class Looks:
    """The looks under way: so many at once, so many at one vendor; none waits for another to end."""

    def __init__(self, services: Services, probe: CredentialProbe) -> None:
        self._services = services
        self._probe = probe
        self._under_way: dict[asyncio.Task[None], str] = {}

    async def begin(self) -> None:
        """Take on what is due, as far as there is room, and begin to look at it."""
        room = LOOKS_MAX - len(self._under_way)
        if room == 0:
            return
        at_once = Counter(self._under_way.values())
        busy = tuple(provider for provider, looks in at_once.items() if looks >= LOOKS_PER_PROVIDER_MAX)
        command = ClaimRechecks(self._services.clock(), room, LOOKS_PER_PROVIDER_MAX, busy)
        claimed = (await lending.run(self._services, command)).report
        assert isinstance(claimed, Claimed)
        for each in claimed.claims:
            task = asyncio.create_task(_look(self._services, self._probe, each))
            self._under_way[task] = each.line.content.provider
            task.add_done_callback(self._under_way.pop)

    async def end(self) -> None:
        """Give up what is under way: another process takes it on when its claim is over."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def recheck_forever(services: Services, probe: CredentialProbe | None) -> None:
    """Look at what is due, for ever."""
    if probe is None:
        return
    looks = Looks(services, probe)
    try:
        while True:
            await asyncio.sleep(services.settings.recheck_interval_s)
            try:
                if await services.ledger.readers.run(lease_reads.recheck_due, services.clock()):
                    await looks.begin()
            except LedgerError as error:
                log.warning("rechecks_wait", code=error.code)
            except Exception:
                log.exception("rechecks_wait")  # the next one may succeed; this task must not end for good
    finally:
        await looks.end()


async def _look(services: Services, probe: CredentialProbe, claim: Claim) -> None:
    credential = claim.line.content.id
    works = await _works(services, probe, claim)
    log.info("credential_looked_at", credential=credential, works=works)
    try:
        await lending.run(services, RecheckCredential(services.clock(), credential, claim.until_us, works))
    except LedgerError as error:
        log.warning("look_not_told", credential=credential, code=error.code)  # it is looked at again


async def _works(services: Services, probe: CredentialProbe, claim: Claim) -> bool:
    content = claim.line.content
    try:
        target = ProbeTarget(
            provider=content.provider, provider_type=claim.provider_type, base_url=claim.base_url,
            credential=content.id, type=content.type, secret=await lending.opened(services, claim.line),
        )  # fmt: skip
        async with asyncio.timeout(LOOK_S):
            return await probe.works(target)
    except SecretUnreadable as error:
        log.warning("credential_not_looked_at", credential=content.id, code=error.code)
    except Exception as error:  # noqa: BLE001 - a vendor's failure, whatever it is; its text may hold the secret
        log.warning("credential_not_looked_at", credential=content.id, error=type(error).__name__)
    return False


async def prune_forever(services: Services) -> None:
    """Forget old leases, every minute; and say so where leases are dated ahead."""
    while True:
        try:
            ahead_us = await services.ledger.readers.run(lease_reads.ahead_us, services.clock())
            if ahead_us:
                log.warning("leases_dated_ahead", seconds=ahead_us // SECOND_US)
            while await prune(services):
                pass
        except LedgerError as error:
            log.warning("leases_wait", code=error.code)
        except Exception:
            log.exception("leases_wait")
        await asyncio.sleep(PRUNE_INTERVAL_S)


async def prune(services: Services) -> bool:
    """A bounded number of leases; whether there may be more."""
    oldest_us = await services.ledger.readers.run(lease_reads.oldest_lease_us)
    if oldest_us is None or oldest_us >= services.clock() - LEASES_KEPT_US:
        return False
    found = (await lending.run(services, PruneLeases(services.clock(), PRUNED_AT_ONCE_MAX))).report
    assert isinstance(found, Pruned)
    return max(found.leases, found.periods) == PRUNED_AT_ONCE_MAX
