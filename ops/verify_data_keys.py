"""Checking the state of sealing: each secret that was not erased has its data key, and there is no other."""

import apsw

from ledger import data_keys
from ledger.keyring import Keyring
from ops.faults import Faults
from schema.credential import CREDENTIAL
from schema.errors import SecretUnreadable
from schema.payment_client import PAYMENT_CLIENT
from schema.sealed import WrappedKey
from schema.webhook import WEBHOOK

DATA_KEYS = "data_keys"
PAGE_ROWS = 1_000

# Where there are sealed secrets: the table, and when a row has none any more.
_SEALED = ((CREDENTIAL, "erased"), (PAYMENT_CLIENT, "deleted"), (WEBHOOK, "deleted"))
_MISSING = (
    "SELECT c.id FROM {table} c LEFT JOIN data_keys k ON k.id = c.data_key AND k.subject = ?1 || '/' || c.id "
    "WHERE NOT c.{gone} AND k.id IS NULL ORDER BY c.id LIMIT 1000"
)
_NOT_OF = " AND NOT EXISTS (SELECT 1 FROM {table} c WHERE c.data_key = k.id AND NOT c.{gone})"
_EXTRA = "SELECT k.id, k.subject FROM data_keys k WHERE 1{but} ORDER BY k.id LIMIT 1000"


def check_data_keys(db: apsw.Connection, keyring: Keyring | None, faults: Faults, notes: list[str]) -> None:
    """Compare state with what is sealed and, where there is a keyring, open every data key."""
    sealed = [(kind, gone) for kind, gone in _SEALED if db.table_exists("main", kind.table)]
    if not sealed or not all(db.table_exists("main", name) for name in (DATA_KEYS, "master_key")):
        notes.append("data keys not compared: the file is of an earlier version")
        return
    for kind, gone in sealed:
        for (id_,) in db.execute(_MISSING.format(table=kind.table, gone=gone), (kind.noun,)):
            faults.add(DATA_KEYS, "the data key of a secret that was not erased is missing", key=f"{kind.noun}/{id_}")
    but = "".join(_NOT_OF.format(table=kind.table, gone=gone) for kind, gone in sealed)
    for id_, subject in db.execute(_EXTRA.format(but=but)):
        faults.add(DATA_KEYS, f"no secret of {subject!r} is sealed with it", key=str(id_))
    if data_keys.by_master_key(db) and data_keys.master_key_id(db) is None:
        faults.add("master_key", "there are data keys, and no master key is said to wrap them")
    if keyring is not None:
        _open_all(db, keyring, faults)
        notes.extend(unreadable(db, keyring))


def unreadable(db: apsw.Connection, keyring: Keyring) -> list[str]:
    """What stays unreadable with these master keys, a line for each one that is missing."""
    counts = data_keys.by_master_key(db)
    lost = {id_: count for id_, count in counts.items() if not _known(keyring, id_)}
    return [f"{count} secrets cannot be read: their master key {id_} is not at hand" for id_, count in lost.items()]


def _known(keyring: Keyring, id_: str) -> bool:
    try:
        return keyring.knows(id_)
    except SecretUnreadable:  # there is no master key at all
        return False


def _open_all(db: apsw.Connection, keyring: Keyring, faults: Faults) -> None:
    after = ""
    while page := data_keys.page(db, after, PAGE_ROWS):
        for wrapped in page:
            if _known(keyring, wrapped.master_key_id) and not _opens(keyring, wrapped):
                faults.add(DATA_KEYS, "it does not open with its master key: it was changed", key=wrapped.id)
        after = page[-1].id


def _opens(keyring: Keyring, wrapped: WrappedKey) -> bool:
    try:
        keyring.unwrap(wrapped)
    except SecretUnreadable:
        return False
    return True
