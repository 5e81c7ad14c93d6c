"""Following vendors' own lists of models: asked with a credential of theirs, when it is time or when an admin wants it.

What is due is read from the ledger, so it survives a restart. Several workers may do this at once: one that comes
second finds nothing to change.
"""

import asyncio

import structlog

from api import lending
from api.services import Services
from ledger import credential_reads, model_sync
from ledger.decision import preview
from schema.credential import FIELDS_OF
from schema.errors import FieldError, InvalidInput, LedgerError, VendorFailed
from schema.lease import ProbeTarget
from schema.model_sync import ModelSyncReport, ModelSyncRequest, SyncModels
from schema.provider import Provider
from schema.times import SECOND_US
from schema.vendor import ProviderTestRequest

log = structlog.get_logger()

CHECK_INTERVAL_S = 60
RETRY_S = 3_600  # after a vendor that failed, if its interval is longer
ACTOR = "ledger:model_list"


async def target(services: Services, provider: Provider, asked: ProviderTestRequest) -> ProbeTarget:
    """Whom to ask, and with what; raises InvalidInput, NoCredential, SecretUnreadable."""
    if asked.secret is not None:
        if set(asked.secret) != set(FIELDS_OF["api_key"]):
            raise InvalidInput(errors=(FieldError("$.secret", "Expected api_key, which is what can be tried"),))
        return ProbeTarget(
            provider=provider.id, provider_type=provider.type, base_url=provider.base_url, credential="",
            type="api_key", secret=asked.secret,
        )  # fmt: skip
    line = await services.ledger.readers.run(credential_reads.to_ask_with, provider.id, asked.credential_id)
    return ProbeTarget(
        provider=provider.id, provider_type=provider.type, base_url=provider.base_url,
        credential=line.content.id, type=line.content.type, secret=await lending.opened(services, line),
    )  # fmt: skip


async def sync(services: Services, actor: str, provider: Provider, wanted: ModelSyncRequest) -> ModelSyncReport:
    """Bring a provider's models up to date; where that changes nothing, no lock is taken. Raises VendorFailed."""
    whom = await target(services, provider, ProviderTestRequest(credential_id=wanted.credential_id))
    found = await services.vendors.models(whom)
    if found.outcome != "success":
        answered = "did not answer" if found.status is None else f"answered with {found.status}"
        raise VendorFailed(f"{provider.id} {answered} ({found.outcome}): {found.detail}")
    command = SyncModels(
        actor=actor, received_at_us=services.clock(), provider=provider.id, credential=whom.credential,
        names=found.models, complete=found.complete, activate=wanted.activate,
    )  # fmt: skip
    decision = await services.ledger.readers.run(preview, command)
    report = decision.report
    if decision.events and not wanted.dry_run:
        report = (await services.ledger.execute_one(command)).report
    assert isinstance(report, ModelSyncReport)
    if not wanted.dry_run:
        services.models_due_us[provider.id] = services.clock() + provider.sync_interval_s * SECOND_US
    return report


async def forever(services: Services) -> None:
    """Sync what is due, every minute."""
    while services.vendors.able:
        try:
            await follow(services)
        except LedgerError as error:
            log.warning("model_sync_waits", code=error.code)
        except Exception:
            log.exception("model_sync_waits")  # the next one may succeed; this task must not end for good
        await asyncio.sleep(CHECK_INTERVAL_S)


async def follow(services: Services) -> None:
    """Sync the providers that are due, one after the other; one that fails is tried again later."""
    for each in await services.ledger.readers.run(model_sync.followers):
        provider, now_us = each.provider, services.clock()
        due_us = each.due_us(services.models_due_us.get(provider.id))
        if due_us is None or due_us > now_us:
            continue
        retry_us = min(RETRY_S, provider.sync_interval_s) * SECOND_US
        services.models_due_us[provider.id] = now_us + retry_us
        try:
            report = await sync(services, ACTOR, provider, ModelSyncRequest())
        except LedgerError as error:
            log.warning("models_not_synced", provider=provider.id, code=error.code)
        else:
            log.info("models_synced", provider=provider.id, created=report.created, missing=report.missing)
