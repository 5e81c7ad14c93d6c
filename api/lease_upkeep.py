"""What leases need beside requests: looks at credentials that errors disabled, and old leases forgotten.

What is due is in the ledger, so a restart loses nothing; a look is claimed first, so of several workers one takes it.
"""

import asyncio

import structlog

from api import lending
from api.services import Services
from api.vendor import CredentialProbe
from ledger import lease_reads
from ledger.commands.credential_recheck import Claim, Claimed
from ledger.commands.lease_prune import Pruned
from schema.errors import LedgerError, SecretUnreadable
from schema.lease import LEASES_KEPT_US, ClaimRechecks, ProbeTarget, PruneLeases, RecheckCredential

log = structlog.get_logger()

CLAIMS_MAX = 16
PRUNE_INTERVAL_S = 60.0
PRUNED_AT_ONCE_MAX = 1_000


async def recheck_forever(services: Services, probe: CredentialProbe | None) -> None:
    """Look at what is due, for ever."""
    while probe is not None:
        await asyncio.sleep(services.settings.recheck_interval_s)
        try:
            if await services.ledger.readers.run(lease_reads.recheck_due, services.clock()):
                await recheck(services, probe)
        except LedgerError as error:
            log.warning("rechecks_wait", code=error.code)
        except Exception:
            log.exception("rechecks_wait")  # the next one may succeed; this task must not end for good


async def recheck(services: Services, probe: CredentialProbe) -> None:
    """Take on what is due, look at all of it at once, tell what was found."""
    claimed = (await lending.run(services, ClaimRechecks(services.clock(), CLAIMS_MAX))).report
    assert isinstance(claimed, Claimed)
    await asyncio.gather(*(_look(services, probe, claim) for claim in claimed.claims))


async def _look(services: Services, probe: CredentialProbe, claim: Claim) -> None:
    works = await _works(services, probe, claim)
    log.info("credential_looked_at", credential=claim.line.content.id, works=works)
    found = RecheckCredential(services.clock(), claim.line.content.id, claim.number, works)
    await lending.run(services, found)


async def _works(services: Services, probe: CredentialProbe, claim: Claim) -> bool:
    content = claim.line.content
    try:
        target = ProbeTarget(
            provider=content.provider, provider_type=claim.provider_type, base_url=claim.base_url,
            credential=content.id, type=content.type, secret=await lending.opened(services, claim.line),
        )  # fmt: skip
        return await probe.works(target)
    except SecretUnreadable as error:
        log.warning("credential_not_looked_at", credential=content.id, code=error.code)
    except Exception as error:  # noqa: BLE001 - a vendor's failure, whatever it is; its text may hold the secret
        log.warning("credential_not_looked_at", credential=content.id, error=type(error).__name__)
    return False


async def prune_forever(services: Services) -> None:
    """Forget old leases, every minute."""
    while True:
        try:
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
