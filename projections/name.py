"""Interned names: apps, providers, models, users … as small integers, so that keys and indexes stay narrow.

Ids are given in the order of first appearance in the journal, event by event, so a rebuild gives the same ones. Id 0
stands for "absent".
"""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter

import apsw

from projections.bulk import insert
from projections.projection import Projection, Table, Target
from schema.correction import CHANGES, Counted, ModelCallChange, ModelCallCorrected
from schema.entry import Recorded
from schema.model_call import MODEL_CALL_EVENTS, ModelCall, ModelCallEvent, ModelCallRecorded, ModelCallStarted

CallEvent = ModelCallEvent | ModelCallCorrected | ModelCallChange
CALL_EVENTS = (*MODEL_CALL_EVENTS, ModelCallCorrected, *CHANGES)
NamedCall = tuple[Recorded, CallEvent, tuple[int, ...]]
Named = str | None

ABSENT = 0
NAMES_CACHED_MAX = 200_000


# What `names_of` gives for the event of a call that came whole, as nearly all do, in one step.
_names: Callable[[CallEvent], tuple[Named, ...]] = attrgetter(
    "user_id", "app", "provider", "model", "credential_id", "type", "status"
)


def _absent() -> dict[Named, int]:
    return {"": ABSENT, None: ABSENT}


class _Batch:
    """The call events of the batch that is being applied, and their names: listed once for every table of names."""

    def __init__(self) -> None:
        self.events: Sequence[Recorded] | None = None
        self.calls: list[tuple[Recorded, CallEvent, tuple[Named, ...]]] = []
        self.wanted: list[Named] = []

    def take(self, events: Sequence[Recorded]) -> None:
        """List what these have, unless that is what is listed."""
        if events is self.events:
            return
        self.calls = [
            (event, data, _names(data) if type(data) is ModelCallRecorded else names_of(data))
            for event in events
            if isinstance(data := event.data, CALL_EVENTS)
        ]
        # In order of first appearance, which is the order ids are given in.
        self.wanted = list(dict.fromkeys(chain.from_iterable(names for _, _, names in self.calls)))
        self.events = events


class NameTable:
    """The ids of names, cached. Names are never removed, so what was committed stays true in every process."""

    def __init__(self, suffix: str = "", beside: "NameTable | None" = None) -> None:
        self._table = "names" + suffix
        self._ids = _absent()
        self.batch = _Batch() if beside is None else beside.batch
        self._named_of: Sequence[Recorded] | None = None
        self._named: list[NamedCall] = []
        self.wanted: list[Named] = []

    def calls(self, db: apsw.Connection, events: Sequence[Recorded]) -> list["NamedCall"]:
        """The call events of a batch with the ids of their names: looked up once for all projections."""
        if events is not self._named_of:
            get = self.of_batch(db, events).__getitem__
            self._named = [(event, data, tuple(map(get, names))) for event, data, names in self.batch.calls]
            self._named_of = events
        return self._named

    def of_batch(self, db: apsw.Connection, events: Sequence[Recorded]) -> dict[Named, int]:
        """All known ids, among them those of a batch's names."""
        self.batch.take(events)
        self.wanted = self.batch.wanted
        return self.load(db, self.wanted)

    def load(self, db: apsw.Connection, wanted: Sequence[Named]) -> dict[Named, int]:
        """All known ids, among them those of the wanted names that have one."""
        if len(self._ids) > NAMES_CACHED_MAX:
            self._ids = _absent()  # the batch stays: it is being applied
        ids = self._ids
        missing = tuple(name for name in wanted if name is not None and name not in ids)
        if missing:
            query = f"SELECT n.name, n.id FROM carray(?) c CROSS JOIN {self._table} n ON n.name = c.value"
            ids.update(db.execute(query, (apsw.carray(missing),)))
        return ids

    def forget(self) -> None:
        """Drop the cache: after a roll-back it may hold ids that were never committed, after a swap those of before."""
        self._ids = _absent()
        self._named_of, self._named = None, []


def status_of(data: ModelCallEvent | ModelCallCorrected) -> str:
    """The status that an event leaves its call in."""
    if isinstance(data, ModelCall):
        return data.status
    return "processing" if isinstance(data, ModelCallStarted) else "timed_out"


def names_of(data: CallEvent) -> tuple[Named, ...]:
    """user_id, app, provider, model, credential_id, type, status: absent ones are None.

    A void or a re-rate changes none of them: they are those that were counted.
    """
    if isinstance(data, CHANGES):
        return counted_names(data.app, data.replaces)
    return (data.user_id, data.app, data.provider, data.model, data.credential_id, data.type, status_of(data))


def counted_names(app: str, counted: Counted) -> tuple[Named, ...]:
    """The same of what was counted of a call."""
    return (
        counted.user_id, app, counted.provider, counted.model, counted.credential_id, counted.type, counted.status
    )  # fmt: skip


def _apply(target: Target, events: Sequence[Recorded]) -> None:
    ids = target.names.of_batch(target.db, events)
    new = [name for name in target.names.wanted if name not in ids]
    if not new:
        return
    table = target.table("names")
    first = (target.db.execute(f"SELECT max(id) FROM {table}").get or 0) + 1
    rows = [(first + n, name) for n, name in enumerate(new)]
    insert(target.db, f"INSERT INTO {table} (id, name)", rows)
    ids.update({name: id_ for id_, name in rows})


PROJECTION = Projection(
    name="names",
    version=1,
    tables=(Table("names", "id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE", key="id", seed="VALUES (0, '')"),),
    apply=_apply,
    blocking=True,
)
