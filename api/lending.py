"""Lending credentials: commands about leases, and opening the secrets that they lend."""

from api.services import Services
from ledger import data_keys
from ledger.commands.lease import Lent
from ledger.commands.lease_report import Reported
from ledger.credential_book import Line
from ledger.decision import Command
from ledger.writer import Appended
from schema.credential import subject_of
from schema.errors import LedgerError, SecretUnreadable
from schema.lease import LeaseAnswer, LeaseCredential, LeaseReport, ReportLease
from schema.times import format_time

COMMAND_BYTES = 512  # what a command about leases may weigh in the queue


def new_id(services: Services, now_us: int) -> str:
    """An id for a lease that was given none: ids of about the same time lie together."""
    return f"l-{now_us // 1_000:012x}-{services.ledger.require_keyring().nonce().hex()}"


async def run(services: Services, command: Command) -> Appended:
    """What a command came to; raises LedgerError."""
    [outcome] = await services.ledger.execute([command], COMMAND_BYTES)
    if isinstance(outcome, LedgerError):
        raise outcome
    return outcome


async def lend(services: Services, command: LeaseCredential) -> tuple[Lent, bool]:
    """A lease, and whether it was made before; raises NoCredential."""
    outcome = await run(services, command)
    assert isinstance(outcome.report, Lent)
    return outcome.report, outcome.duplicate


async def end(services: Services, command: ReportLease) -> Reported:
    """A lease as its report left it."""
    outcome = await run(services, command)
    assert isinstance(outcome.report, Reported)
    return outcome.report


async def answer(services: Services, lent: Lent, *, duplicate: bool) -> LeaseAnswer:
    """A lease with its secret; raises SecretUnreadable, and then gives back what the lease took from the quotas."""
    lease = lent.lease
    try:
        secret = await opened(services, lent.line)
    except SecretUnreadable:
        if not duplicate:
            unsent = LeaseReport(outcome="not_sent")
            await run(services, ReportLease(lease.actor, services.clock(), lease.app, lease.id, unsent))
        raise
    return LeaseAnswer(
        lease_id=lease.id, provider=lease.provider, credential_id=lease.credential, secret=secret,
        expires_at=format_time(lease.expires_at_us), duplicate=duplicate,
    )  # fmt: skip


async def opened(services: Services, line: Line) -> dict[str, str]:
    """A credential's secret; raises SecretUnreadable. Its data key may have been wrapped anew since it was read."""
    sealed, subject = line.content.secret, subject_of(line.content.id)
    if sealed is None:
        raise SecretUnreadable(f"{subject} was erased")
    keyring = services.ledger.require_keyring()
    try:
        return keyring.open(sealed, subject, line.wrapped)
    except SecretUnreadable:
        return keyring.open(sealed, subject, await services.ledger.readers.run(data_keys.find, subject))
