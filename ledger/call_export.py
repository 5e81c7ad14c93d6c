"""Calls as rows of a file, page by page: each page one bounded read, so an export of any length holds up nobody."""

from collections.abc import Callable
from typing import Any

import apsw
from msgspec import Struct

from ledger.reads import calls_page
from schema.call_export import SUMMED, Layout, Row
from schema.model_call_query import CallFilter
from schema.model_call_view import UsageView, view

PAGE_CALLS = 1_000


class ExportPage(Struct, frozen=True):
    """Some rows as the form has them, what they add up to, and how to go on.

    `sums` are of `SUMMED`, cost and vendor cost in 1e-10 credits.
    """

    content: Any
    rows: int
    sums: tuple[int, ...]
    next_cursor: str | None


def export_page(  # noqa: PLR0913 - what is exported, and as what
    db: apsw.Connection,
    call_filter: CallFilter,
    cursor: str | None,
    layout: Layout,
    encode: Callable[[list[Row]], Any],
    *,
    vendor: bool,
) -> ExportPage:
    """The next calls, newest first, that a filter selects; `vendor` shows what it asks."""
    found, next_cursor = calls_page(db, call_filter, cursor, PAGE_CALLS)
    sums = [0] * (len(SUMMED) + 2)
    rows: list[Row] = []
    for recorded, stored in found:
        call = view(recorded, stored)
        usage = call.usage or UsageView()
        if not vendor:
            call.vendor_cost = None
        row = layout.row(call)
        if row is None:
            continue
        rows.append(row)
        amounts = (*(getattr(usage, name) for name in SUMMED), stored.cost_e10 or 0, stored.vendor_cost_e10 or 0)
        sums = [have + new for have, new in zip(sums, amounts, strict=True)]
    return ExportPage(encode(rows), len(rows), tuple(sums), next_cursor)
