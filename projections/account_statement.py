"""Statements: what an account held after each event that touched it, by position.

Lines lie in the order of the journal, so that writing them touches no page but the last, however many accounts are
charged. Each line knows the one before it of the same account, and one in `MARK_LINES` is noted with its account:
to find an account's line at a position is to seek the next mark and to walk back from there.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, cast

import apsw

from projections.account_part import HIGH, LineRow, parted
from projections.bulk import Row, Value, insert, insert_flat
from projections.projection import Table, Target
from schema.credit import TransactionKind

SHOWN = """
    balance_e10       INTEGER NOT NULL,  -- with what is held of it
    free_e10          INTEGER NOT NULL,  -- with what is held of it
    spent_high        INTEGER NOT NULL,  -- times 10^18
    spent_e10         INTEGER NOT NULL,  -- and the rest
    owed_high         INTEGER NOT NULL,
    owed_e10          INTEGER NOT NULL,
    tokens_high       INTEGER NOT NULL,  -- times 10^18
    tokens            INTEGER NOT NULL,  -- and the rest
    sequence          INTEGER NOT NULL,
"""
_COLUMNS = f"""
    position          INTEGER NOT NULL,
    account           INTEGER NOT NULL,  -- its number
    before            INTEGER NOT NULL,  -- position of the account's line before, 0 for the first
    kind              TEXT,              -- null where no money moved
    amount_e10        INTEGER NOT NULL,
    held_e10          INTEGER NOT NULL,
    {SHOWN.strip()}
    PRIMARY KEY (position, account)
"""
_WIDTH = 12  # values of a line: sums that are stored in two columns are one
_SUMS = (8, 9, 10)  # the places of those among them
_PLAIN = f"({','.join('0,?' if n in _SUMS else '?' for n in range(_WIDTH))})"
LINES = Table("account_statement", _COLUMNS, key="position, account", options="STRICT, WITHOUT ROWID")
MARKS = Table(
    "account_statement_marks",
    "account INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (account, position)",
    key="account, position",
    options="STRICT, WITHOUT ROWID",
)
_TRANSACTIONS = (
    "SELECT o.account, sequence, kind, amount_e10, balance_e10 + free_e10 - amount_e10 AS before_e10, "
    "balance_e10 + free_e10 AS after_e10, position "
    "FROM account_statement s JOIN account_owners o ON o.number = s.account WHERE kind IS NOT NULL"
)
VIEW = ("account_transactions", _TRANSACTIONS)
TransactionRow = tuple[int, int, TransactionKind, int, int]


def store(target: Target, lines: Sequence[Value], marks: list[tuple[int, int]]) -> None:
    """Add lines, the values of all of them in one sequence, in the order of the journal; and the marks among them."""
    if not lines:
        return
    head = f"INSERT INTO {target.table(LINES.name)}"
    sums: Any = [lines[n::_WIDTH] for n in _SUMS]
    if min(map(min, sums)) >= 0 and max(map(max, sums)) < HIGH:  # as nearly always
        insert_flat(target.db, head, _PLAIN, lines)
    else:
        insert(target.db, head, [_parted(lines[n : n + _WIDTH]) for n in range(0, len(lines), _WIDTH)])
    insert(target.db, f"INSERT INTO {target.table(MARKS.name)}", marks)


def _parted(line: Sequence[Any]) -> Row:
    """A line as it is stored."""
    sums = chain.from_iterable(parted(line[n]) for n in _SUMS)
    return [*line[: _SUMS[0]], *sums, *line[_SUMS[-1] + 1 :]]


def line_at(db: apsw.Connection, account: str, position: int) -> LineRow | None:
    """The account's last line at or before a position."""
    rows = _walk(db, account, position, "w.position > ?3", "WHERE position <= ?3")
    return rows[0] if rows else None


def lines_after(db: apsw.Connection, account: str, position: int) -> Iterator[LineRow]:
    """The account's lines after a position, in order, a stretch up to the next mark at a time."""
    while rows := _walk(db, account, position + 1, "w.before >= ?3", "WHERE position >= ?3 ORDER BY position"):
        yield from rows
        position = rows[-1][0]


def _walk(db: apsw.Connection, account: str, position: int, onward: str, shown: str) -> list[LineRow]:
    """Lines from the first mark at or after a position, or else from the last line, back as long as `onward` holds."""
    number = db.execute("SELECT number FROM account_owners WHERE account = ?", (account,)).get
    start = db.execute(
        "SELECT coalesce((SELECT min(position) FROM account_statement_marks WHERE account = ?1 AND position >= ?2), "
        "(SELECT position FROM account_balances WHERE number = ?1))",
        (number, position),
    ).get
    query = (
        "WITH RECURSIVE w AS (SELECT * FROM account_statement WHERE position = ?2 AND account = ?1 UNION ALL "
        "SELECT s.* FROM w CROSS JOIN account_statement s ON s.position = w.before AND s.account = ?1 "
        f"WHERE {onward}) SELECT * FROM w {shown}"
    )
    return cast("list[LineRow]", db.execute(query, (number, start, position)).fetchall())


def transactions(db: apsw.Connection, account: str, after: int, limit: int) -> list[TransactionRow]:
    """Position, sequence, kind, amount and total afterwards of what moved money, in order."""
    found: list[TransactionRow] = []
    for line in lines_after(db, account, after):
        position, _, _, kind, amount, _, balance, free, *_, sequence = line
        if kind is not None:
            found.append((position, sequence, kind, amount, balance + free))
            if len(found) == limit:
                break
    return found


def first_spent(db: apsw.Connection, account: str, position: int, spent: tuple[int, int]) -> int | None:
    """The position after the given one at which more or less was spent than before; None where nothing was since."""
    return next((line[0] for line in lines_after(db, account, position) if line[8:10] != spent), None)
