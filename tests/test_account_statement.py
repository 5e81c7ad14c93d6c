"""A statement's lines are found by account and position however many other accounts have lines between them."""

import random
from collections.abc import Iterator

import pytest

from ledger.writer import Writer
from projections.account_part import MARK_LINES, LineRow
from projections.account_statement import TransactionRow, first_spent, line_at, lines_after, transactions
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
            db, f"SELECT * FROM account_statement WHERE account = '{account}' ORDER BY position"
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
        marks = select(db, "SELECT account, position FROM account_statement_marks ORDER BY 1, 2")
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
