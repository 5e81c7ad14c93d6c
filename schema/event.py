"""The registry of event types: a name we choose plus a version, never a Python path.

Declaring a version registers it. An upcaster turns the raw payload of one version into the next one's, stepwise, so
that every version ever written still decodes.
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

import schema
from schema.entry import Entry, Recorded
from schema.errors import UnknownEventType
from schema.times import parse_time

Payload = dict[str, object]
Upcaster = Callable[[Payload], Payload]
S = TypeVar("S", bound=type[Struct])

_structs: dict[str, type[Struct]] = {}
_types: dict[type[Struct], str] = {}
_upcasters: dict[str, tuple[str, Upcaster]] = {}


def event(name: str, version: int) -> Callable[[S], S]:
    """Register a Struct as the data of `name.vVERSION`; a second registration raises at import."""
    type_ = f"{name}.v{version}"

    def register(struct: S) -> S:
        if type_ in _structs:
            message = f"event type {type_} is declared twice"
            raise ValueError(message)
        _structs[type_] = struct
        _types[struct] = type_
        return struct

    return register


def upcast(name: str, from_version: int) -> Callable[[Upcaster], Upcaster]:
    """Register the step from one version's raw payload to the next version's."""
    source, target = f"{name}.v{from_version}", f"{name}.v{from_version + 1}"

    def register(step: Upcaster) -> Upcaster:
        if source in _upcasters:
            message = f"upcaster from {source} is declared twice"
            raise ValueError(message)
        _upcasters[source] = (target, step)
        return step

    return register


@cache
def load_all() -> None:
    """Import every module of this package, so that each has registered its events."""
    for module in pkgutil.iter_modules(schema.__path__):
        importlib.import_module(f"schema.{module.name}")


def event_types() -> tuple[str, ...]:
    """Every type that decodes, current or to be upcast."""
    load_all()
    return tuple(sorted({*_structs, *_upcasters}))


def type_of(data: Struct) -> str:
    """The stored type of an event's data."""
    return _types[type(data)]


@cache
def _decoder(type_: str) -> msgspec.json.Decoder[Entry[Struct]]:
    return msgspec.json.Decoder(Entry[_structs[type_]])


_raw_decoder = msgspec.json.Decoder(Entry[Payload])


def decode(position: int, type_: str, entry: str | bytes) -> Recorded:
    """A stored entry as a recorded event of the newest version; raises UnknownEventType."""
    load_all()
    if type_ in _structs and type_ not in _upcasters:
        return _recorded(position, _decoder(type_).decode(entry))
    if type_ not in _upcasters:
        raise UnknownEventType(f"position {position} holds the unknown event type {type_}")
    raw = _raw_decoder.decode(entry)
    payload, target = raw.data, type_
    while target in _upcasters:
        target, step = _upcasters[target]
        payload = step(payload)
    data: Any = msgspec.convert(payload, _structs[target])
    return _recorded(position, msgspec.structs.replace(raw, data=data))


# Events of one group share their time of recording.
_recorded_at = lru_cache(maxsize=256)(parse_time)


def _recorded(position: int, entry: Entry[Any]) -> Recorded:
    return Recorded(
        position,
        _recorded_at(entry.recordedtime),
        entry.source,
        entry.id,
        entry.type,
        entry.subject,
        parse_time(entry.time),
        entry.actor,
        entry.data,
    )
