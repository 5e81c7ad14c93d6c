"""Where the master keys are: `secret.key` in the data directory, or the environment. One a line, the current one first.

The file is replaced whole, so that whoever reads it meanwhile sees all of it as it was or as it is.
"""

import fcntl
import os
import secrets
from base64 import b64encode
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ledger.keyring import KEY_BYTES, MASTER_KEYS_MAX, Keyring, MasterKey, ReadKeys, master_key, master_keys
from ops.durable import sync_directory
from ops.settings import Settings
from schema.errors import InvalidSetting, LedgerBusy, SecretUnreadable

SECRET_KEY_FILE = "secret.key"  # noqa: S105 - a file name


def make_keyring(settings: Settings) -> Keyring:
    """The keyring of a data directory; nothing is read before it is needed."""
    return Keyring(reader(settings), secrets.token_bytes)


def reader(settings: Settings) -> ReadKeys:
    """What gives the master keys as they are written down now; it raises SecretUnreadable where there are none."""
    if settings.secret_key:
        given = master_keys(settings.secret_key)
        return lambda: given
    path = settings.directory / SECRET_KEY_FILE
    return lambda: read(path)


def read(path: Path) -> list[MasterKey]:
    """The master keys of a file; raises SecretUnreadable where it is missing or holds something else."""
    try:
        return master_keys(path.read_text("ascii"))
    except FileNotFoundError:
        raise SecretUnreadable(f"{path} is missing") from None
    except (InvalidSetting, UnicodeDecodeError) as error:
        raise SecretUnreadable(f"{path} holds no master key: {error}") from None


def new() -> MasterKey:
    """A master key, drawn now."""
    return master_key(secrets.token_bytes(KEY_BYTES))


def ensure(settings: Settings) -> None:
    """Make the master key's file unless there is one or the environment has the key."""
    path = settings.directory / SECRET_KEY_FILE
    if settings.secret_key or path.exists():
        return
    # Written whole under another name first: a key file cut short by a crash would be worse than none.
    with _draft(path, [new()]) as draft:
        _link_once(draft, path)
    sync_directory(path.parent)


def replace(path: Path, keys: Sequence[MasterKey]) -> None:
    """Write these keys in the place of those that are there; on stable storage when it returns."""
    if len(keys) > MASTER_KEYS_MAX:
        raise InvalidSetting(f"{path} would hold more than {MASTER_KEYS_MAX} master keys; rotate without --keep-old")
    with _draft(path, keys) as draft:
        draft.replace(path)
    sync_directory(path.parent)


@contextmanager
def rotating(directory: Path) -> Generator[None]:
    """Of two that would change the keys of a directory at once, one raises LedgerBusy."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerBusy("another `usage-ledger rotate-key` is running") from None
        yield
    finally:
        os.close(handle)


@contextmanager
def _draft(path: Path, keys: Sequence[MasterKey]) -> Generator[Path]:
    """A file with these keys under a name that nobody reads, gone at the end unless it was renamed."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(b64encode(each.key) + b"\n" for each in keys)
            file.flush()
            os.fsync(handle)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _link_once(draft: Path, path: Path) -> None:
    """Of two that race the first one's key stands."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
