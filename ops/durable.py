"""Making files and names survive a power cut."""

import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Bring a file's content to stable storage. Never for a database in use: closing the handle drops its locks."""
    _sync(path, os.O_RDWR)


def sync_directory(directory: Path) -> None:
    """Bring names that were added or changed in a directory to stable storage."""
    _sync(directory, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
