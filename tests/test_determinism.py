"""The same commands in the same order give the same events, bytes, roots and tables, however they are grouped."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given

from ledger.decision import Command
from ledger.journal import read_head
from ledger.tree import root
from projections import model_call_stat
from tests.histories import (
    book_of,
    call_rows,
    entries,
    kind_of,
    open_book,
    random_history,
    reading,
    stat_cells,
    tables,
    write_in_groups,
)
from tests.strategies import TORTURE_EXAMPLES, examples, group_sizes, histories, tails

Result = tuple[list[str], list[str], bytes, object]


def written(commands: list[Command], sizes: list[int]) -> Result:
    """Outcomes, entries, root and tables of a fresh ledger that got the commands in groups of these sizes."""
    with TemporaryDirectory() as directory, open_book(Path(directory)) as writer:
        outcomes = write_in_groups(writer, commands, sizes)
        with reading(writer.path) as db:
            return [kind_of(o) for o in outcomes], entries(db), root(read_head(db).edge), tables(db)


def check_grouping(commands: list[Command], sizes: list[int], tail: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_call_stat, "TAIL_EVENTS", tail)
        assert written(commands, sizes) == written(commands, [1])


@examples(25)
@given(histories(), group_sizes, tails)
def test_grouping_changes_nothing(commands: list[Command], sizes: list[int], tail: int) -> None:
    """A history written in any groups equals the same history written one command at a time, to the byte."""
    check_grouping(commands, sizes, tail)


@pytest.mark.torture
@examples(TORTURE_EXAMPLES)
@given(histories(80), group_sizes, tails)
def test_grouping_changes_nothing_in_long_histories(commands: list[Command], sizes: list[int], tail: int) -> None:
    """The same over longer histories and more of them."""
    check_grouping(commands, sizes, tail)


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_on_a_second_ledger_gives_the_same_file(seed: int) -> None:
    """A long random history replayed elsewhere gives equal entries, roots and rows."""
    commands = random_history(seed, 300)
    assert written(commands, [300]) == written(commands, [7, 50, 1])


def check_book(commands: list[Command], sizes: list[int], tail: int) -> None:
    book, expected = book_of(commands)
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as directory, open_book(Path(directory)) as writer:
        patch.setattr(model_call_stat, "TAIL_EVENTS", tail)
        outcomes = write_in_groups(writer, commands, sizes)
        with reading(writer.path) as db:
            found = db.execute("SELECT type, id FROM events ORDER BY position").fetchall()
            assert [kind_of(outcome) for outcome in outcomes] == expected
            assert found == book.events
            assert call_rows(db) == set(book.rows.values())
            assert stat_cells(db) == book.stats


@examples(40)
@given(histories(), group_sizes, tails)
def test_a_history_comes_to_what_the_plain_book_says(commands: list[Command], sizes: list[int], tail: int) -> None:
    """Outcomes, events, calls and statistics are those of a fold that shares no code with the ledger."""
    check_book(commands, sizes, tail)


@pytest.mark.torture
@examples(TORTURE_EXAMPLES)
@given(histories(80), group_sizes, tails)
def test_long_histories_come_to_what_the_plain_book_says(commands: list[Command], sizes: list[int], tail: int) -> None:
    """The same over longer histories and more of them."""
    check_book(commands, sizes, tail)
