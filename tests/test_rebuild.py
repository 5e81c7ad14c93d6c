"""Rebuilds: online, resumable, switched at once, and equal to what they replace."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import journal, reads, rebuild
from ledger.database import open_writer, write
from ledger.decision import Command
from ledger.ledger import Ledger
from projections import model_call_stat
from projections.engine import Engine, checkpoints, registry, require
from projections.projection import SHADOW, Projection
from schema.errors import Rebuilding, UnknownEventType
from schema.model_call_query import CallFilter, StatQuery
from tests.histories import (
    NOON_US,
    Row,
    call,
    calls,
    kinds,
    open_book,
    open_ledger,
    random_history,
    reading,
    replayed,
    select,
    tables,
    write_in_groups,
)
from tests.strategies import TORTURE_EXAMPLES, examples, histories, tails

ALL = list(registry())


@contextmanager
def written(data_dir: Path, commands: Sequence[Command]) -> Generator[apsw.Connection]:
    """A ledger with a history, and a connection to rebuild with."""
    with open_book(data_dir) as book:
        write_in_groups(book, commands, [50])
        db = open_writer(book.path, "os")
        try:
            yield db
        finally:
            db.close()


def raise_version(patch: pytest.MonkeyPatch, name: str) -> Projection:
    projection = registry()[name]
    patch.setitem(registry(), name, replace(projection, version=projection.version + 1))
    return registry()[name]


def broken(*_: object) -> None:
    raise ZeroDivisionError


def nothing(*_: object) -> None:
    """Stands in for what is left out."""


def wait_until_current(ledger: Ledger) -> None:
    while ledger.readers.now(rebuild.pending):
        time.sleep(0.005)


def check_rebuild(commands: Sequence[Command], step: int, tail: int, order: list[str], reopen: int) -> None:
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "STEP_EVENTS_MAX", step)
        patch.setattr(model_call_stat, "TAIL_EVENTS", tail)
        with written(Path(directory), commands) as db:
            live = tables(db)
            engine = Engine(db)
            for n, name in enumerate(order):
                engine = Engine(db) if n % reopen == 0 else engine
                rebuild.rebuild(db, engine, registry()[name])
                assert tables(db) == live
            assert rebuild.pending(db) == []


steps = st.integers(1, 7)
orders = st.permutations(ALL)
reopenings = st.integers(1, 3)


@examples(20)
@given(histories(), steps, tails, orders, reopenings)
def test_a_rebuild_equals_what_it_replaces(
    commands: list[Command], step: int, tail: int, order: list[str], reopen: int
) -> None:
    """Every projection rebuilt from position 1, in steps of any size and in any order, is the live one row for row."""
    check_rebuild(commands, step, tail, order, reopen)


@pytest.mark.torture
@examples(TORTURE_EXAMPLES)
@given(histories(80), steps, tails, orders, reopenings)
def test_a_rebuild_of_a_long_history_equals_what_it_replaces(
    commands: list[Command], step: int, tail: int, order: list[str], reopen: int
) -> None:
    """The same over longer histories and more of them."""
    check_rebuild(commands, step, tail, order, reopen)


@pytest.mark.parametrize("order", [["model_calls", "model_call_stats"], ["model_call_stats", "model_calls"], ALL])
def test_a_rebuild_of_both_takes_nothing_from_a_damaged_table(tmp_path: Path, order: list[str]) -> None:
    """Statistics are folded from the calls being rebuilt, not from the live rows that are to be replaced."""
    with pytest.MonkeyPatch.context() as patch, written(tmp_path, random_history(1, 200)) as db:
        patch.setattr(model_call_stat, "TAIL_EVENTS", 50)
        patch.setattr(rebuild, "STEP_EVENTS_MAX", 40)
        engine = Engine(db)
        rebuild.rebuild_together(db, engine, list(registry().values()))  # by the shorter tail
        before = tables(db)
        db.execute("UPDATE model_calls SET input_tokens = input_tokens + 1, model = model + 1")
        rebuild.rebuild_together(db, engine, [registry()[name] for name in order])
        assert tables(db) == before


def test_names_keep_their_ids(tmp_path: Path) -> None:
    """A rebuilt dictionary gives every name the id it had, so nothing that refers to it moves."""
    with written(tmp_path, random_history(1, 200)) as db:
        before = db.execute("SELECT id, name FROM names ORDER BY id").fetchall()
        rebuild.rebuild(db, Engine(db), registry()["names"])
        assert db.execute("SELECT id, name FROM names ORDER BY id").fetchall() == before


def schema_of(db: apsw.Connection) -> list[Row]:
    rows = select(db, "SELECT type, name, tbl_name FROM sqlite_schema ORDER BY 1, 2, 3")
    return [(type_, name.removesuffix("_2"), table) for type_, name, table in rows]


def test_rebuilds_leave_the_schema_as_it_was(tmp_path: Path) -> None:
    """After any number of rebuilds tables, views and indexes are the same, but for index names, which take turns."""
    with written(tmp_path, calls(5)) as db:
        before = schema_of(db)
        for n in range(4):
            for name in ALL:
                rebuild.rebuild(db, Engine(db), registry()[name])
            assert schema_of(db) == before
            plan = str(db.execute("EXPLAIN QUERY PLAN SELECT 1 FROM model_calls WHERE started_at_us > 1").fetchall())
            assert f"model_calls_started_at{'_2' if n % 2 == 0 else ''} " in plan


def test_views_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    """An operator's, and one of a later version that names a table which this one does not have."""
    views = {"mine": "SELECT count(*) FROM model_calls", "later": "SELECT * FROM of_a_later_version"}
    with written(tmp_path, calls(5)) as db:
        for name, select_ in views.items():
            db.execute(f"CREATE VIEW {name} AS {select_}")
        before = schema_of(db)
        for name in ALL:
            rebuild.rebuild(db, Engine(db), registry()[name])
        assert schema_of(db) == before
        assert db.execute("SELECT * FROM mine").get == 5
        assert db.pragma("legacy_alter_table") == 0


