"""Drawing API keys: `ulk_<id>_<secret>`, 256 random bits that are shown once and stored only as a SHA-256."""

import secrets
from hashlib import sha256

from msgspec import Struct

from schema.key import CreateKey, KeyCreated, Role

PREFIX = "ulk"
ID_BYTES = 6
SECRET_BYTES = 32
ACTOR = "cli"  # who did it, in events that the command line causes


class NewKey(Struct, frozen=True):
    """A key that was drawn: `text` goes to its owner and nowhere else."""

    id: str
    text: str

    @property
    def sha256(self) -> str:
        """The hex digest of the whole text."""
        return sha256(self.text.encode()).hexdigest()


def new_key(id_: str | None = None) -> NewKey:
    """Draw a key, its id too, which so tells nothing about when it was made; a given id has no underscore."""
    id_ = id_ or secrets.token_hex(ID_BYTES)
    return NewKey(id_, f"{PREFIX}_{id_}_{secrets.token_urlsafe(SECRET_BYTES)}")


def command(
    key: NewKey, role: Role, received_at_us: int, *, app: str | None = None, name: str | None = None
) -> CreateKey:
    """The command that makes a drawn key valid."""
    created = KeyCreated(id=key.id, role=role, app=app, name=name, sha256=key.sha256)
    return CreateKey(actor=ACTOR, received_at_us=received_at_us, key=created)
