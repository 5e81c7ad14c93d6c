"""Telling webhooks of events: in order for each, each apart, at least once, for ever.

How far each is, is in the ledger. One process tells a webhook at a time; another takes it on when a claim is over.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import structlog
from msgspec import Struct

from api.outbound import Poster, Reply
from api.settings import ApiSettings
from ledger import webhook_reads
from ledger.commands.webhook_delivery import Held, Taken
from ledger.decision import Command
from ledger.ledger import Ledger
from ledger.webhook_reads import Message
from schema.errors import LedgerError
from schema.times import SECOND_US, parse_time
from schema.webhook import AdvanceWebhook, ClaimWebhook, Failure, FinishDead, subject_of
from schema.webhook_signature import headers, key_of

log = structlog.get_logger()

LOOK_INTERVAL_S = 1.0
KEEP_INTERVAL_S = 1.0  # how long may be told before how far it is is kept
CLAIM_TIMEOUTS = 4
COMMAND_BYTES = 512
CLOUD_EVENT = "application/cloudevents+json; charset=utf-8"


class Told(Struct):
    """How far a stretch was told."""

    until: int
    delivered: int = 0
    failure: Failure | None = None


class Deliverer:
    """One a process. What it sent since it started is counted by outcome, for the metrics."""

    def __init__(
        self,
        ledger: Ledger,
        settings: ApiSettings,
        clock: Callable[[], int],
        poster: Poster,
        jitter_ppm: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._poster = poster
        self._jitter_ppm = jitter_ppm
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, int] = {}
        self.sent = Counter[str]()

    @property
    def _claim_us(self) -> int:
        return round(CLAIM_TIMEOUTS * self._settings.send_timeout_s * SECOND_US)

    async def run(self) -> None:
        """Look for what is to be told, for ever."""
        try:
            while True:
                try:
                    await self.look()
                except LedgerError as error:
                    log.warning("webhooks_wait", code=error.code)
                except Exception:
                    log.exception("webhooks_wait")  # the next look may succeed; this task must not end for good
                await asyncio.sleep(LOOK_INTERVAL_S)
        finally:
            await self._end()

    async def look(self) -> None:
        """Begin to tell each webhook that has something to be told, beside those under way."""
        found, seen = await self._ledger.readers.run(webhook_reads.due, self._clock(), dict(self._seen))
        self._seen = seen
        for id_ in found:
            if id_ not in self._under_way:
                task = asyncio.create_task(self._tell(id_))
                self._under_way[id_] = task
                task.add_done_callback(lambda _, id_=id_: self._under_way.pop(id_))

    async def _tell(self, id_: str) -> None:
        try:
            await self._tell_all(id_)
        except LedgerError as error:
            log.warning("webhook_waits", webhook=id_, code=error.code)  # it is told on when its claim is over
        except Exception:
            log.exception("webhook_waits", webhook=id_)

    async def _tell_all(self, id_: str) -> None:
        """Claim a webhook and tell it all there is, until something fails or the claim is lost."""
        taken = await self._run(ClaimWebhook(self._clock(), id_, self._claim_us))
        if not isinstance(taken, Taken):
            return
        keys = self._keys(taken)
        is_held = await self._retry_dead(taken, keys)
        after, is_done = taken.row.position, False
        while is_held and not is_done:
            begun_s = time.monotonic()
            found = await self._ledger.readers.run(webhook_reads.stretch, taken.content, after)
            told = await self._told(taken, keys, found.messages, after, begun_s)
            is_whole = told.failure is None and (not found.messages or told.until == found.messages[-1].position)
            after = found.until if is_whole else told.until
            is_done = is_whole and not found.more
            command = AdvanceWebhook(
                self._clock(), id_, taken.row.claim, taken.version, after, told.delivered, told.failure, is_done,
                self._claim_us, self._settings.webhook_attempts_max, self._jitter_ppm(),
            )  # fmt: skip
            kept = await self._run(command)
            is_held = isinstance(kept, Held) and kept.held

    def _keys(self, taken: Taken) -> list[bytes]:
        """The keys that sign: the current one, and the one before while it is in force. Raises SecretUnreadable."""
        content, keyring = taken.content, self._ledger.require_keyring()
        secrets = keyring.open(content.secret, subject_of(content.id), taken.wrapped)
        until = content.previous_until
        if until is None or parse_time(until) <= self._clock():
            secrets.pop("previous", None)
        found = (key_of(secrets[name]) for name in ("key", "previous") if name in secrets)
        return [key for key in found if key is not None]

    async def _retry_dead(self, taken: Taken, keys: list[bytes]) -> bool:
        """What is to be told again, out of its turn; whether the claim still holds."""
        for message in await self._ledger.readers.run(webhook_reads.messages_at, taken.retrying):
            reply = await self._send(taken.content.url, keys, message)
            error = None if _is_taken(reply) else reply.error
            command = FinishDead(
                self._clock(), taken.content.id, taken.row.claim, taken.version, message.position, error
            )  # fmt: skip
            kept = await self._run(command)
            if not (isinstance(kept, Held) and kept.held):
                return False
        return True

    async def _told(self, taken: Taken, keys: list[bytes], messages: list[Message], after: int, begun_s: float) -> Told:
        """One after the other, until one fails or so much time is over that what was told must be kept."""
        told = Told(after)
        for message in messages:
            reply = await self._send(taken.content.url, keys, message)
            if not _is_taken(reply):
                told.failure = Failure(message.position, reply.error or "no answer", reply.retry_after_s)
                break
            told.until, told.delivered = message.position, told.delivered + 1
            if time.monotonic() - begun_s > KEEP_INTERVAL_S:
                break
        return told

    async def _send(self, url: str, keys: list[bytes], message: Message) -> Reply:
        now_s = self._clock() // SECOND_US
        signed = headers(keys, message.id, now_s, message.body)
        reply = await self._poster.ask("POST", url, {**signed, "Content-Type": CLOUD_EVENT}, message.body)
        self.sent["delivered" if _is_taken(reply) else "failed"] += 1
        return reply

    async def _run(self, command: Command) -> Struct | None:
        return (await self._ledger.execute_one(command, COMMAND_BYTES)).report

    async def _end(self) -> None:
        """Give up what is under way: another process goes on when its claim is over."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_taken(reply: Reply) -> bool:
    return reply.status is not None and 200 <= reply.status < 300  # noqa: PLR2004 - HTTP's own
