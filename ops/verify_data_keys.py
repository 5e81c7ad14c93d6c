"""Checking the state of sealing: each secret that was not erased has its data key, and there is no other."""

import apsw

from ledger import data_keys
from ledger.keyring import Keyring
from ops.faults import Faults
from schema.credential import CREDENTIAL
from schema.errors import SecretUnreadable
from schema.sealed import WrappedKey
from schema.webhook import WEBHOOK

DATA_KEYS = "data_keys"
PAGE_ROWS = 1_000

_MISSING = (
    "SELECT c.id FROM credentials c LEFT JOIN data_keys k ON k.id = c.data_key AND k.subject = ?1 || '/' || c.id "
    "WHERE NOT c.erased AND k.id IS NULL ORDER BY c.id LIMIT 1000"
)
_MISSING_OF_WEBHOOKS = (
    "SELECT w.id FROM webhooks w LEFT JOIN data_keys k ON k.id = w.data_key AND k.subject = ?1 || '/' || w.id "
    "WHERE NOT w.deleted AND k.id IS NULL ORDER BY w.id LIMIT 1000"
)
_EXTRA = (
    "SELECT k.id, k.subject FROM data_keys k WHERE NOT EXISTS "
    "(SELECT 1 FROM credentials c WHERE c.data_key = k.id AND NOT c.erased) AND NOT EXISTS "
    "(SELECT 1 FROM webhooks w WHERE w.data_key = k.id AND NOT w.deleted) ORDER BY k.id LIMIT 1000"
)


def check_data_keys(db: apsw.Connection, keyring: Keyring | None, faults: Faults, notes: list[str]) -> None:
    """Compare state with credentials and webhooks and, where there is a keyring, open every data key."""
    if not all(db.table_exists("main", name) for name in (DATA_KEYS, "master_key", CREDENTIAL.table, WEBHOOK.table)):
        notes.append("data keys not compared: the file is of an earlier version")
        return
    for query, noun in ((_MISSING, CREDENTIAL.noun), (_MISSING_OF_WEBHOOKS, WEBHOOK.noun)):
        for (id_,) in db.execute(query, (noun,)):
            faults.add(DATA_KEYS, "the data key of a secret that was not erased is missing", key=f"{noun}/{id_}")
    for id_, subject in db.execute(_EXTRA):
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
