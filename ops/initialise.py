"""A fresh data directory: the master key and the first admin key. Safe to run twice."""

import os
import secrets
from base64 import b64encode
from pathlib import Path

from ledger.ledger import Ledger
from ops import keys
from ops.bootstrap import clock_us, opened
from ops.durable import sync_directory
from ops.keys import NewKey
from ops.settings import SECRET_KEY_BYTES, Settings
from schema.errors import IdConflict

SECRET_KEY_FILE = "secret.key"  # noqa: S105 - a file name
# A fixed id, so that the ledger itself refuses a second first key, also when two commands race.
FIRST_KEY_ID = "initial-admin"


def initialise(settings: Settings) -> NewKey | None:
    """Make what is missing. Returns the first admin key the first time, None ever after."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    ensure_secret_key(settings)
    with opened(settings) as ledger:
        key = keys.new_key(FIRST_KEY_ID)
        try:
            add_key(ledger, keys.command(key, "admin", clock_us(), name="first admin key"))
        except IdConflict:
            return None
    return key


def add_key(ledger: Ledger, command: keys.CreateKey) -> None:
    """Make a drawn key valid; raises what the ledger answered."""
    ledger.execute_one_now(command)


def ensure_secret_key(settings: Settings) -> None:
    """Make the master key's file unless there is one or the environment has the key."""
    path = settings.directory / SECRET_KEY_FILE
    if settings.secret_key or path.exists():
        return
    # Written whole under another name first: a key file cut short by a crash would be worse than none.
    draft = path.with_name(f"{SECRET_KEY_FILE}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(b64encode(secrets.token_bytes(SECRET_KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(handle)
        _link_once(draft, path)
    finally:
        draft.unlink()
    sync_directory(settings.directory)


def _link_once(draft: Path, path: Path) -> None:
    """Of two that race the first one's key stands."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return
