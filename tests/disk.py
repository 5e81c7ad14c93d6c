"""A disk that fails on demand and remembers what it had synced: an APSW VFS over the system's own.

The system's file is never synced, which is fast; what a power cut would leave is kept in memory. A failed sync leaves
what it should have written to the next one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import apsw

from ledger.database import Durability, open_writer

_numbers = count(1)

# operation (write, sync, truncate), file suffix ("" or "-wal"), its number among those of this kind, from 1
Fails = Callable[[str, str, int], bool]


@dataclass(frozen=True)
class Operation:
    """Something done to a file: data written at an offset; None: cut off there; `sync`: all before it is stable."""

    path: str
    offset: int = 0
    data: bytes | None = None
    sync: bool = False

    def change(self, image: bytearray) -> None:
        """Do it to a file in memory."""
        if self.data is None:
            del image[self.offset :]
            return
        image.extend(bytes(max(0, self.offset - len(image))))
        image[self.offset : self.offset + len(self.data)] = self.data


def never(operation: str, file: str, number: int) -> bool:
    return False


class Disk(apsw.VFS):
    """Pass `open_connection` to a writer. `fails` decides on each operation; `failed` counts those it stopped.

    `log` has each operation that was done, in order, and whatever a test puts in between.
    """

    def __init__(self) -> None:
        self.name = f"disk-{next(_numbers)}"
        self.fails: Fails = never
        self.counted: dict[tuple[str, str], int] = {}
        self.failed = 0
        self.synced: dict[str, bytearray] = {}
        self.pending: dict[str, list[Operation]] = {}
        self.log: list[Operation | None] = []
        super().__init__(self.name, "unix")

    def fail_wal(self, operation: str, first: int, failures: int) -> None:
        """Fail that many of these operations on the WAL, from the first one after now."""
        begin = self.counted.get((operation, "-wal"), 0) + first
        self.fails = lambda each, file, number: (
            (each, file) == (operation, "-wal") and begin <= number < begin + failures
        )

    def heal(self) -> None:
        self.fails = never

    def open_connection(self, path: Path, durability: Durability) -> apsw.Connection:
        return open_writer(path, durability, vfs=self.name)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - APSW names it
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        if path not in self.synced:
            found = Path(path).read_bytes() if Path(path).is_file() else b""
            self.synced[path], self.pending[path] = bytearray(found), []
        return File(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - APSW's own signature
        super().xDelete(filename, syncdir)
        self.synced.pop(filename, None)
        self.pending.pop(filename, None)
        self.log.append(Operation(filename))

    def meet(self, operation: str, path: str, result: int) -> None:
        """Count an operation, and fail it if it is to fail."""
        key = operation, "-wal" if path.endswith("-wal") else ""
        self.counted[key] = self.counted.get(key, 0) + 1
        if self.fails(*key, self.counted[key]):
            self.failed += 1
            error = apsw.IOError(f"{operation} {self.counted[key]} of {path} fails")
            error.extendedresult = result  # pyright: ignore[reportAttributeAccessIssue] - APSW reads it
            raise error

    def sync(self, path: str) -> None:
        """All that is pending reaches the platter."""
        for operation in self.pending[path]:
            operation.change(self.synced[path])
        self.pending[path].clear()
        self.log.append(Operation(path, sync=True))

    def done(self, operation: Operation) -> None:
        """Remember what the next sync has to bring to the platter."""
        self.pending[operation.path].append(operation)
        self.log.append(operation)

    def after_power_cut(self, directory: Path) -> Path:
        """What was synced, as files in a directory; returns the ledger's."""
        directory.mkdir()
        for path, image in self.synced.items():
            if image:
                (directory / Path(path).name).write_bytes(image)
        return directory / next(Path(path).name for path in self.synced if not path.endswith("-wal"))


class File(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.disk = disk
        self.path = path
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # pyright: ignore[reportIncompatibleMethodOverride]
        self.disk.meet("write", self.path, apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)
        self.disk.done(Operation(self.path, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - APSW names it
        self.disk.meet("truncate", self.path, apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(newsize)
        self.disk.done(Operation(self.path, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - APSW names it
        self.disk.meet("sync", self.path, apsw.SQLITE_IOERR_FSYNC)
        self.disk.sync(self.path)
