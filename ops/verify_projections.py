"""Checking projections: rebuilt in a scratch database by the same engine, then compared row for row."""

from collections.abc import Iterator
from typing import Any

import apsw
import msgspec
from msgspec import Struct

from ledger import journal
from ledger.database import write
from ledger.rebuild import STEP_EVENTS_MAX, Progress
from ops import logs
from ops.faults import Faults
from ops.scratch import open_scratch
from projections import state_hash
from projections.engine import Checkpoint, Engine, checkpoints, registry
from projections.projection import Projection, Table
from schema.errors import LedgerError

CHECKPOINTS = "projections"
Row = tuple[Any, ...]


class ProjectionCheck(Struct, kw_only=True):
    """How a projection compared with its rebuild at the same position: `ok`, `faulty` or `skipped`, and why."""

    name: str
    version: int
    position: int
    status: str
    detail: str = ""
    state_hash: str | None = None


def check_projections(
    db: apsw.Connection, size: int, checks: list[ProjectionCheck], faults: Faults, progress: Progress
) -> None:
    """Rebuild from position 1 and compare each projection where it stands: one that is behind, at its own position."""
    state_hash.prepare(db)
    comparable = _comparable(db, size, checks, faults)
    with open_scratch() as scratch:
        state_hash.prepare(scratch)
        engine = Engine(scratch)
        with write(scratch):
            engine.ensure()
        for position, known in _replayed(db, engine, sorted({each.position for each in comparable}), faults, progress):
            here = [each for each in comparable if each.position == position]
            checks.extend(_compare(db, scratch, each, faults, known=known) for each in here)
    checks.sort(key=lambda check: check.name)


def _comparable(db: apsw.Connection, size: int, checks: list[ProjectionCheck], faults: Faults) -> list[Checkpoint]:
    """The checkpoints of projections that can be compared; the others are said to be skipped or at fault."""
    have, found = checkpoints(db), list[Checkpoint]()
    for projection in registry().values():
        checkpoint = have.get(projection.name)
        if checkpoint is None:
            faults.add(CHECKPOINTS, "the projection has no checkpoint", key=projection.name)
        elif checkpoint.position > size:
            faults.add(CHECKPOINTS, f"at position {checkpoint.position}, beyond the journal", key=projection.name)
        elif checkpoint.version != projection.version:
            checks.append(_skipped(projection, checkpoint))
        else:
            found.append(checkpoint)
    return found


def _skipped(projection: Projection, checkpoint: Checkpoint) -> ProjectionCheck:
    built = "not begun" if checkpoint.shadow_position is None else f"at position {checkpoint.shadow_position}"
    detail = (
        f"version {checkpoint.version} is in place and cannot be rebuilt by this software; "
        f"the rebuild to version {projection.version} is {built}"
    )
    return ProjectionCheck(
        name=projection.name, version=checkpoint.version, position=checkpoint.position, status="skipped", detail=detail
    )


def _replayed(
    db: apsw.Connection, engine: Engine, stops: list[int], faults: Faults, progress: Progress
) -> Iterator[tuple[int, bool]]:
    """Apply the journal to the scratch database, pausing at each stop. False with a stop that could not be reached."""
    position, reached = 0, True
    for stop in stops:
        try:
            while reached and position < stop:
                read = journal.read(db, position, min(STEP_EVENTS_MAX, stop - position))
                events = [event for event in read if event.position <= stop]
                if not events:
                    break  # rows are missing, which the journal's check has said
                with write(engine.db):
                    engine.apply(position, events)
                position = events[-1].position
                progress("rebuild", position, stops[-1])
        except (apsw.Error, LedgerError, msgspec.MsgspecError, ValueError) as error:
            faults.add("events", f"cannot be replayed from here on: {error}", position=position + 1)
            reached = False
        yield stop, reached


def _compare(
    db: apsw.Connection, scratch: apsw.Connection, checkpoint: Checkpoint, faults: Faults, *, known: bool
) -> ProjectionCheck:
    projection = registry()[checkpoint.name]
    check = ProjectionCheck(
        name=checkpoint.name, version=checkpoint.version, position=checkpoint.position, status="skipped"
    )
    if not known:
        check.detail = "the journal before its position could not be replayed"
        return check
    before = len(faults.found)
    try:
        check.state_hash = state_hash.state_hash(db, projection)
        if check.state_hash != state_hash.state_hash(scratch, projection):
            for table in projection.tables:
                _compare_rows(db, scratch, table, faults)
    except (apsw.Error, UnicodeDecodeError) as error:
        faults.add(projection.name, f"cannot be read: {error}")
    check.status = "ok" if len(faults.found) == before else "faulty"
    return check


def _compare_rows(db: apsw.Connection, scratch: apsw.Connection, table: Table, faults: Faults) -> None:
    """Walk both tables in the order of the key and name each row that is not the same in both."""
    names = table.key.split(", ")
    columns = [name for (name,) in scratch.execute("SELECT name FROM pragma_table_info(?)", (table.name,))]
    live, rebuilt = (iter(each.execute(_keyed(table))) for each in (db, scratch))
    mine, theirs = next(live, None), next(rebuilt, None)
    while (mine is not None or theirs is not None) and not faults.full(table.name):
        side = _order(mine, theirs, len(names))
        row = mine if side <= 0 else theirs
        assert row is not None
        if side < 0:
            _fault(faults, table, names, row, "an extra row: the journal does not give it")
        elif side > 0:
            _fault(faults, table, names, row, "the row is missing")
        elif mine != theirs:
            assert mine is not None and theirs is not None  # noqa: PT018 - side is 0
            _fault(faults, table, names, row, _differences(columns, mine[len(names) :], theirs[len(names) :]))
        mine = next(live, None) if side <= 0 else mine
        theirs = next(rebuilt, None) if side >= 0 else theirs


def _keyed(table: Table) -> str:
    return f"SELECT {table.key}, * FROM {table.name} ORDER BY {table.key}"  # noqa: S608 - constant identifiers


def _order(mine: Row | None, theirs: Row | None, width: int) -> int:
    """Which comes first by key: -1 the live row, 1 the rebuilt one, 0 both alike."""
    if mine is None or theirs is None:
        return 1 if mine is None else -1
    first, second = _sortable(mine[:width]), _sortable(theirs[:width])
    return (first > second) - (first < second)


def _sortable(key: Row) -> list[tuple[bool, Any]]:
    """SQLite's order: numbers before text."""
    return [(isinstance(value, str), value) for value in key]


def _fault(faults: Faults, table: Table, names: list[str], row: Row, problem: str) -> None:
    key = ", ".join(f"{name}={value}" for name, value in zip(names, row[: len(names)], strict=True))
    faults.add(table.name, problem, position=row[0] if table.key == "position" else None, key=key)


def _differences(columns: list[str], live: Row, rebuilt: Row) -> str:
    told = [
        f"{name} differs" if logs.is_secret(name) else f"{name} is {mine!r}, rebuilt {theirs!r}"
        for name, mine, theirs in zip(columns, live, rebuilt, strict=True)
        if mine != theirs
    ]
    return "; ".join(told)
