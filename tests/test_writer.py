"""The writer: once per id, whole or not at all, and nobody is disturbed by a neighbour."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given
from msgspec.structs import replace

from ledger import decision, writer
from ledger.database import write
from ledger.decision import Command, Decision, WorkingSet
from ledger.ledger import Ledger
from ledger.queue import CommandQueue
from ledger.writer import Appended, Outcome, Writer
from projections import engine
from projections.projection import Target
from schema.entry import Recorded
from schema.errors import AlreadyFinished, IdConflict, LedgerError, NotFound, StorageUnavailable
from schema.model_call import FinalStatus, FinishModelCall, ModelCallCompleted, RecordModelCall
from schema.model_call_view import receipt
from tests.histories import (
    MINUTE_US,
    NOON_US,
    SECOND_US,
    Row,
    appended,
    call,
    calls,
    create_key,
    entries,
    finish,
    journal_rows,
    kind_of,
    kinds,
    open_book,
    open_ledger,
    reading,
    select,
    start,
    stat_cells,
    sweep,
    tables,
)
from tests.strategies import examples, histories


def refused(outcome: Outcome, kind: type[LedgerError]) -> LedgerError:
    assert isinstance(outcome, kind), outcome
    return outcome


def paths(error: LedgerError) -> list[str]:
    return [each.path for each in error.errors]


def events_in(path: Path) -> list[Row]:
    with reading(path) as db:
        return select(db, "SELECT type, id FROM events ORDER BY position")


# Once


def test_fifty_at_once_with_one_id_make_one_event(tmp_path: Path) -> None:
    """Of parallel submissions of one id one is accepted, and the others get its receipt as duplicates."""
    with open_ledger(tmp_path) as ledger, ThreadPoolExecutor(50) as threads:
        posted = [threads.submit(ledger.execute_now, [call(at_us=NOON_US + n, started_us=NOON_US)]) for n in range(50)]
        outcomes = [each.result()[0] for each in posted]
        assert kinds(outcomes) == Counter(accepted=1, duplicate=49)
        assert len({appended(outcome).position for outcome in outcomes}) == 1
        assert len({str(receipt(appended(outcome), duplicate=False)) for outcome in outcomes}) == 1
        assert events_in(ledger.path) == [("model_call.recorded.v2", "c-1")]


def test_fifty_at_once_on_an_event_loop(tmp_path: Path) -> None:
    """Asynchronous callers get the same answers, and nobody waits for ever."""

    async def post(ledger: Ledger) -> list[list[Outcome]]:
        return await asyncio.gather(*(ledger.execute([call()], 100) for _ in range(50)))

    with open_ledger(tmp_path) as ledger:
        outcomes = [outcome for answers in asyncio.run(post(ledger)) for outcome in answers]
        assert kinds(outcomes) == Counter(accepted=1, duplicate=49)


def test_a_repeat_gets_the_first_receipt_after_a_restart_too(tmp_path: Path) -> None:
    """The receipt is derived from the stored event alone."""
    with open_ledger(tmp_path) as ledger:
        first = ledger.execute_now([call(usage={"input_tokens": 3})])[0]
    with open_ledger(tmp_path, NOON_US + MINUTE_US) as ledger:
        again = ledger.execute_now([call(usage={"input_tokens": 3}, attempt=None)])[0]
    assert kind_of(again) == "duplicate"
    assert receipt(appended(again), duplicate=False) == receipt(appended(first), duplicate=False)


def test_a_conflict_names_the_fields(tmp_path: Path) -> None:
    """Other content under a used id is refused with the fields that differ, and stores nothing."""
    with open_book(tmp_path) as book:
        book.write([call(metadata={"a": 1})])
        other = call(metadata={"a": 1.0}, model="sonnet", duration_ms=5)
        assert paths(refused(book.write([other])[0], IdConflict)) == ["$.model", "$.duration_ms", "$.metadata"]
        assert len(events_in(book.path)) == 1


@pytest.mark.parametrize("first", [call(), start()])
def test_an_id_is_either_started_or_recorded(tmp_path: Path, first: Command) -> None:
    """A start under the id of a recorded call, or the other way round, is a conflict."""
    second = start() if isinstance(first, RecordModelCall) else call()
    with open_book(tmp_path) as book:
        assert [kind_of(outcome) for outcome in book.write([first, second])] == ["accepted", "id_conflict"]


def test_equal_ids_of_two_apps_and_of_two_nouns_never_meet(tmp_path: Path) -> None:
    """The same id under another app, or for a key, is another thing."""
    with open_book(tmp_path) as book:
        commands: list[Command] = [call("x", app="a"), call("x", app="b"), create_key("x")]
        assert kinds(book.write(commands)) == Counter(accepted=3)


def test_a_key_conflict_names_the_fields(tmp_path: Path) -> None:
    """A key's id stands for one key: the same again is a duplicate, another is refused with what differs."""
    with open_book(tmp_path) as book:
        outcomes = book.write([create_key(), create_key(), create_key(role="admin", app=None)])
        assert [kind_of(outcome) for outcome in outcomes] == ["accepted", "duplicate", "id_conflict"]
        assert paths(refused(outcomes[2], IdConflict)) == ["$.role", "$.app"]


