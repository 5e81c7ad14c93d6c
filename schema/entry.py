"""The stored entry: a CloudEvents 1.0 object in canonical field order, encoded once. It is the truth.

Source: CloudEvents 1.0.2; `sequence` (text, by that extension's definition), `recordedtime` and `actor` are extension
attributes.
"""

from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from schema.errors import EntryTooLarge

ENTRY_BYTES_MAX = 65_535

D = TypeVar("D")


class Entry(Struct, Generic[D], frozen=True, kw_only=True):
    """One line of history. `time` is when it happened, `recordedtime` when the ledger took it."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: str
    sequence: str
    recordedtime: str
    actor: str
    data: D


class NewEvent(Struct, gc=False):
    """What a decision wants appended; the journal adds position and time of recording."""

    source: str
    id: str
    subject: str
    time: str
    time_us: int
    actor: str
    data: Struct


class Recorded(Struct, gc=False):
    """An event in the journal, with its data decoded to the newest version."""

    position: int
    recorded_at_us: int
    source: str
    id: str
    type: str
    subject: str
    time_us: int
    actor: str
    data: Struct


# The declared order is the canonical one: the same event gives the same bytes on any machine.
_encoder = msgspec.json.Encoder()


class _Line(Struct, gc=False):
    """An Entry without its type parameter: generic Structs cost more to make, and this is the hot path."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    sequence: str
    recordedtime: str
    actor: str
    data: Struct


def encode(event: Recorded, time: str, recordedtime: str) -> bytes:
    """The bytes of an entry; raises EntryTooLarge over 65,535 of them."""
    line = _Line(
        "1.0", event.id, event.source, event.type, event.subject, time, str(event.position), recordedtime,
        event.actor, event.data,
    )  # fmt: skip
    entry = _encoder.encode(line)
    if len(entry) > ENTRY_BYTES_MAX:
        raise EntryTooLarge(f"the entry would have {len(entry)} bytes, the limit is {ENTRY_BYTES_MAX}")
    return entry
