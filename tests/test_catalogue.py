"""Catalogue entries in the ledger: rules, determinism, and projections that follow from the journal alone."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import pytest

from ledger import journal, rebuild
from ledger.database import open_writer
from ledger.decision import Command, groups
from projections.catalogue import find_holder, latest_position
from projections.engine import Engine, registry
from schema.model import MODEL
from schema.provider import PROVIDER
from tests.catalogue import (
    change_model,
    change_provider,
    create_model,
    create_provider,
    delete_model,
    delete_provider,
    random_catalogue,
)
from tests.histories import (
    appended,
    call,
    entries,
    kind_of,
    open_book,
    reading,
    replayed,
    select,
    tables,
    write_in_groups,
)

Result = tuple[list[str], list[str], object]
SEEDS = range(4)


def written(commands: list[Command], sizes: list[int]) -> Result:
    with TemporaryDirectory() as directory, open_book(Path(directory)) as book:
        outcomes = write_in_groups(book, commands, sizes)
        with reading(book.path) as db:
            return [kind_of(outcome) for outcome in outcomes], entries(db), tables(db)


@pytest.mark.parametrize("seed", SEEDS)
def test_grouping_changes_nothing(seed: int) -> None:
    """The same commands give the same outcomes, bytes and tables, however they are grouped, calls between them."""
    commands = random_catalogue(seed, 150)
    kinds, *_ = whole = written(commands, [150])
    assert whole == written(commands, [1]) == written(commands, [7, 2])
    expected = {"accepted", "duplicate", "id_conflict", "name_taken", "in_use", "not_found", "precondition_failed"}
    assert expected <= set(kinds)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replay_gives_the_live_tables(seed: int, tmp_path: Path) -> None:
    """In batches of any size."""
    with open_book(tmp_path) as book:
        book.write(random_catalogue(seed, 150))
        with reading(book.path) as db:
            events, live = journal.read(db, 0, 1_000), tables(db)
    assert live["providers"]
    assert live["models"]
    assert replayed(events, 1) == replayed(events, 40) == live


def test_a_rebuild_equals_what_it_replaces(tmp_path: Path) -> None:
    """Beside the live table, with indexes under other names, twice."""
    with open_book(tmp_path) as book:
        book.write(random_catalogue(1, 150))
        with reading(book.path) as db:
            live = tables(db)
        db = open_writer(book.path, "os")
        for name in ("providers", "models") * 2:
            while not rebuild.rebuild_step(db, Engine(db), registry()[name]):
                pass
            assert tables(db) == live
        db.close()
        assert kind_of(book.write([create_provider("new", name="new")])[0]) == "accepted"


def test_entries_are_decided_alone() -> None:
    """A query finds what they touch, which cannot see what the group before them decided."""
    commands = [call("a"), create_provider(), create_model(), change_model(), delete_model(), call("b")]
    assert [len(group) for group in groups(commands)] == [1] * 6


def test_events_are_numbered_under_the_entry(tmp_path: Path) -> None:
    """Ids, subjects and what each replaces follow from the entry's own history."""
    with open_book(tmp_path) as book:
        book.write([create_provider(), change_provider(sort=1), change_provider(sort=1), change_provider(sort=2)])
        book.write([create_provider("b", name="b"), change_provider("b", sort=7), delete_provider()])
        with reading(book.path) as db:
            rows = select(db, "SELECT source, id, subject, entry ->> '$.data.replaces' FROM events ORDER BY position")
    source = "/ledger/provider"
    assert rows == [
        (source, "openai", "provider/openai", None),
        (source, "openai/change/1", "provider/openai", 1),
        (source, "openai/change/2", "provider/openai", 2),
        (source, "b", "provider/b", None),
        (source, "b/change/1", "provider/b", 4),
        (source, "openai/delete", "provider/openai", 3),
    ]


def test_a_change_without_a_position_is_made_wherever_the_entry_is(tmp_path: Path) -> None:
    """For callers inside the ledger; with one it must be the latest."""
    with open_book(tmp_path) as book:
        book.write([create_provider(), change_provider(sort=1)])
        outcomes = book.write(
            [change_provider(sort=2, position=1), change_provider(sort=3), delete_provider(position=2)]
        )
        assert [kind_of(each) for each in outcomes] == ["precondition_failed", "accepted", "precondition_failed"]
        again = book.write([delete_provider(position=3), delete_provider(position=3), delete_provider(position=2)])
        assert [kind_of(each) for each in again] == ["accepted", "duplicate", "precondition_failed"]
        assert appended(again[1]).position == appended(again[0]).position


def test_the_latest_change_is_found_by_a_seek(tmp_path: Path) -> None:
    """Of any entry, deletions among them; names and references are sought too."""
    with open_book(tmp_path) as book:
        with reading(book.path) as db:
            assert latest_position(db, PROVIDER, MODEL) == 0
        book.write([create_provider(), call("x"), create_model(), create_provider("b", name="b"), delete_model()])
        with reading(book.path) as db:
            assert latest_position(db, PROVIDER) == 4
            assert latest_position(db, PROVIDER, MODEL) == 5
            for query in (
                "SELECT max(position) FROM providers",
                "SELECT max(position) FROM models",
                "SELECT id FROM providers WHERE NOT deleted AND name = 'b' AND id <> '' LIMIT 1",
                "SELECT id FROM models WHERE NOT deleted AND provider = 'b' AND id <> '' LIMIT 1",
                "SELECT data FROM models WHERE (sort, id) > (0, 'a') ORDER BY sort, id LIMIT 10",
            ):
                assert_seeks(db, query)
            assert find_holder(db, PROVIDER, name="b") == "b"
            assert find_holder(db, PROVIDER, "b", name="b") is None


def assert_seeks(db: apsw.Connection, query: str) -> None:
    plan = " ".join(str(row[3]) for row in select(db, f"EXPLAIN QUERY PLAN {query}"))
    assert re.search(r"SEARCH \w+ USING (COVERING )?INDEX", plan), plan
    assert "TEMP B-TREE" not in plan