# Neighbours


def test_a_decision_that_breaks_harms_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error of one command's decide fails that command alone; the rest of the group is written."""
    handler = decision.handlers()[RecordModelCall]

    def decide(ws: WorkingSet, command: RecordModelCall) -> Decision:
        if command.call.id == "c-3":
            raise ZeroDivisionError
        return handler.decide(ws, command)

    monkeypatch.setitem(decision.handlers(), RecordModelCall, replace(handler, decide=decide))
    with open_book(tmp_path) as book:
        outcomes = book.write(calls(6))
        assert [kind_of(o) for o in outcomes] == ["accepted"] * 3 + ["internal_error"] + ["accepted"] * 2
        assert [id_ for _, id_ in events_in(book.path)] == ["c-0", "c-1", "c-2", "c-4", "c-5"]


@pytest.mark.parametrize("culprit", list(engine.registry()))
def test_a_projection_that_breaks_harms_only_the_culprit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    """Where applying one event raises, its command is rolled back alone and no table keeps a trace of it."""
    projection = engine.registry()[culprit]

    def apply(target: Target, events: Sequence[Recorded]) -> None:
        projection.apply(target, events)
        if any(event.id == "c-3" for event in events):
            raise ZeroDivisionError

    monkeypatch.setitem(engine.registry(), culprit, replace(projection, apply=apply, of=None))
    commands = [call(f"c-{i}", model=f"m-{i}", user_id=f"u-{i}") for i in range(6)]
    with open_book(tmp_path) as book:
        outcomes = book.write(commands)
        assert [kind_of(o) for o in outcomes] == ["accepted"] * 3 + ["internal_error"] + ["accepted"] * 2
        with reading(book.path) as db:
            found = tables(db)
            assert "m-3" not in {name for _, name in found["names"]}
    (tmp_path / "without").mkdir()
    with open_book(tmp_path / "without") as book:
        book.write(commands[:3] + commands[4:])
        with reading(book.path) as db:
            assert tables(db) == found


def test_an_entry_too_large_is_refused_alone(tmp_path: Path) -> None:
    """A command whose entry exceeds the limit is refused, its neighbours land, and positions have no gap."""
    large = call("large", error={"code": "x"})
    large.call.metadata = {"text": "x" * 65_535}  # more than is accepted, to reach the entry's own limit
    with open_book(tmp_path) as book:
        outcomes = book.write([call("a"), large, call("b")])
        assert [kind_of(outcome) for outcome in outcomes] == ["accepted", "entry_too_large", "accepted"]
        assert [appended(outcomes[n]).position for n in (0, 2)] == [1, 2]


def test_recorded_at_never_runs_backwards(tmp_path: Path) -> None:
    """A command that was received earlier than the last event gets that one's time, in its group or a later one."""
    times = [NOON_US, NOON_US - SECOND_US, NOON_US + 5, NOON_US + 4]
    with open_book(tmp_path) as book:
        outcomes = book.write([call(f"c-{n}", at_us=at_us) for n, at_us in enumerate(times)])
        outcomes += book.write([call("late", at_us=NOON_US)])
        recorded = [appended(outcome).recorded_at_us - NOON_US for outcome in outcomes]
        assert recorded == [0, 0, 5, 5, 5]


def test_a_refused_or_idle_command_does_not_move_the_time(tmp_path: Path) -> None:
    """A sweep with nothing due and a refused command leave the time of recording to the events."""
    large = call("large", at_us=NOON_US + MINUTE_US)
    large.call.metadata = {"text": "x" * 70_000}
    with open_book(tmp_path) as book:
        outcomes = book.write([sweep(NOON_US + MINUTE_US), large, call()])
        assert appended(outcomes[2]).recorded_at_us == NOON_US


# Long calls


def test_a_start_and_its_end(tmp_path: Path) -> None:
    """What the end says replaces what the start said; the rest of the call is the start's."""
    with open_book(tmp_path) as book:
        began, ended = book.write([
            start(model="asked", user_id="u-1"),
            finish(at_us=NOON_US + 1, model="served", usage={"output_tokens": 2}),
        ])  # fmt: skip
        data = appended(ended).data
        assert isinstance(data, ModelCallCompleted)
        assert (data.started, data.model, data.user_id, data.replaces) == (
            appended(began).position,
            "served",
            "u-1",
            None,
        )


