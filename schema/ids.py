"""Ids, and how the id of a thing names its source and subject in the journal.

A source is `/apps/<app>/<noun>` or `/ledger/<noun>`; an event's id is the client's id, later events of the same thing
are `<id>/<verb>`. A subject is `<noun>/<app>/<id>` or `<noun>/<id>`: the one can be computed from the other, so the
unique index on (id, source) also finds all events of a subject.
"""

from typing import Annotated

from msgspec import Meta

CLIENT_ID_PATTERN = r"^[A-Za-z0-9._:~-]{1,128}\Z"
CLIENT_ID_LENGTH_MAX = 128

ClientId = Annotated[
    str,
    Meta(
        pattern=CLIENT_ID_PATTERN,
        description="1 to 128 of A-Z a-z 0-9 . _ : ~ -, made by the client; a UUIDv7 is recommended.",
        examples=["01937e5c-5b9a-7cc0-8a39-3f2d1c0b9a87"],
    ),
]
ShortId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._:~-]{1,64}\Z",
        description="1 to 64 of A-Z a-z 0-9 . _ : ~ -, made by the client: others' ids are made of it.",
    ),
]
AppId = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._:~-]{1,64}\Z", description="The application.", examples=["support-bot"])
]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


def app_source(app: str, noun: str) -> str:
    """Where an app's events of a noun come from."""
    return f"/apps/{app}/{noun}"


def ledger_source(noun: str) -> str:
    """Where the ledger's own events of a noun come from."""
    return f"/ledger/{noun}"


def subject_keys(subject: str) -> tuple[str, str] | None:
    """The (source, id) of a subject's first event, or None where the text is no subject."""
    match subject.split("/"):
        case [noun, app, id_]:
            return app_source(app, noun), id_
        case [noun, id_]:
            return ledger_source(noun), id_
        case _:
            return None
