"""Calls as CSV, page by page: each page one bounded read, so an export of any length holds up nobody."""

import apsw
from msgspec import Struct

from ledger import journal
from ledger.csv_text import csv_text
from ledger.reads import calls_page
from projections.model_call_list import TIME_MAX_US
from schema.call_export import COLUMNS, SUMMED, cells
from schema.model_call_query import CallFilter
from schema.model_call_view import UsageView, view

PAGE_CALLS = 1_000
HEADER = csv_text([COLUMNS]).encode()


class ExportPage(Struct, frozen=True):
    """Some lines, what they add up to (`SUMMED`, cost and vendor cost in 1e-10 credits), and how to go on."""

    text: bytes
    rows: int
    sums: tuple[int, ...]
    next_cursor: str | None


def head_position(db: apsw.Connection) -> int:
    """Where an export that begins now stands."""
    return min(journal.head_position(db), TIME_MAX_US)


def export_page(db: apsw.Connection, call_filter: CallFilter, cursor: str | None, *, vendor: bool) -> ExportPage:
    """The next calls, newest first, that a filter selects; `vendor` shows what it asks."""
    found, next_cursor = calls_page(db, call_filter, cursor, PAGE_CALLS)
    sums = [0] * (len(SUMMED) + 2)
    lines: list[list[str | int | bool | None]] = []
    for recorded, row in found:
        call = view(recorded, row)
        usage = call.usage or UsageView()
        if not vendor:
            call.vendor_cost = None
        lines.append(cells(call))
        amounts = (*(getattr(usage, name) for name in SUMMED), row.cost_e10 or 0, row.vendor_cost_e10 or 0)
        sums = [have + new for have, new in zip(sums, amounts, strict=True)]
    return ExportPage(csv_text(lines).encode(), len(lines), tuple(sums), next_cursor)