def test_an_end_needs_a_start(tmp_path: Path) -> None:
    """Ending a call that was never started is not found; one that was posted finished is already finished."""
    with open_book(tmp_path) as book:
        outcomes = book.write([finish("none"), call("whole"), finish("whole")])
        refused(outcomes[0], NotFound)
        refused(outcomes[2], AlreadyFinished)


def test_a_call_ends_once(tmp_path: Path) -> None:
    """The same end again is a duplicate with the first receipt; another end is refused with what differs."""

    def end(status: FinalStatus = "success", *, at_us: int = NOON_US, duration_ms: int = 7) -> FinishModelCall:
        return finish(status=status, at_us=at_us, usage={"output_tokens": 2}, duration_ms=duration_ms)

    with open_book(tmp_path) as book:
        book.write([start()])
        first, again = book.write([end(), end(at_us=NOON_US + 9)])
        later = book.write([end(), end(duration_ms=8), end("failed")])
        assert [kind_of(o) for o in (first, again, *later)] == [
            "accepted", "duplicate", "duplicate", "already_finished", "already_finished",
        ]  # fmt: skip
        assert {appended(o).position for o in (again, later[0])} == {appended(first).position}
        assert paths(refused(later[1], AlreadyFinished)) == ["$.duration_ms"]
        assert paths(refused(later[2], AlreadyFinished)) == ["$.status"]


def test_what_is_due_is_swept_once_and_in_order(tmp_path: Path) -> None:
    """A sweep times out at most its limit of due calls, the longest due first; the next sweep goes on."""
    due_us = NOON_US + MINUTE_US
    with open_book(tmp_path) as book:
        book.write([start("c-1", at_us=NOON_US + 2), start("c-2"), start("c-3", at_us=NOON_US + 1), start("ended")])
        book.write([finish("ended")])
        assert book.write([sweep(due_us - 1)]) == [Appended(None, duplicate=False, events=0)]
        book.write([sweep(due_us + 2, limit=2)])
        book.write([sweep(due_us + 2, limit=2), sweep(due_us + 2, limit=2)])
        timed_out = [id_ for type_, id_ in events_in(book.path) if type_ == "model_call.timed_out.v1"]
        assert timed_out == ["c-2/time_out", "c-3/time_out", "c-1/time_out"]


def test_a_sweep_sees_what_came_before_it_in_its_submission(tmp_path: Path) -> None:
    """A call started before a sweep is swept by it although both wait in the same queue."""
    with open_book(tmp_path) as book:
        book.write([start(timeout_us=0), sweep(), finish("c-1"), sweep()])
        assert [id_ for _, id_ in events_in(book.path)] == ["c-1", "c-1/time_out", "c-1/complete"]


def status_calls(path: Path) -> dict[str, int]:
    """Calls by status, of the widest roll-up; those of no calls are left out."""
    with reading(path) as db:
        cells = stat_cells(db)
    return {str(key[-1]): cell[0] for key, cell in cells.items() if key[0] == 0 and cell[0]}


@pytest.mark.parametrize("swept", [True, False])
@pytest.mark.parametrize("reopened", [True, False])
def test_a_late_end_takes_the_time_out_back(tmp_path: Path, *, swept: bool, reopened: bool) -> None:
    """A call that ends after its time is timed out first, with or without a sweep, and then counted as it ended."""
    late_us = NOON_US + 2 * MINUTE_US
    with open_book(tmp_path) as book:
        book.write([start(model="asked", user_id="u-1")])
        if swept:
            book.write([sweep(late_us)])
            assert status_calls(book.path) == {"timed_out": 1}
        if reopened:
            book._disconnect()
        outcome = book.write([finish(at_us=late_us, model="served", user_id="u-2")])[0]
        data = appended(outcome).data
        assert isinstance(data, ModelCallCompleted)
        assert data.replaces is not None
        assert (data.replaces.id, data.replaces.call.model) == ("c-1/time_out", "asked")
        assert [id_ for _, id_ in events_in(book.path)] == ["c-1", "c-1/time_out", "c-1/complete"]
        assert status_calls(book.path) == {"success": 1}
        assert kind_of(book.write([finish(at_us=late_us, model="served", user_id="u-2")])[0]) == "duplicate"


