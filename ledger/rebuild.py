"""Bringing projections up to date: catching up, and rebuilding online beside the live tables.

Every step is one bounded write transaction that reads where it is from the file, so it can be killed and run again,
and several processes may step the same rebuild.
"""

from collections.abc import Callable, Sequence

import apsw

from ledger import journal
from ledger.database import write
from projections.engine import Checkpoint, Engine, checkpoints, registry
from projections.projection import Projection
from schema.entry import Recorded

STEP_EVENTS_MAX = 2_000

Progress = Callable[[str, int, int], None]
ReadPage = Callable[[apsw.Connection, int, int], Sequence[Recorded]]


def quiet(name: str, position: int, head: int) -> None:
    """No progress shown."""


def prepare(db: apsw.Connection, engine: Engine, progress: Progress = quiet) -> None:
    """Make missing tables; bring up to date, before the first write, what decisions and sign-in read."""
    with write(db):
        engine.ensure()
    for projection in registry().values():
        if projection.blocking or checkpoints(db)[projection.name].version == projection.version:
            bring_up(db, engine, projection, progress)


def pending(db: apsw.Connection) -> list[Projection]:
    """Projections whose live tables are of another version or behind the head."""
    head = journal.head_position(db)
    have = checkpoints(db)
    return [p for p in registry().values() if p.name not in have or not have[p.name].current(head)]


def bring_up(db: apsw.Connection, engine: Engine, projection: Projection, progress: Progress = quiet) -> None:
    """Catch up a projection of this version; rebuild one of another."""
    step = catch_up_step if checkpoints(db)[projection.name].version == projection.version else rebuild_step
    while not step(db, engine, projection, progress):
        pass


def rebuild(db: apsw.Connection, engine: Engine, projection: Projection, progress: Progress = quiet) -> None:
    """Build the projection anew from position 1 and put it in the place of the live one."""
    rebuild_together(db, engine, [projection], progress)


def rebuild_together(
    db: apsw.Connection, engine: Engine, projections: Sequence[Projection], progress: Progress = quiet
) -> None:
    """Rebuild several projections side by side, so that each page of the journal is read and decoded once.

    Those that others need go first at each page, so that a replacement is made of replacements. A page is one
    transaction for all of them: most projections have nothing to do with most pages, and a commit is a sync.
    """
    order = list(registry())
    left = sorted(projections, key=lambda projection: order.index(projection.name))
    with write(db):
        for projection in left:
            engine.begin_shadow(projection)
    read = _LastPage()
    while left:
        left = _step_together(db, engine, left, progress, read)


class _LastPage:
    """Reads the journal, keeping the last full page: entries never change."""

    def __init__(self) -> None:
        self._after = -1
        self._events: Sequence[Recorded] = ()

    def __call__(self, db: apsw.Connection, after: int, limit: int) -> Sequence[Recorded]:
        if after != self._after or len(self._events) < limit:
            self._after, self._events = after, journal.read(db, after, limit)
        return self._events


def catch_up_step(db: apsw.Connection, engine: Engine, projection: Projection, progress: Progress = quiet) -> bool:
    """Apply the next events to a live projection that is behind. True when it is at the head."""
    try:
        with write(db):
            head = journal.head_position(db)
            position = checkpoints(db)[projection.name].position
            events = journal.read(db, position, STEP_EVENTS_MAX)
            if events:
                engine.catch_up(projection, events)
                position = events[-1].position
    except BaseException:
        engine.forget()
        raise
    progress(projection.name, position, head)
    return position >= head


def rebuild_step(
    db: apsw.Connection,
    engine: Engine,
    projection: Projection,
    progress: Progress = quiet,
    read: ReadPage = journal.read,
) -> bool:
    """Apply the next events to the replacement; at the head, swap in the same transaction. True when swapped."""
    return not _step_together(db, engine, [projection], progress, read)


def _step_together(
    db: apsw.Connection, engine: Engine, projections: Sequence[Projection], progress: Progress, read: ReadPage
) -> list[Projection]:
    """A step of each in one transaction; those that have not reached the head."""
    try:
        with write(db):
            head = journal.head_position(db)
            have = checkpoints(db)
            reached = [(each, _step(db, engine, each, have[each.name], head=head, read=read)) for each in projections]
    except BaseException:
        engine.forget()
        raise
    for projection, position in reached:
        progress(projection.name, position, head)
    return [projection for projection, position in reached if position < head]


def _step(  # noqa: PLR0913 - one of many in a transaction
    db: apsw.Connection, engine: Engine, projection: Projection, have: Checkpoint, *, head: int, read: ReadPage
) -> int:
    """Where the replacement is after its next events; at the head it is put in the live one's place."""
    if have.shadow_version is None and have.version == projection.version:
        return head  # another process has already put it in place
    if have.shadow_version != projection.version:
        engine.begin_shadow(projection)
        have = checkpoints(db)[projection.name]
    position = have.shadow_position or 0
    events = read(db, position, STEP_EVENTS_MAX)
    if events:
        engine.apply_shadow(projection, events)
        position = events[-1].position
    if position >= head:
        engine.swap(projection)
    return position
