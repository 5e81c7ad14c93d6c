"""A database of its own for rebuilding: on disk, with no name, so that it is gone however the process ends."""

from collections.abc import Generator
from contextlib import contextmanager

import apsw

from ledger.database import CACHE_KIB
from ledger.migrate import migrate


@contextmanager
def open_scratch() -> Generator[apsw.Connection, None, None]:
    """An empty ledger. SQLite puts it where SQLITE_TMPDIR or TMPDIR says, else in /var/tmp or /tmp."""
    db = apsw.Connection("")
    try:
        db.pragma("cache_size", -CACHE_KIB)
        db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
        migrate(db, 0)
        yield db
    finally:
        db.close()
