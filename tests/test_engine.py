"""The engine: the same rows whatever the batches, each projection exactly at its checkpoint, nothing skipped."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import journal
from ledger.database import write
from ledger.decision import Command
from projections import model_call_stat, name
from projections.engine import Checkpoint, Engine, checkpoints, registry, require
from schema.entry import Recorded
from schema.errors import Rebuilding
from tests.histories import (
    DAY_US,
    HOUR_US,
    NOON_US,
    call,
    calls,
    finish,
    open_book,
    random_history,
    reading,
    scratch,
    start,
    stat_cells,
    sweep,
    tables,
    write_in_groups,
)
from tests.strategies import TORTURE_EXAMPLES, examples, histories, tails


def history_of(commands: Sequence[Command]) -> tuple[list[Recorded], dict[str, list[tuple[object, ...]]]]:
    """The events of a history and the tables that the writer kept beside them."""
    with TemporaryDirectory() as directory, open_book(Path(directory)) as book:
        write_in_groups(book, commands, [4])
        with reading(book.path) as db:
            return journal.read(db, 0, 1_000), tables(db)


def apply(engine: Engine, events: Sequence[Recorded]) -> None:
    if events:
        with write(engine.db):
            engine.apply(events[0].position - 1, events)


def check_batches(commands: Sequence[Command], batches: list[tuple[int, bool]], tail: int) -> None:
    with pytest.MonkeyPatch.context() as patch, scratch() as db:
        patch.setattr(model_call_stat, "TAIL_EVENTS", tail)
        events, live = history_of(commands)
        engine = Engine(db)
        done = turn = 0
        while done < len(events):
            size, reopened = batches[turn % len(batches)]
            engine = Engine(db) if reopened else engine
            apply(engine, events[done : done + size])
            done, turn = done + size, turn + 1
        assert tables(db) == live


# Batch sizes, and whether a new process applies the batch.
batches = st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=5)


@examples(40)
@given(histories(), batches, tails)
def test_batches_of_any_size_in_any_process_give_the_same_rows(
    commands: list[Command], sizes: list[tuple[int, bool]], tail: int
) -> None:
    """Applying a journal in any batches, by one process or several in turn, gives the live tables row for row."""
    check_batches(commands, sizes, tail)


@pytest.mark.torture
@examples(TORTURE_EXAMPLES)
@given(histories(80), batches, tails)
def test_batches_of_long_histories_give_the_same_rows(
    commands: list[Command], sizes: list[tuple[int, bool]], tail: int
) -> None:
    """The same over longer histories and more of them."""
    check_batches(commands, sizes, tail)


def test_a_small_name_cache_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cache of names is full it is dropped, and every name keeps its id."""
    commands = random_history(5, 200)
    events, live = history_of(commands)
    monkeypatch.setattr(name, "NAMES_CACHED_MAX", 3)
    with scratch() as db:
        engine = Engine(db)
        for first in range(0, len(events), 9):
            apply(engine, events[first : first + 9])
        assert tables(db) == live


def test_a_rolled_back_batch_leaves_no_ids_behind() -> None:
    """After a roll-back and `forget` the next batch gives its names the ids of the table, not of the lost batch."""
    lost, _ = history_of([call("a", model="lost")])
    kept, live = history_of([call("b", model="kept", user_id="u")])
    with scratch() as db:
        engine = Engine(db)
        with suppress(ZeroDivisionError), write(db):
            engine.apply(0, lost)
            raise ZeroDivisionError
        engine.forget()
        apply(engine, kept)
        assert tables(db) == live


def test_a_projection_that_is_elsewhere_is_left_alone() -> None:
    """Events are applied only where the checkpoint is exactly before them: never twice, never over a gap."""
    events, live = history_of(calls(4))
    with scratch() as db:
        engine = Engine(db)
        apply(engine, events[:2])
        db.execute("UPDATE projections SET position = 1 WHERE name = 'model_call_stats'")
        before = tables(db)["model_call_stats"]
        apply(engine, events[2:])
        assert tables(db)["model_call_stats"] == before
        assert tables(db)["model_calls"] == live["model_calls"]
        assert checkpoints(db)["model_call_stats"].position == 1