@pytest.mark.parametrize("name", ALL)
def test_writes_go_on_during_a_rebuild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Between the steps of a rebuild calls are recorded and read; the swap includes them all."""
    monkeypatch.setattr(rebuild, "STEP_EVENTS_MAX", 5)
    projection = registry()[name]
    with open_book(tmp_path) as book:
        book.write(calls(20))
        db = open_writer(book.path, "os")
        engine = Engine(db)
        with write(db):
            engine.begin_shadow(projection)
        steps = 0
        while not rebuild.rebuild_step(db, engine, projection):
            steps += 1
            assert kinds(book.write(calls(3, prefix=f"n{steps}", model=f"m-{steps}"))) == {"accepted": 3}
            require(db, journal.head_position(db), *ALL)
        assert steps == 8
        book.write(calls(3, prefix="after", user_id="new"))
        assert {each.position for each in checkpoints(db).values()} == {47}
        assert tables(db) == replayed(journal.read(db, 0, 100), 7)
        db.close()


@pytest.mark.parametrize("name", ALL)
def test_a_killed_rebuild_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A rebuild that stops at any step is finished by the next process, without starting over."""
    monkeypatch.setattr(rebuild, "STEP_EVENTS_MAX", 10)
    with written(tmp_path, calls(45)) as db:
        live = tables(db)
        projection = raise_version(monkeypatch, name)
        shown: list[int] = []

        def progress(_: str, position: int, head: int) -> None:
            shown.append(position)

        while not rebuild.rebuild_step(db, Engine(db), projection, progress):
            assert checkpoints(db)[name].shadow_position == shown[-1]
        assert shown == [10, 20, 30, 40, 45]
        assert tables(db) == live
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE ?", (f"%{SHADOW}",)).get == 0


def test_two_processes_share_one_rebuild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that step the same rebuild do each part once, and the slower one finds it done."""
    monkeypatch.setattr(rebuild, "STEP_EVENTS_MAX", 10)
    with written(tmp_path, calls(45)) as db, written(tmp_path, []) as other:
        projection = raise_version(monkeypatch, "model_calls")
        steps = [rebuild.rebuild_step(each, Engine(each), projection) for each in [db, other] * 3]
        assert steps == [False, False, False, False, True, True]
        assert checkpoints(db)["model_calls"].shadow_version is None


def test_a_version_raised_again_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replacement of a version that is no longer wanted is thrown away."""
    monkeypatch.setattr(rebuild, "STEP_EVENTS_MAX", 10)
    with written(tmp_path, calls(15)) as db:
        rebuild.rebuild_step(db, Engine(db), raise_version(monkeypatch, "model_calls"))
        projection = raise_version(monkeypatch, "model_calls")
        rebuild.rebuild_step(db, Engine(db), projection)
        found = checkpoints(db)["model_calls"]
        assert (found.shadow_version, found.shadow_position) == (projection.version, 10)


