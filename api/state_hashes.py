"""State hashes for /health/ready. Hashing reads every row, so it is done again only when asked and not too often."""

import asyncio
import time

import structlog

from ledger import journal
from ledger.database import Connection
from ledger.readers import Readers
from projections.engine import registry
from projections.state_hash import prepare, state_hash
from schema.errors import QueryTooExpensive

log = structlog.get_logger()

AGE_MAX_S = 60.0

Hashes = dict[str, tuple[int, str]]


class StateHashes:
    """The last hashes taken, each with the position it belongs to."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._hashes: Hashes = {}
        self._taken_at = float("-inf")
        self._taking = asyncio.Lock()

    async def get(self) -> Hashes:
        """Hashes at most a minute old, or of the current position; none of a ledger too large to hash meanwhile."""
        async with self._taking:
            position = await self._readers.run(journal.head_position)
            current = bool(self._hashes) and all(at == position for at, _ in self._hashes.values())
            if not current and time.monotonic() - self._taken_at > AGE_MAX_S:
                self._taken_at = time.monotonic()
                try:
                    self._hashes = await self._readers.run(_take)
                except QueryTooExpensive:
                    # Too large to hash within a read's deadline; `usage-ledger status` has the time it takes.
                    log.warning("state_hashes_skipped", position=position)
            return self._hashes


def _take(db: Connection) -> Hashes:
    prepare(db)
    position = journal.head_position(db)
    return {projection.name: (position, state_hash(db, projection)) for projection in registry().values()}
