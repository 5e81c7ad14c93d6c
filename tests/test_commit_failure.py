"""A COMMIT that raises is unknown, not failed: whatever the disk does, what was acknowledged is there, once."""

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from ledger.database import open_writer
from ledger.decision import Command
from ledger.queue import CommandQueue
from ledger.rebuild import pending
from ledger.writer import Writer
from tests.disk import Disk
from tests.histories import (
    HOUR_US,
    NOON_US,
    appended,
    book_of,
    call,
    calls,
    create_file,
    finish,
    kind_of,
    kinds,
    reading,
    select,
    start,
    stat_cells,
    sweep,
    write_in_groups,
)
from tests.strategies import TORTURE_EXAMPLES

WAL = "-wal"


@contextmanager
def on_disk(data_dir: Path) -> Generator[tuple[Writer, Disk]]:
    """A writer whose every commit is synced, on a disk that can fail."""
    disk = Disk()
    writer = Writer(create_file(data_dir), CommandQueue(), "full", open_connection=disk.open_connection)
    try:
        yield writer, disk
    finally:
        disk.heal()
        writer.stop()
        disk.unregister()


def stored_ids(path: Path) -> list[str]:
    with reading(path) as db:
        rows = select(db, "SELECT position, id FROM events ORDER BY position")
    assert [position for position, _ in rows] == list(range(1, len(rows) + 1))
    return [id_ for _, id_ in rows]


def ids_after_power_cut(disk: Disk, directory: Path) -> list[str]:
    path = disk.after_power_cut(directory)
    db = open_writer(path, "os")
    assert db.pragma("integrity_check") == "ok"
    db.close()
    return stored_ids(path)


def history() -> list[Command]:
    """Plain calls, a long one that times out and ends late, a repeat and a refusal."""
    late_us = NOON_US + HOUR_US
    tokens = {"input_tokens": 10**12}
    return [
        *calls(3, usage=tokens), start("long"), *calls(2, prefix="d"),
        call("c-0", usage=tokens), finish("none"), call("e"), sweep(late_us), finish("long", at_us=late_us), call("f"),
    ]  # fmt: skip


def survive(directory: Path, operation: str, first: int, failures: int) -> Counter[str]:
    """Fail some operations of the WAL in a row, counted from the first; returns the kinds of all outcomes."""
    directory.mkdir()
    commands = history()
    book, expected = book_of(commands)
    with on_disk(directory) as (writer, disk):
        writer.write([])
        disk.fail_wal(operation, first, failures)
        met = Counter[str]()
        acknowledged: list[str] = []
        for n in range(0, len(commands), 3):
            outcomes = write_in_groups(writer, commands[n : n + 3], [3])
            met += kinds(outcomes)
            acknowledged += [appended(o).id for o in outcomes if kind_of(o) == "accepted" and o.events]  # type: ignore[union-attr]
            image = ids_after_power_cut(disk, directory / f"cut-{n}")
            assert set(acknowledged) <= set(image), "an acknowledged command was not on stable storage"
        disk.heal()
        again = write_in_groups(writer, commands, [len(commands)])
        stored = {"accepted", "duplicate"}
        found = [(kind_of(o), e) for o, e in zip(again, expected, strict=True)]
        assert [pair for pair in found if pair[0] != pair[1] and not stored.issuperset(pair)] == []
        assert Counter(stored_ids(writer.path)) == Counter({id_: 1 for _, id_ in book.events})
        with reading(writer.path) as db:
            assert pending(db) == []
            assert stat_cells(db) == book.stats
        met["stops"] = disk.failed
        return met


@pytest.mark.parametrize("failures", [1, 2, 3, 100])
@pytest.mark.parametrize("operation", ["sync", "write"])
def test_no_failure_of_the_disk_loses_or_doubles_a_command(tmp_path: Path, operation: str, failures: int) -> None:
    """From the k-th on, syncs or writes of the WAL fail some times over or for good.

    Every acknowledged command survives a power cut right after its answer; every refused one is accepted or found on
    retry; each is in the journal once, positions have no gap, statistics count each once.
    """
    step = 1 if operation == "sync" else 7
    for first in range(1, 8 * step, step):
        met = survive(tmp_path / str(first), operation, first, failures)
        assert met["internal_error"] == 0