def test_a_time_out_without_a_sweep_is_recorded_at_its_due_time(tmp_path: Path) -> None:
    """The settled time-out says when it was due, so a sweep and a late end make the same event."""
    timed_out: list[str] = []
    for name, commands in (
        ("swept", [sweep(NOON_US + 2 * MINUTE_US)]),
        ("late", [finish(at_us=NOON_US + 2 * MINUTE_US)]),
    ):
        (tmp_path / name).mkdir()
        with open_book(tmp_path / name) as book:
            book.write([start()])
            book.write(commands)
            with reading(book.path) as db:
                timed_out.append(entries(db)[1])
    assert timed_out[0] == timed_out[1]


def test_the_start_of_a_call_cannot_change(tmp_path: Path) -> None:
    """An end may repeat the start's time in any notation, and is refused with another one."""
    with open_book(tmp_path) as book:
        book.write([start()])
        assert kind_of(book.write([finish(started_at="2026-11-22T12:00:01Z")])[0]) == "invalid_input"
        assert kind_of(book.write([finish(started_at="2026-11-22T13:00:00+01:00")])[0]) == "accepted"


# The working set


class Watched(Writer):
    """Compares, before each COMMIT, the working set of the group with the tables."""

    def _decide_and_append(
        self, db: apsw.Connection, engine: engine.Engine, commands: Sequence[Command]
    ) -> writer.Group:
        group = super()._decide_and_append(db, engine, commands)
        evolved, stored = self.sets[-1].events, WorkingSet()
        stored.load(db, evolved)
        assert stored.events == evolved
        # What a query finds, as a sweep its next calls, is other after the group.
        keyed = [command for command in commands if not decision.handlers()[type(command)].alone]
        again = WorkingSet()
        decision.load_group(db, keyed, again)
        assert again.events.items() <= evolved.items()
        return group

    sets: list[WorkingSet]


@examples(25)
@given(histories())
def test_after_each_group_the_working_set_equals_the_tables(commands: list[Command]) -> None:
    """What a group evolved in memory is, event for event, what a load from the tables gives after it."""
    with TemporaryDirectory() as directory, open_book(Path(directory)) as book, pytest.MonkeyPatch.context() as patch:
        watched = Watched(book.path, CommandQueue(), "os")
        watched.sets = []

        def load_group(db: apsw.Connection, group: Sequence[Command], loaded: WorkingSet) -> None:
            decision.load_group(db, group, loaded)
            watched.sets.append(loaded)

        patch.setattr(writer, "load_group", load_group)
        for n in range(0, len(commands), 5):
            outcomes = watched.write(commands[n : n + 5])
            assert "internal_error" not in kinds(outcomes)
        watched.stop()


# Life


def test_a_stop_finishes_what_was_accepted(tmp_path: Path) -> None:
    """Everything that the queue took before the stop is written and answered; later submissions are refused."""
    with open_ledger(tmp_path) as ledger:
        with ThreadPoolExecutor(20) as threads:
            posted = [threads.submit(ledger.execute_now, calls(20, prefix=f"p{n}")) for n in range(20)]
            while ledger.queue.commands + ledger.writer.stats.commands < 100:
                time.sleep(0.001)
            ledger.writer.stop()
            answers = [each.exception() or each.result() for each in posted]
        stored = [each for each in answers if isinstance(each, list)]
        late = [each for each in answers if isinstance(each, LedgerError)]
        assert len(stored) + len(late) == 20
        assert {error.code for error in late} <= {"stopping"}
        assert len(events_in(ledger.path)) == 20 * len(stored)
        with pytest.raises(LedgerError, match="stopping"):
            ledger.execute_now([call()])


def test_a_held_write_lock_is_a_retryable_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process writes for too long the commands are refused, and a retry succeeds."""
    monkeypatch.setattr("ledger.database.BUSY_TIMEOUT_MS", 1)
    with open_book(tmp_path) as book:
        book.write([call("first")])
        other = apsw.Connection(str(book.path))
        with write(other):
            assert refused(book.write([call()])[0], StorageUnavailable).retryable
        assert kind_of(book.write([call()])[0]) == "accepted"
        other.close()


def test_a_group_is_one_transaction(tmp_path: Path) -> None:
    """What waits together is committed together: the journal grows by whole groups."""
    with open_book(tmp_path) as book:
        book.write(calls(500))
        assert (book.stats.groups, book.stats.events) == (1, 500)
        with reading(book.path) as db:
            assert [row[0] for row in journal_rows(db)] == list(range(1, 501))


def test_a_fork_must_open_anew(tmp_path: Path) -> None:
    """A writer that was opened in another process refuses to touch the file."""
    with open_book(tmp_path) as book:
        book._pid = -1
        assert kind_of(book.write([call()])[0]) == "unsafe_sqlite"
        book._pid = 0
