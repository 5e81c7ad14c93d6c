"""Long answers that are made while they are sent."""

from collections.abc import AsyncGenerator, Callable
from hashlib import sha256
from typing import Any, Literal

from api import parquet
from api.services import Services
from ledger.call_export import ExportPage, export_page
from ledger.csv_text import csv_text
from schema.call_export import SUMMED, ExportManifest, ExportTotals, Layout, Row
from schema.errors import Overloaded
from schema.model_call_query import CallFilter
from schema.model_call_view import credits_text
from schema.times import format_time

EXPORTS_AT_ONCE_MAX = 4
RETRY_AFTER_S = 10

Form = Literal["csv", "parquet"]


class Export:
    """The calls of a filter as a position left them, in a layout and a form; raises MissingExtra."""

    def __init__(
        self, services: Services, call_filter: CallFilter, layout: Layout, form: Form, *, vendor: bool
    ) -> None:
        if form == "parquet":
            parquet.require()
        self.services = services
        self.call_filter = call_filter
        self.layout = layout
        self.form: Form = form
        self.vendor = vendor
        self.rows = 0
        self.sums = [0] * (len(SUMMED) + 2)

    async def pages(self, encode: Callable[[list[Row]], Any]) -> AsyncGenerator[ExportPage, None]:
        """Page by page, added up; an error on the way ends the answer before its end, which clients notice."""
        readers, cursor = self.services.ledger.readers, None
        while True:
            page = await readers.run(export_page, self.call_filter, cursor, self.layout, encode, vendor=self.vendor)
            self.rows += page.rows
            self.sums = [have + new for have, new in zip(self.sums, page.sums, strict=True)]
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    async def csv(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes."""
        yield csv_text([tuple(self.layout.columns)]).encode()
        async for page in self.pages(lambda rows: csv_text(rows).encode()):
            if page.content:
                yield page.content

    def content(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes, in its form."""
        if self.form == "csv":
            return self.csv()
        return parquet.written(self.layout, self.pages(lambda rows: rows))

    async def counted(self) -> AsyncGenerator[bytes, None]:
        """The file. The first item is empty: with it the export is counted, until it ends or is let go."""
        services, content = self.services, self.content()
        services.exports += 1
        try:
            yield b""
            async for part in content:
                yield part
        finally:
            services.exports -= 1
            await content.aclose()

    async def open(self) -> AsyncGenerator[bytes, None]:
        """The file, begun and so counted; raises Overloaded where as many as allowed are on their way."""
        if self.services.exports >= EXPORTS_AT_ONCE_MAX:
            message = f"{self.services.exports} exports are on their way, the limit"
            raise Overloaded(message, retry_after_s=RETRY_AFTER_S)
        stream = self.counted()
        await anext(stream)
        return stream

    async def manifest(self) -> ExportManifest:
        """What the file holds, found by making it once more, which counts as an export too."""
        digest, size = sha256(), 0
        async for part in await self.open():
            digest.update(part)
            size += len(part)
        *counts, cost_e10, vendor_e10 = self.sums
        totals = ExportTotals(
            **dict(zip(SUMMED, counts, strict=True)), cost=credits_text(cost_e10) or "0",
            vendor_cost=credits_text(vendor_e10) if self.vendor else None,
        )  # fmt: skip
        asked = self.call_filter
        return ExportManifest(
            from_=None if asked.from_us is None else format_time(asked.from_us),
            to=None if asked.to_us is None else format_time(asked.to_us),
            position=asked.as_of or 0, rows=self.rows, bytes=size, sha256=digest.hexdigest(), totals=totals,
        )  # fmt: skip
