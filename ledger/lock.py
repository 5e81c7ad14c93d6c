"""`DIR/lock`: who uses a data directory. Shared while anyone runs, exclusive to replace the file.

It is an advisory lock of the kernel, gone with the process that held it, so a crash leaves nothing to clean up.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from schema.errors import LedgerBusy

LOCK_FILE = "lock"


@contextmanager
def shared(data_dir: Path) -> Generator[None]:
    """Hold the directory together with other users of the ledger."""
    with _held(data_dir, fcntl.LOCK_SH, "the ledger's file is being replaced"):
        yield


@contextmanager
def exclusive(data_dir: Path) -> Generator[None]:
    """Hold the directory alone; raises LedgerBusy while anyone else holds it."""
    with _held(data_dir, fcntl.LOCK_EX, "the ledger is in use"):
        yield


@contextmanager
def _held(data_dir: Path, kind: int, busy: str) -> Generator[None]:
    handle = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LedgerBusy(busy) from error
        yield
    finally:
        os.close(handle)
