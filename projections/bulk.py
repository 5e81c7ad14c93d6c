"""Many rows in one SQLite step.

`executemany` steps once a row, and APSW takes and gives the interpreter's lock at each step: beside a busy event loop
a batch of 500 then waits 500 times. Multi-row VALUES bind everything first and step once. Whole blocks have a few
sizes and the rest is at most 63 rows, so that every text stays in the statement cache (which leaves out those over
16 KiB).
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain

import apsw

BLOCK_ROWS = (256, 128, 64)
STATEMENT_CHARS_MAX = 16_000
Value = str | int | bytes | None
Row = Sequence[Value]


def insert(db: apsw.Connection, head: str, rows: Sequence[Row], tail: str = "") -> None:
    """Run `head VALUES rows tail`, in as few statements as fit. All rows have the width of the first."""
    if rows:
        insert_flat(db, head, row_of(len(rows[0])), list(chain.from_iterable(rows)), tail)


def insert_flat(db: apsw.Connection, head: str, row: str, values: Sequence[Value], tail: str = "") -> None:
    """The same for the values of all rows in one sequence, which stand in a row as `row` says: they need no objects."""
    width = row.count("?")
    done, count = 0, len(values) // width
    while done < count:
        size = _block(count - done, STATEMENT_CHARS_MAX // (len(row) + 1))
        db.execute(_statement(head, row, size, tail), values[done * width : (done + size) * width])
        done += size


@cache
def row_of(width: int) -> str:
    """A row of nothing but values."""
    return "(" + ",".join("?" * width) + ")"


def _block(left: int, fitting: int) -> int:
    """How many rows the next statement takes."""
    return next((size for size in BLOCK_ROWS if size <= min(left, fitting)), min(left, fitting))


@cache
def _statement(head: str, row: str, size: int, tail: str) -> str:
    return f"{head} VALUES {','.join([row] * size)} {tail}"
