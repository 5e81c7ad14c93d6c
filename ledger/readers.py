"""Reads: a few query-only connections, each in its own thread, every read one snapshot and bounded in time.

A read that never ended would keep the WAL from being reset, so a deadline interrupts it.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import apsw

from ledger.database import open_reader, snapshot
from schema.errors import Overloaded, QueryTooExpensive

READERS = 4
READS_WAITING_MAX = 256
READ_SECONDS_MAX = 15.0
STEPS_BETWEEN_CHECKS = 20_000

P = ParamSpec("P")
T = TypeVar("T")
Read = Callable[Concatenate[apsw.Connection, P], T]


class Readers:
    """A bounded pool of reading connections."""

    def __init__(self, path: Path, *, readers: int = READERS, seconds_max: float = READ_SECONDS_MAX) -> None:
        self.path = path
        self.seconds_max = seconds_max
        self.waiting = 0
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="ledger-reader")
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []

    async def run(self, read: Read[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a read off the event loop. Raises Overloaded when too many wait, QueryTooExpensive past the deadline."""
        if self.waiting >= READS_WAITING_MAX:
            raise Overloaded("too many reads are waiting", retry_after_s=1)
        self.waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, lambda: self.now(read, *args, **kwargs))
        finally:
            self.waiting -= 1

    def now(self, read: Read[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a read in this thread, as one snapshot."""
        db = self._connection()
        deadline = time.monotonic() + self.seconds_max
        db.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_CHECKS)
        try:
            with snapshot(db):
                return read(db, *args, **kwargs)
        except apsw.InterruptError as error:
            raise QueryTooExpensive(f"the query took more than {self.seconds_max:g} seconds") from error

    def _connection(self) -> apsw.Connection:
        db: apsw.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = open_reader(self.path)
            self._local.db = db
            self._opened.append(db)
        return db

    def close(self) -> None:
        """Wait for running reads and close."""
        self._threads.shutdown(wait=True)
        for db in self._opened:
            db.close()
        self._opened.clear()
