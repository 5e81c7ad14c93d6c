"""Drawing API keys: `ulk_<id>_<secret>`, 256 random bits that are shown once and stored only as a SHA-256."""

import re
import secrets
from hashlib import sha256

from msgspec import Struct

from schema.key import CreateKey, KeyCreated, Role

PREFIX = "ulk"
ID_BYTES = 6
SECRET_BYTES = 32
# The id is drawn too, so a key tells nothing about when or in which order it was made.
KEY = re.compile(r"ulk_[0-9a-z-]+_[A-Za-z0-9_-]{43}")


class NewKey(Struct, frozen=True):
    """A key that was drawn: `text` goes to its owner and nowhere else."""

    id: str
    text: str

    @property
    def sha256(self) -> str:
        """The hex digest of the whole text."""
        return sha256(self.text.encode()).hexdigest()


def new_key(id_: str | None = None) -> NewKey:
    """Draw a key; an id, where one is given, has no underscore."""
    id_ = id_ or secrets.token_hex(ID_BYTES)
    return NewKey(id_, f"{PREFIX}_{id_}_{secrets.token_urlsafe(SECRET_BYTES)}")


def command(
    key: NewKey, role: Role, received_at_us: int, *, app: str | None = None, name: str | None = None
) -> CreateKey:
    """The command that makes a drawn key valid."""
    created = KeyCreated(id=key.id, role=role, app=app, name=name, sha256=key.sha256)
    return CreateKey(actor=ACTOR, received_at_us=received_at_us, key=created)


ACTOR = "cli"
