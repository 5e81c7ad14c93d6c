"""Rows of CSV (RFC 4180) that a spreadsheet takes for what they are: text is text, never a formula."""

import csv
import io
from collections.abc import Iterable, Sequence

from schema.call_export import Cell

# What makes a spreadsheet calculate. A quote in front makes it text; programs that read the file strip one quote.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """Lines ended by CRLF; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: Cell) -> str | int:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return value
        case _:
            return f"'{value}" if value.startswith(FORMULA_STARTS) else value
