"""The valid keys as the ledger has them now, looked up once a turn of the event loop rather than once a request."""

import asyncio
from pathlib import Path

from ledger.database import open_reader
from projections import key
from projections.key import KeyRecord


class KnownKeys:
    """Keys found since the file last changed. A revoked key is refused at the next request, in each worker.

    `PRAGMA data_version` tells whether anyone has written. It is asked at the first request of a turn of the loop: a
    request that was sent after a revocation was acknowledged is of a later turn.
    """

    def __init__(self, path: Path) -> None:
        self._db = open_reader(path)
        self._records: dict[str, KeyRecord] = {}
        self._version: int | None = None
        self._fresh = False

    def find(self, key_id: str) -> KeyRecord | None:
        """A valid key by its id."""
        if not self._fresh:
            self._look()
        record = self._records.get(key_id)
        if record is None:
            record = key.find(self._db, key_id)
            if record is not None:
                self._records[key_id] = record
        return record

    def _look(self) -> None:
        version: int | None = self._db.execute("PRAGMA data_version").get
        if version != self._version:
            self._records.clear()
            self._version = version
        self._fresh = True
        asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._fresh = False

    def close(self) -> None:
        """Close the connection."""
        self._db.close()
