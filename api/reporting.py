"""Reporting usage: collecting it from the journal, making batches, sending them, for ever.

How far it is and what is under way is in the ledger, so a restart loses nothing. Several workers may do this at once:
a stretch is taken in once, and a batch is sent by who claimed it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

import structlog

from api.payment import PaymentSystem, Sent, UsageBatch
from api.settings import ApiSettings
from ledger import reconciliation, report_reads, usage_fold
from ledger.commands.usage_report import BATCHES_KEPT_US, Collected, Made
from ledger.commands.usage_report_sending import Claimed
from ledger.decision import Command
from ledger.ledger import Ledger
from ledger.report_state import BatchRow
from ledger.writer import Appended
from schema.errors import LedgerError
from schema.times import SECOND_US
from schema.usage_report import (
    ClaimBatches,
    CollectUsage,
    Cut,
    CutBatches,
    FinishBatch,
    PruneBatches,
    SendOutcome,
    StartReporting,
    customer_of,
)

log = structlog.get_logger()

LOOK_INTERVAL_S_MAX = 1.0
SEND_TIMEOUTS, CLAIM_TIMEOUTS = 2, 4  # how long a sending may take in all, and when another may take it on
SENDING_MAX = 8
CUT_AT_ONCE_MAX = 200
COLLECT_BYTES, COMMAND_BYTES = 16_384, 512  # what commands may weigh in the queue


class Reporter:
    """One a process. What it sent since it started is counted by outcome, for the metrics."""

    def __init__(
        self,
        ledger: Ledger,
        settings: ApiSettings,
        clock: Callable[[], int],
        payment: PaymentSystem,
        jitter_ppm: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self.payment = payment
        self._jitter_ppm = jitter_ppm
        self._sending: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self.sent = Counter[SendOutcome]()

    @property
    def _cut(self) -> Cut:
        settings = self._settings
        return Cut(round(settings.report_interval_s * SECOND_US), settings.report_calls_max, settings.payment_decimals)

    async def begin(self) -> None:
        """Say from where on usage is reported, once; before any call of this process is taken."""
        if await self._ledger.readers.run(reconciliation.head) is None:
            from_beginning = self._settings.report_from == "beginning"
            await self._run(StartReporting(self._clock(), from_beginning))

    async def _run(self, command: Command) -> Appended:
        return await self._ledger.execute_one(command, COMMAND_BYTES)

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    async def run(self) -> None:
        """Work for ever."""
        pause_s = min(LOOK_INTERVAL_S_MAX, self._settings.report_interval_s)
        try:
            while True:
                try:
                    await self.step()
                except LedgerError as error:
                    log.warning("reporting_waits", code=error.code)
                except Exception:
                    log.exception("reporting_waits")  # the next step may succeed; this task must not end for good
                await self._wait(pause_s)
        finally:
            await self._end()

    async def _wait(self, pause_s: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), pause_s)
        except TimeoutError:
            return
        finally:
            self._woken.clear()

    async def step(self) -> None:
        """Collect all there is, make what batches are due, and begin to send what is due."""
        await self.begin()
        while await self._collect():
            pass
        while await self._make():
            pass
        await self._send()
        await self._prune()

    async def _collect(self) -> bool:
        """One stretch; whether there may be more."""
        head = await self._ledger.readers.run(reconciliation.head)
        if head is None:
            return False
        until, moved = await self._ledger.readers.run(usage_fold.stretch, head.position)
        # Where nothing moved nothing is written, until it has come to a whole stretch.
        if until == head.position or (not moved and until - head.position < usage_fold.STRETCH_EVENTS):
            return False
        command = CollectUsage(self._clock(), head.position, until, moved)
        outcome = await self._ledger.execute_one(command, COLLECT_BYTES)
        assert isinstance(outcome.report, Collected)
        return until - head.position == usage_fold.STRETCH_EVENTS

    async def _make(self) -> bool:
        now_us = self._clock()
        if not await self._ledger.readers.run(report_reads.has_cut, now_us, self._cut):
            return False
        made = (await self._run(CutBatches(now_us, self._cut, CUT_AT_ONCE_MAX))).report
        assert isinstance(made, Made)
        return made.batches == CUT_AT_ONCE_MAX

    async def _send(self) -> None:
        room = SENDING_MAX - len(self._sending)
        if room == 0 or not await self._ledger.readers.run(report_reads.has_due, self._clock()):
            return
        claim_us = round(CLAIM_TIMEOUTS * self._settings.send_timeout_s * SECOND_US)
        command = ClaimBatches(self._clock(), room, claim_us, self.payment.resend_us)
        claimed = (await self._run(command)).report
        assert isinstance(claimed, Claimed)
        for row in claimed.batches:
            task = asyncio.create_task(self._deliver(row))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _deliver(self, row: BatchRow) -> None:
        """Send until the room is used up, one batch after the other, so that a backlog goes as fast as it is taken."""
        sent = await self._sent(row)
        self.sent[sent.outcome] += 1
        log.info("usage_reported", batch=row.id, outcome=sent.outcome, error=sent.error)
        command = FinishBatch(
            self._clock(), row.id, row.claim, sent.outcome, self._settings.report_attempts_max,
            self._jitter_ppm(), sent.error, sent.retry_after_s,
        )  # fmt: skip
        try:
            await self._run(command)
        except LedgerError as error:
            # It is sent again, under the same id, when the claim is over.
            log.warning("report_not_kept", batch=row.id, code=error.code)
        self.wake()  # there is room for another one

    async def _sent(self, row: BatchRow) -> Sent:
        user_id = row.user_id or None
        batch = UsageBatch(
            id=row.id, customer=customer_of(row.app, user_id), app=row.app, user_id=user_id, value=row.value,
            decimals=row.decimals, amount=row.amount, calls=row.calls, tokens=int(row.tokens), after=row.after,
            until=row.until, created_at_us=row.created_at_us,
        )  # fmt: skip
        try:
            async with asyncio.timeout(SEND_TIMEOUTS * self._settings.send_timeout_s):
                return await self.payment.send(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold the key
            return Sent(outcome="failed", error=type(error).__name__)

    async def _prune(self) -> None:
        now_us = self._clock()
        oldest_us = await self._ledger.readers.run(report_reads.oldest_reported_us)
        if oldest_us is not None and oldest_us < now_us - BATCHES_KEPT_US:
            await self._run(PruneBatches(now_us, report_reads.PRUNED_AT_ONCE_MAX))

    async def _end(self) -> None:
        """Give up what is under way: it is sent again, by whoever, when its claim is over."""
        tasks = list(self._sending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
