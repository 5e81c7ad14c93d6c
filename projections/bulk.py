"""Many rows in one SQLite step.

`executemany` steps once a row, and APSW takes and gives the interpreter's lock at each step: beside a busy event loop
a batch of 500 then waits 500 times. Multi-row VALUES bind everything first and step once. Statement sizes are powers
of two, so that a handful of texts stays in the statement cache (which leaves out texts over 16 KiB).
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain

import apsw

ROWS_MAX = 256
STATEMENT_CHARS_MAX = 16_000
Value = str | int | bytes | None
Row = Sequence[Value]


def insert(db: apsw.Connection, head: str, rows: Sequence[Row], tail: str = "") -> None:
    """Run `head VALUES rows tail`, in as few statements as fit. All rows have the width of the first."""
    done, size = 0, ROWS_MAX
    while done < len(rows):
        width = len(rows[0])
        while size > len(rows) - done or size * (2 * width + 2) > STATEMENT_CHARS_MAX:
            size //= 2
        part = rows[done : done + size]
        db.execute(_statement(head, width, size, tail), tuple(chain.from_iterable(part)))
        done += size


@cache
def _statement(head: str, width: int, size: int, tail: str) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return f"{head} VALUES {','.join([row] * size)} {tail}"