def test_a_failed_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that raises is rolled back whole, and the same engine can run it again."""
    with written(tmp_path, calls(5, model="new")) as db:
        live = tables(db)
        names, engine = registry()["names"], Engine(db)
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "swap", broken)
            with pytest.raises(ZeroDivisionError):
                rebuild.rebuild(db, engine, names)
        assert checkpoints(db)["names"].shadow_position == 0
        assert rebuild.rebuild_step(db, engine, names)
        assert tables(db) == live


def test_a_new_version_is_rebuilt_while_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade the ledger opens at once: writes go on, reads of what changed are refused, then it switches."""
    with open_ledger(tmp_path) as ledger:
        ledger.execute_now(calls(30))
    raise_version(monkeypatch, "model_call_stats")
    monkeypatch.setattr(rebuild, "STEP_EVENTS_MAX", 10)
    gate = threading.Event()
    original = rebuild.rebuild_step

    def step(*args: object) -> bool:
        gate.wait()
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rebuild, "rebuild_step", step)
    with open_ledger(tmp_path) as ledger:
        try:
            assert kinds(ledger.execute_now(calls(5, prefix="during"))) == {"accepted": 5}
            ledger.readers.now(require, 35, "model_calls", "names", "keys")
            with pytest.raises(Rebuilding):
                ledger.readers.now(require, 35, "model_call_stats")
        finally:
            gate.set()
        wait_until_current(ledger)
        ledger.execute_now([call("after")])
        ledger.readers.now(require, 36, *ALL)
        found = ledger.readers.now(reads.model_call_stats, StatQuery(filter=CallFilter()))
        assert found.totals.calls == 36


@pytest.mark.parametrize("name", [name for name, projection in registry().items() if projection.blocking])
def test_what_decisions_read_is_rebuilt_before_the_first_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A changed projection that commands or sign-in read is of the new version when `open` returns."""
    with open_ledger(tmp_path) as ledger:
        ledger.execute_now(calls(30))
    projection = raise_version(monkeypatch, name)
    with open_ledger(tmp_path) as ledger:
        found = ledger.readers.now(checkpoints)[name]
        assert (found.version, found.position) == (projection.version, 30)


@pytest.mark.parametrize("name", ALL)
def test_a_projection_that_is_new_catches_up_at_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A projection that the file never had is made and brought to the head; the others are left as they are."""
    monkeypatch.setattr(rebuild, "STEP_EVENTS_MAX", 7)
    with open_book(tmp_path) as book:
        write_in_groups(book, random_history(3, 60), [9])
        with reading(book.path) as db:
            live = tables(db)
        db = open_writer(book.path, "os")
        with write(db):
            for each in registry().values():
                each.drop_views(db)
            registry()[name].drop(db)
            db.execute("DELETE FROM projections WHERE name = ?", (name,))
            for each in registry().values():
                if each.name != name:
                    each.create_views(db)
        db.close()
    with open_ledger(tmp_path) as ledger:
        assert ledger.readers.now(tables) == live


def test_a_projection_that_is_behind_catches_up_at_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that a projection missed are applied at the next open, in order and once."""
    with open_book(tmp_path) as book, monkeypatch.context() as patch:
        book.write(calls(3))
        patch.setattr(Engine, "apply", nothing)
        book.write(calls(4, prefix="missed", model="new"))
    with open_ledger(tmp_path) as ledger:
        assert ledger.readers.now(rebuild.pending) == []
        live = ledger.readers.now(tables)
        assert len(live["model_calls"]) == 7


def append_unknown(db: apsw.Connection) -> None:
    """An event as newer software would write it."""
    head = journal.head_position(db)
    row = db.execute("SELECT source, subject, time, entry, leaf_hash FROM events WHERE position = 1").fetchall()[0]
    values = (head + 1, row[0], "unknown", "model_call.imagined.v9", *row[1:])
    with write(db):
        db.execute(
            "INSERT INTO events (position, source, id, type, subject, time, entry, leaf_hash) VALUES (?,?,?,?,?,?,?,?)",
            values,
        )
        db.execute("UPDATE journal_head SET size = ?", (head + 1,))


def test_an_unknown_event_stops_a_projection(tmp_path: Path) -> None:
    """A type that this version does not know stops the catching up before it; nothing is skipped, and open says so."""
    with written(tmp_path, calls(3)) as db:
        append_unknown(db)
        engine, stats = Engine(db), registry()["model_call_stats"]
        before = tables(db)
        with pytest.raises(UnknownEventType, match="position 4"):
            rebuild.catch_up_step(db, engine, stats)
        with pytest.raises(UnknownEventType, match="position 4"):
            rebuild.rebuild(db, engine, stats)
        assert checkpoints(db)["model_call_stats"].position == 3
        assert tables(db) == before
        with pytest.raises(Rebuilding):
            require(db, 4, "model_call_stats")
    ledger = Ledger(tmp_path)
    with pytest.raises(UnknownEventType):
        ledger.open(NOON_US)
    ledger.close()
