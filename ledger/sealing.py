"""Sealing while deciding: the data keys that a group's commands touch, and what of them changes."""

from collections.abc import Iterable

import apsw
from msgspec import Struct

from ledger import data_keys, keyring
from ledger.decision import WorkingSet
from ledger.state import Write
from schema.errors import SecretUnreadable
from schema.sealed import Drawn, Sealed, WrappedKey


class Sealing(Struct, frozen=True):
    """A secret to be sealed for a subject, with the randomness that was drawn for it. It is not printed."""

    subject: str
    secret: dict[str, str]
    drawn: Drawn
    now_us: int

    def __repr__(self) -> str:
        return f"Sealing({self.subject!r})"


class Kept(Struct):
    """A secret as it is to be kept, and the changes of state that go with it."""

    sealed: Sealed
    writes: list[Write]


def load(db: apsw.Connection, ws: WorkingSet, subjects: Iterable[str]) -> None:
    """Bring in the data keys of these subjects, and which master key wraps new ones."""
    ws.master_key_id = data_keys.master_key_id(db)
    for subject in subjects:
        wrapped = data_keys.find(db, subject)
        if wrapped is not None:
            ws.data_keys[subject] = wrapped


def sealed(ws: WorkingSet, sealing: Sealing) -> Kept:
    """A subject's first secret, under the data key that was drawn for it; raises SecretUnreadable."""
    drawn = sealing.drawn
    master = ws.master_key_id or ws.keyring.first().id
    wrapped = ws.keyring.wrap(drawn, sealing.subject, master)
    new = keyring.seal(sealing.secret, sealing.subject, drawn.key, drawn.data_key, drawn.nonce)
    return Kept(new, data_keys.put(wrapped, sealing.now_us))


def resealed(ws: WorkingSet, sealing: Sealing, before: Sealed) -> Kept:
    """Another secret of a subject, under its data key; the one before where it is the same.

    Where that data key cannot be read any more, as when its master key was lost, the drawn one takes its place.
    """
    subject = sealing.subject
    wrapped = ws.data_keys.get(subject)
    data_key = None if wrapped is None else _data_key(ws, wrapped)
    if wrapped is None or data_key is None or before.key != wrapped.id:
        return sealed(ws, sealing)
    if keyring.is_same(sealing.secret, before, data_key):
        return Kept(before, [])
    return Kept(keyring.seal(sealing.secret, subject, wrapped.id, data_key, sealing.drawn.nonce), [])


def _data_key(ws: WorkingSet, wrapped: WrappedKey) -> bytes | None:
    """The data key itself; None where it cannot be read."""
    try:
        return ws.keyring.unwrap(wrapped)
    except SecretUnreadable:
        return None


def is_same(ws: WorkingSet, subject: str, secret: dict[str, str], before: Sealed) -> bool:
    """Whether a secret is the one that was sealed; raises SecretUnreadable where that cannot be told."""
    wrapped = ws.data_keys.get(subject)
    if wrapped is None or wrapped.id != before.key:
        raise SecretUnreadable(f"{subject}: the data key of its first secret is not there")
    return keyring.is_same(secret, before, ws.keyring.unwrap(wrapped))