@pytest.mark.torture
@pytest.mark.parametrize("operation", ["sync", "write"])
def test_no_failure_at_any_operation_loses_or_doubles_a_command(tmp_path: Path, operation: str) -> None:
    """The same at each single operation, with one to five failures in a row."""
    tried = 0
    for first in range(1, TORTURE_EXAMPLES):
        for failures in range(1, 6):
            tried += 1
            if tried > TORTURE_EXAMPLES or not survive(tmp_path / str(tried), operation, first, failures)["stops"]:
                return


def commit_that_raised(tmp_path: Path, *, operation: str, failures: int) -> tuple[Writer, list[str], list[str]]:
    """One call whose COMMIT raises: the writer, the kinds of its outcomes, and what is stored then."""
    with on_disk(tmp_path) as (writer, disk):
        writer.write([call("before")])
        disk.fail_wal(operation, 1, failures)
        outcome = kind_of(writer.write([call()])[0])
        assert writer.stats.commit_failures >= 1
        disk.heal()
        writer._disconnect()
        return writer, [outcome], stored_ids(writer.path)


def test_a_commit_that_raised_but_happened_answers_with_its_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of a COMMIT that raised is found in the reopened file, and its caller gets the receipt at once."""
    begun: list[Sequence[Command]] = []
    original = Writer._decide_and_append

    def counted(self: Writer, db: apsw.Connection, engine: object, commands: Sequence[Command]) -> object:
        begun.append(commands)
        return original(self, db, engine, commands)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "_decide_and_append", counted)
    # The second failure is met by the close, which would have taken the row away.
    _, outcomes, stored = commit_that_raised(tmp_path, operation="sync", failures=2)
    assert (outcomes, stored, len(begun)) == (["accepted"], ["before", "c-1"], 2)


def test_a_commit_that_raised_and_did_not_happen_is_written_again(tmp_path: Path) -> None:
    """The row is not in the reopened file, so the group is written once more, and only then answered."""
    writer, outcomes, stored = commit_that_raised(tmp_path, operation="write", failures=1)
    assert (outcomes, stored) == (["accepted"], ["before", "c-1"])
    assert writer.stats.commit_failures == 1


def test_a_commit_whose_outcome_cannot_be_told_is_said_to_be_unknown(tmp_path: Path) -> None:
    """While the disk goes on failing nobody gets a receipt, nor is told that nothing was stored; a retry settles it."""
    with on_disk(tmp_path) as (writer, disk):
        writer.write([call("before")])
        disk.fail_wal("sync", 1, 100)
        assert kind_of(writer.write([call()])[0]) == "outcome_unknown"
        assert kind_of(writer.write([call("other")])[0]) == "storage_unavailable"
        disk.heal()
        assert kind_of(writer.write([call()])[0]) in {"accepted", "duplicate"}
        assert stored_ids(writer.path) == ["before", "c-1"]


def test_a_duplicate_of_what_was_never_synced_is_synced_first(tmp_path: Path) -> None:
    """A process that died between the write and the sync of a commit leaves rows that a power cut would take.

    The next one must not call a repeat a duplicate before it has brought them to stable storage.
    """
    with on_disk(tmp_path) as (first, disk):
        first.write([call("before")])
        disk.fail_wal("sync", 1, 100)
        first.write([call()])
        assert "c-1" not in ids_after_power_cut(disk, tmp_path / "cut-1")
        disk.heal()
        second = Writer(first.path, CommandQueue(), "full", open_connection=disk.open_connection)
        assert kind_of(second.write([call()])[0]) == "duplicate"
        assert "c-1" in ids_after_power_cut(disk, tmp_path / "cut-2")
        second.stop()


@pytest.mark.parametrize(
    ("error", "code"), [(apsw.FullError, "storage_unavailable"), (apsw.IOError, "storage_unavailable")]
)
def test_a_full_disk_is_a_retryable_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[apsw.Error], code: str
) -> None:
    """An append that meets a full or failing disk stores nothing, and the writer goes on with a new handle."""

    def append(*_: object) -> None:
        raise error

    with on_disk(tmp_path) as (writer, _):
        with monkeypatch.context() as patch:
            patch.setattr("ledger.journal.append", append)
            assert {kind_of(outcome) for outcome in writer.write(calls(2))} == {code}
        assert kinds(writer.write(calls(2))) == Counter(accepted=2)
        assert writer.stats.reopened == 1
