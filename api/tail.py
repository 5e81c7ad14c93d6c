"""Following the journal as it grows: Server-Sent Events that resume and never skip or repeat.

One watcher a process looks for a new head while anyone follows, so followers cost the writer nothing. A follower
holds one bounded page; how fast it reads decides when it gets the next.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import structlog

from api.settings import ApiSettings
from ledger import journal
from ledger.readers import Readers
from schema.errors import LedgerError, Overloaded

log = structlog.get_logger()

WATCH_INTERVAL_S = 0.1
PAGE_EVENTS_MAX = 64  # at most 4 MiB that a reader who has stopped reading keeps in memory
RETRY_MS = 1_000
HEARTBEAT = b": heartbeat\n\n"

Chunk = tuple[bytes, int]
Next = Callable[[int], Awaitable[Chunk]]


class Tail:
    """The followers of one process."""

    def __init__(self, readers: Readers, settings: ApiSettings) -> None:
        self.readers = readers
        self.settings = settings
        self.streams = 0
        self.position = 0
        self._changed = asyncio.Condition()
        self._watcher: asyncio.Task[None] | None = None
        self._stopped = False

    async def open(self, after: int, next_: Next | None = None) -> AsyncGenerator[bytes, None]:
        """A stream that has begun, and so is counted; raises Overloaded where there are as many as allowed.

        `next_` makes bytes of what comes after a position and tells up to where; by default of the entries.
        """
        if self.streams >= self.settings.sse_streams_max:
            raise Overloaded(f"{self.streams} streams are open, the limit", retry_after_s=5)
        stream = self.follow(after, next_ or self._next)
        await anext(stream)
        return stream

    async def follow(self, after: int, next_: Next) -> AsyncGenerator[bytes, None]:
        """Everything after a position, then what comes, as SSE bytes; a heartbeat when nothing does.

        The first item is empty: with it the follower is counted, until the stream ends or is let go.
        """
        self.streams += 1
        try:
            yield b""
            yield f"retry: {RETRY_MS}\n\n".encode()
            while not self._stopped:
                chunk, after = await next_(after)
                if chunk:
                    yield chunk
                elif not await self._grown(after):
                    yield HEARTBEAT
        finally:
            self.streams -= 1

    async def _next(self, after: int) -> Chunk:
        """The next events as SSE, and the position of the last one."""
        page = await self.readers.run(journal.page, after, PAGE_EVENTS_MAX)
        lines = page.lines
        chunk = b"".join(f"id: {line.position}\ndata: {line.entry}\n\n".encode() for line in lines)
        return chunk, lines[-1].position if lines else after

    async def _grown(self, after: int) -> bool:
        """Wait until there is more; False when it is time for a heartbeat."""
        self._watch()
        try:
            async with asyncio.timeout(self.settings.sse_heartbeat_s), self._changed:
                await self._changed.wait_for(lambda: self.position > after or self._stopped)
        except TimeoutError:
            return False
        return True

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self.streams and not self._stopped:
            try:
                position = await self.readers.run(journal.head_position)
            except LedgerError as error:
                log.warning("tail_waits", error=error.detail)
            else:
                await self._announce(position)
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def _announce(self, position: int) -> None:
        if position > self.position:
            async with self._changed:
                self.position = position
                self._changed.notify_all()

    async def stop(self) -> None:
        """End every stream; clients come back with Last-Event-ID."""
        self._stopped = True
        async with self._changed:
            self._changed.notify_all()
        if self._watcher is not None:
            await self._watcher