def test_another_version_is_left_to_its_rebuild(monkeypatch: pytest.MonkeyPatch) -> None:
    """A projection whose tables are of another version is not applied to, and its reads raise Rebuilding."""
    events, _ = history_of(calls(2))
    with scratch() as db:
        stats = registry()["model_call_stats"]
        monkeypatch.setitem(registry(), stats.name, replace(stats, version=stats.version + 1))
        apply(Engine(db), events)
        assert tables(db)["model_call_stats"] == []
        require(db, 2, "model_calls", "names")
        with pytest.raises(Rebuilding, match="model_call_stats"):
            require(db, 2, "model_calls", "model_call_stats")


def test_a_read_is_of_the_head_or_refused() -> None:
    """`require` passes only where the checkpoint includes the last event, and for known projections."""
    events, _ = history_of(calls(2))
    with scratch() as db:
        apply(Engine(db), events)
        require(db, 2, *registry())
        with pytest.raises(Rebuilding):
            require(db, 3, "model_calls")
        with pytest.raises(Rebuilding):
            require(db, 2, "unheard_of")


def test_the_checkpoint_moves_with_the_rows() -> None:
    """After a batch every projection is at its last event, and a roll-back takes rows and checkpoint back together."""
    events, _ = history_of(calls(3))
    with scratch() as db:
        with suppress(ZeroDivisionError), write(db):
            Engine(db).apply(0, events)
            raise ZeroDivisionError
        assert {each.position for each in checkpoints(db).values()} == {0}
        apply(Engine(db), events)
        found = [
            Checkpoint(name=n, version=p.version, position=3, shadow_version=None, shadow_position=None)
            for n, p in registry().items()
        ]
        assert list(checkpoints(db).values()) == found


def hours(db: apsw.Connection) -> dict[int, int]:
    """Calls of the global roll-up by hour, counted from noon."""
    found: dict[int, int] = {}
    for key, cell in stat_cells(db).items():
        if key[0] == 0:
            hour = (key[1] - NOON_US) // HOUR_US
            found[hour] = found.get(hour, 0) + cell[0]
    return found


def test_a_late_call_lands_in_its_own_bucket(tmp_path: Path) -> None:
    """Statistics are by the call's start: one that arrives a month late counts in its own past hour."""
    with open_book(tmp_path) as book:
        book.write([call("now"), call("late", started_us=NOON_US - 30 * DAY_US), call("edge", started_us=NOON_US - 1)])
        with reading(book.path) as db:
            assert hours(db) == {0: 1, -720: 1, -1: 1}


def test_a_time_out_counts_where_the_call_began(tmp_path: Path) -> None:
    """A time-out and its taking back are of the hour in which the call started, whenever they happen."""
    began_us = NOON_US - 5 * HOUR_US
    with open_book(tmp_path) as book:
        book.write([start(at_us=began_us), sweep(NOON_US)])
        with reading(book.path) as db:
            assert hours(db) == {-5: 1}
        book.write([finish(at_us=NOON_US)])
        with reading(book.path) as db:
            assert hours(db) == {-5: 1}


def test_the_largest_calls_add_up_exactly(tmp_path: Path) -> None:
    """Many calls at every upper bound at once stay exact: no cell overflows."""
    most = 10**12
    usage = {
        "input_tokens": most, "output_tokens": most, "cache_read_tokens": most, "reasoning_tokens": most,
        "images": most, "seconds": "999999.999999",
    }  # fmt: skip
    with open_book(tmp_path) as book:
        outcomes = book.write(calls(50, usage=usage, duration_ms=most, ttfb_ms=most))
        assert {type(outcome).__name__ for outcome in outcomes} == {"Appended"}
        with reading(book.path) as db:
            cell = next(cell for key, cell in stat_cells(db).items() if key[0] == 1)
        assert cell == (
            50,
            50,
            50 * most,
            50 * most,
            50 * most,
            0,
            50 * most,
            50 * most,
            50 * (most - 1),
            50 * most,
            50 * most,
            50,
        )


def test_no_cell_can_overflow() -> None:
    """A cell takes at most 2^22 events of at most 10^12 each, which an SQLite integer holds."""
    assert 2**model_call_stat.PART_BITS * 10**12 < 2**63
