"""Lending credentials: commands about leases, and opening the secrets that they lend."""

import msgspec
import structlog

from api.services import Services
from ledger import data_keys
from ledger.commands.lease import Lent
from ledger.commands.lease_report import Reported
from ledger.credential_book import Line
from ledger.decision import Command
from ledger.lease_state import LeaseRow
from ledger.writer import Appended
from schema.credential import subject_of
from schema.errors import NoCredential, SecretUnreadable
from schema.lease import LeaseAnswer, LeaseCredential, ReportLease, TakeBackLease
from schema.times import format_time

log = structlog.get_logger()

PASSED_OVER_MAX = 16  # in one request; the next one begins behind them
COMMAND_BYTES = 512  # what a command about leases may weigh in the queue


def new_id(services: Services, now_us: int) -> str:
    """An id for a lease that was given none: ids of about the same time lie together."""
    return f"l-{now_us // 1_000:012x}-{services.ledger.require_keyring().nonce().hex()}"


async def run(services: Services, command: Command) -> Appended:
    """What a command came to; raises LedgerError."""
    return await services.ledger.execute_one(command, COMMAND_BYTES)


async def lend(services: Services, command: LeaseCredential) -> LeaseAnswer:
    """A lease with its secret. One whose secret cannot be opened is taken back, and the next in turn lent instead.

    Raises NoCredential, also where none of them can be opened.
    """
    for _ in range(PASSED_OVER_MAX):
        outcome = await run(services, command)
        assert isinstance(outcome.report, Lent)
        lent = outcome.report
        try:
            secret = await opened(services, lent.line)
        except SecretUnreadable as error:
            log.warning("credential_passed_over", credential=lent.lease.credential, code=error.code)
        else:
            return _answer(lent.lease, secret, duplicate=outcome.duplicate)
        now_us = services.clock()
        spare = new_id(services, now_us)
        await run(services, TakeBackLease(now_us, command.id, lent.lease.credential, spare, command.actor))
        command = msgspec.structs.replace(command, received_at_us=now_us)
    raise NoCredential(f"the secrets of {PASSED_OVER_MAX} credentials in turn could not be opened", retry_after_s=1)


async def end(services: Services, command: ReportLease) -> Reported:
    """A lease as its report left it."""
    outcome = await run(services, command)
    assert isinstance(outcome.report, Reported)
    return outcome.report


def _answer(lease: LeaseRow, secret: dict[str, str], *, duplicate: bool) -> LeaseAnswer:
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
