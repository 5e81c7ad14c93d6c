"""Copies the WAL back into the file beside the writer, so that commits seldom have to wait for it.

Passive checkpoints take nothing from anyone, but never finish while writes go on. The writer's own checkpoint, at
WAL_AUTOCHECKPOINT_PAGES, then finds little left, finishes, and the next write starts the WAL anew: that keeps it
bounded.
"""

import threading
from pathlib import Path

import apsw
import structlog

from ledger.database import BUSY_TIMEOUT_MS, WAL_AUTOCHECKPOINT_PAGES, Durability, open_writer

log = structlog.get_logger()

LOOK_INTERVAL_S = 0.1
PENDING_PAGES = WAL_AUTOCHECKPOINT_PAGES // 4


class Checkpointer:
    """One thread with a connection of its own."""

    def __init__(self, path: Path, durability: Durability, erased: threading.Event | None = None) -> None:
        self._path = path
        self._erased = erased or threading.Event()
        self._durability: Durability = durability
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-checkpoint", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End after the checkpoint that is running."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        db = open_writer(self._path, self._durability)
        try:
            while not self._stopping.wait(LOOK_INTERVAL_S):
                _checkpoint(db)
                if self._erased.is_set():
                    self._cut_wal(db)
        finally:
            db.close()

    def _cut_wal(self, db: apsw.Connection) -> None:
        """Empty the WAL, where what was erased can still be read, as soon as nobody reads from it."""
        self._erased.clear()
        db.set_busy_timeout(0)  # it would wait with the write lock held
        try:
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            self._erased.set()
        except apsw.Error as error:
            self._erased.set()
            log.warning("checkpoint_failed", error=str(error))
        finally:
            db.set_busy_timeout(BUSY_TIMEOUT_MS)


def _checkpoint(db: apsw.Connection) -> None:
    try:
        pages, copied = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        if pages - copied >= PENDING_PAGES:
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.BusyError:
        return  # another process is at it
    except apsw.Error as error:
        # The writer's own checkpoint meets the same error where someone waits for the answer.
        log.warning("checkpoint_failed", error=str(error))
