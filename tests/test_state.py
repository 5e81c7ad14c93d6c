"""State tables: loaded once, seen in order, written together, and nothing left of what failed."""

from collections.abc import Generator, Sequence
from pathlib import Path

import apsw
import pytest
from msgspec import Struct

from ledger import lease_state
from ledger.decision import Command, Decision, WorkingSet, handles
from ledger.lease_state import LEASE_HEAD, USAGES, LeaseHead, UsageRow
from ledger.queue import CommandQueue
from ledger.state import WRITERS_KEPT, CommitMark, Removed, State, StateTable, state_table, state_tables
from ledger.writer import Appended, Writer
from schema.errors import NotFound
from tests.disk import Disk
from tests.histories import NOON_US, call, create_file, kind_of, open_book, reading, scratch, select


class Count(Struct):
    """Command: count up, together with an event where `call` names one; or fail after having decided."""

    to: str
    received_at_us: int = NOON_US
    fails: str = ""


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[Count]) -> None:
    ws.state.load(db, LEASE_HEAD, [(1,)])


@handles(Count, _load)
def count(ws: WorkingSet, command: Count) -> Decision:
    head = ws.state.get(LeaseHead, 1) or LeaseHead()
    if command.fails == "refused":
        raise NotFound
    if command.fails == "broken":
        raise ZeroDivisionError
    return Decision([], report=LeaseHead(sequence=head.sequence + 1), state=[LeaseHead(sequence=head.sequence + 1)])


def counted(path: Path) -> list[int]:
    with reading(path) as db:
        return [n for (n,) in select(db, "SELECT sequence FROM lease_head")]


def reports(outcomes: Sequence[object]) -> list[int]:
    heads = [each.report for each in outcomes if isinstance(each, Appended)]
    return [head.sequence for head in heads if isinstance(head, LeaseHead)]


@pytest.fixture
def book(tmp_path: Path) -> Generator[Writer]:
    with open_book(tmp_path) as writer:
        yield writer


def test_commands_of_a_group_see_each_other_and_later_ones_the_table(book: Writer) -> None:
    assert reports(book.write([Count("a") for _ in range(3)])) == [1, 2, 3]
    assert reports(book.write([Count("a"), call(), Count("a")])) == [4, 5]
    assert counted(book.path) == [5]


def test_a_second_writer_goes_on_where_the_first_is(book: Writer) -> None:
    """Nothing that matters is in memory alone."""
    other = Writer(book.path, CommandQueue(), "os")
    found = [reports(writer.write([Count("a")])) for writer in (book, other, book, other)]
    other.stop()
    assert found == [[1], [2], [3], [4]]


def test_a_refused_command_leaves_nothing(book: Writer) -> None:
    outcomes = book.write([Count("a"), Count("a", fails="refused"), Count("a")])
    assert ([kind_of(each) for each in outcomes], counted(book.path)) == (["accepted", "not_found", "accepted"], [2])


def test_a_group_that_breaks_is_rolled_back_and_run_one_by_one(book: Writer) -> None:
    outcomes: list[object] = list(book.write([Count("a"), Count("a", fails="broken"), Count("a"), call()]))
    assert [kind_of(each) for each in outcomes] == ["accepted", "internal_error", "accepted", "accepted"]  # type: ignore[arg-type]
    assert (reports(outcomes), counted(book.path)) == ([1, 2], [2])


def survive(directory: Path, operation: str, first: int, failures: int) -> int:
    """Count with a failing disk; every acknowledged count is there, each once, and every answer is the true one."""
    directory.mkdir()
    disk = Disk()
    writer = Writer(create_file(directory), CommandQueue(), "full", open_connection=disk.open_connection)
    try:
        writer.write([Count("a")])
        disk.fail_wal(operation, first, failures)
        told = [1]
        for n in range(6):
            group: list[Command] = [Count("a"), Count("a")] if n % 2 else [Count("a")]
            told += reports(writer.write(group))
            image = disk.after_power_cut(directory / f"cut-{n}")
            assert counted(image) >= [max(told)], "an acknowledged change was not on stable storage"
        disk.heal()
        [last] = reports(writer.write([Count("a")]))
        # What was not acknowledged may have happened or not; what was, once.
        assert len(set(told)) == len(told)
        assert last > max(told)
        assert counted(writer.path) == [last]
        if failures == 1:
            assert told == list(range(1, 11))
        return disk.failed
    finally:
        disk.heal()
        writer.stop()
        disk.unregister()


@pytest.mark.parametrize("failures", [1, 2, 3, 100])
@pytest.mark.parametrize("operation", ["sync", "write"])
def test_a_commit_of_state_alone_that_raises_is_looked_up(tmp_path: Path, operation: str, failures: int) -> None:
    """No event tells whether it happened; the writer's mark does. Nothing is done twice or told in vain."""
    stopped = [survive(tmp_path / str(first), operation, first, failures) for first in range(1, 13)]
    assert max(stopped) >= 1


def test_a_mark_is_its_writers_alone() -> None:
    """What another writer commits in between does not make a lost group look stored, or a stored one lost."""
    with scratch() as db:
        CommitMark("a", 1).write(db)
        CommitMark("b", 1).write(db)
        CommitMark("b", 2).write(db)
        found = [CommitMark(*each).is_stored(db) for each in (("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 1))]
        assert found == [True, False, False, True, False]


def test_marks_of_writers_long_gone_make_room() -> None:
    with scratch() as db:
        CommitMark("living", 1).write(db)
        for n in range(WRITERS_KEPT + 5):
            CommitMark("living", n + 2).write(db)
            CommitMark(f"w-{n}", 1).write(db)
        assert db.execute("SELECT count(*) FROM state_commits").get == WRITERS_KEPT
        assert CommitMark("living", WRITERS_KEPT + 6).is_stored(db)


def usage(credential: str, used: int = 1) -> UsageRow:
    return UsageRow(
        credential=credential, kind="day", period="2026-11-22", starts_at_us=0, ends_at_us=1, used=used, near=used > 1
    )


def test_rows_are_loaded_written_and_removed_by_key() -> None:
    with scratch() as db:
        first = State()
        first.put([usage("a"), usage("b"), usage("a", 2)])
        first.write(db)
        second = State()
        second.load(db, USAGES, [(name, "day", "2026-11-22") for name in "abc"])
        assert second.rows(USAGES) == {
            **first.rows(USAGES), ("c", "day", "2026-11-22"): None,
        }  # fmt: skip
        assert not second.changed
        second.put([Removed(USAGES, ("a", "day", "2026-11-22")), usage("b", 5)])
        second.write(db)
        assert db.execute("SELECT credential, used FROM credential_usage").fetchall() == [("b", 5)]


def test_a_row_that_was_not_loaded_is_not_taken_for_none() -> None:
    with pytest.raises(KeyError):
        State().get(LeaseHead, 1)


def test_a_row_belongs_to_one_table() -> None:
    with pytest.raises(ValueError, match="two tables"):
        state_table("again", LeaseHead)


@pytest.mark.parametrize("table", state_tables(), ids=lambda table: table.name)
def test_a_table_has_the_columns_of_its_row(table: StateTable) -> None:
    assert lease_state.HEAD
    with scratch() as db:
        columns = [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table.name,))]
    assert columns == list(table.columns)
