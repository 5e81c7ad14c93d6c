"""A statement's lines are found by account and position however many other accounts have lines between them."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.writer import Writer
from projections.account_balance import state_at
from projections.account_part import MARK_LINES, LineRow
from projections.account_statement import TransactionRow, first_spent, line_at, lines_after, store, transactions
from projections.projection import Target
from tests.accounts import create_account, credit
from tests.histories import open_book, reading, select
from tests.test_budget import done
from tests.test_correction import plan

ACCOUNTS = {"often": MARK_LINES * 5, "just": MARK_LINES - 1, "seldom": 2, "never": 0}  # with how many credits


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    with open_book(tmp_path_factory.mktemp("statement")) as writer:
        done(writer, *(create_account(id_, "user", id_) for id_ in ACCOUNTS))
        order = [id_ for id_, count in ACCOUNTS.items() for _ in range(count)]
        random.Random(7).shuffle(order)
        for at in range(0, len(order), 50):  # several groups, so that a line's neighbour is in another
            group = enumerate(order[at : at + 50], at)
            done(writer, *(credit(f"{n + 1}", f"cr-{n}", account) for n, account in group))
        yield writer


def lines_of(writer: Writer, account: str) -> list[LineRow]:
    with reading(writer.path) as db:
        found: list[LineRow] = select(
            db,
            "SELECT s.* FROM account_statement s JOIN account_owners o ON o.number = s.account "
            f"WHERE o.account = '{account}' ORDER BY position",
        )
        return found


@pytest.mark.parametrize("account", ACCOUNTS)
def test_at_any_position_the_line_is_the_last_before_it(book: Writer, account: str) -> None:
    lines = lines_of(book, account)
    assert len(lines) == ACCOUNTS[account] + 1
    with reading(book.path) as db:
        for position in range(sum(ACCOUNTS.values()) + len(ACCOUNTS) + 3):
            expected = max((line for line in lines if line[0] <= position), default=None)
            assert line_at(db, account, position) == expected
            assert list(lines_after(db, account, position)) == [line for line in lines if line[0] > position]


def test_lines_know_the_one_before_and_some_are_marked(book: Writer) -> None:
    with reading(book.path) as db:
        marks = select(
            db,
            "SELECT o.account, m.position FROM account_statement_marks m JOIN account_owners o ON o.number = m.account "
            "ORDER BY 1, 2",
        )
    assert marks == [("just", lines_of(book, "just")[MARK_LINES - 1][0])] + [
        ("often", line[0]) for n, line in enumerate(lines_of(book, "often"), 1) if n % MARK_LINES == 0
    ]
    for account in ACCOUNTS:
        lines = lines_of(book, account)
        assert [line[2] for line in lines] == [0, *(line[0] for line in lines[:-1])]


def test_transactions_go_on_where_a_page_ended(book: Writer) -> None:
    expected = [(line[0], line[14], line[3], line[4], line[6]) for line in lines_of(book, "often") if line[3]]
    found: list[TransactionRow] = []
    after = 0
    with reading(book.path) as db:
        while page := transactions(db, "often", after, 37):
            assert len(page) <= 37
            found += page
            after = page[-1][0]
    assert found == expected
    assert [row[1] for row in found] == list(range(1, ACCOUNTS["often"] + 1))


def test_an_account_that_is_not_there_has_no_lines(book: Writer) -> None:
    with reading(book.path) as db:
        assert line_at(db, "nobody", 100) is None
        assert list(lines_after(db, "nobody", 0)) == []
        assert first_spent(db, "often", 0, (0, 0)) is None


def test_every_step_is_a_seek(book: Writer) -> None:
    with reading(book.path) as db:
        steps = plan(db, lambda: (line_at(db, "often", 50), list(lines_after(db, "often", 50))), "account_statement")
    by_key = {f"SEARCH {table} USING PRIMARY KEY (position=? AND account=?)" for table in ("account_statement", "s")}
    assert by_key <= set(steps)
    assert {step for step in steps if step.startswith("SCAN")} == {"SCAN w", "SCAN CONSTANT ROW"}  # what was found


def test_sums_beyond_a_column_are_kept_in_two(tmp_path: Path) -> None:
    """Lines with and without such sums, in one group."""
    high, plain = 10**18, 5
    sums = [(plain, plain, plain), (high - 1, high, 3 * high + 7), (-1, 0, -high), (12 * high, 1, 0)]
    with open_book(tmp_path) as writer:
        done(writer, create_account("a", "user", "a"))
        with reading(writer.path) as db:
            (head,) = select(db, "SELECT position FROM account_balances")
        lines = [
            value
            for position, (spent, owed, tokens) in enumerate(sums, head[0] + 1)
            for value in (position, head[0], position - 1, "consumption", -1, 2, 3, 4, spent, owed, tokens, 6)
        ]
        db, engine = writer._connect()
        store(Target(db, engine.names), lines, [])
        db.execute("UPDATE account_balances SET position = ?", (head[0] + len(sums),))
        for position, (spent, owed, tokens) in enumerate(sums, head[0] + 1):
            state = state_at(db, "a", position)
            assert state is not None
            assert (state.spent_e10, state.owed_e10, state.tokens) == (spent, owed, tokens)
            assert (state.balance_e10, state.free_e10, state.held_e10, state.sequence) == (3, 4, 2, 6)
