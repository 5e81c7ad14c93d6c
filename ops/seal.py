"""A backup's last 48 bytes: a mark and the SHA-256 of all before them.

SQLite reads as many pages as a file's header says, so it does not see them, and the file stays an ordinary database.
They find what the check of entries and rows cannot: a changed byte where no entry and no row is.
"""

import os
from hashlib import file_digest
from pathlib import Path

MARK = b"usage-ledger.sha"
SEAL_BYTES = len(MARK) + 32
SECTOR_BYTES = 512  # a database is a multiple of it


def seal(path: Path) -> None:
    """Append the seal to a finished file."""
    with path.open("r+b") as file:
        digest = file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(MARK + digest)


def unseal(path: Path) -> bool:
    """Take the seal off, and tell whether the rest is what was sealed; a database without one is taken as it is."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        sealed = max(size - SEAL_BYTES, 0)
        file.seek(sealed)
        found = file.read()
        if not found.startswith(MARK):
            return size % SECTOR_BYTES == 0
        file.truncate(sealed)
        file.seek(0)
        return file_digest(file, "sha256").digest() == found[len(MARK) :]
