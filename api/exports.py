"""Long answers that are made while they are sent."""

from collections.abc import AsyncGenerator
from hashlib import sha256

from api.services import Services
from ledger.call_export import HEADER, ExportPage, export_page
from schema.call_export import SUMMED, ExportManifest, ExportTotals
from schema.errors import Overloaded
from schema.model_call_query import CallFilter
from schema.model_call_view import credits_text
from schema.times import format_time

EXPORTS_AT_ONCE_MAX = 4
RETRY_AFTER_S = 10


class Export:
    """The calls of a filter that were known at a position."""

    def __init__(self, services: Services, call_filter: CallFilter, *, vendor: bool) -> None:
        self.services = services
        self.call_filter = call_filter
        self.vendor = vendor

    async def pages(self) -> AsyncGenerator[ExportPage, None]:
        """Page by page; an error on the way ends the answer before its end, which clients notice."""
        readers, cursor = self.services.ledger.readers, None
        while True:
            page = await readers.run(export_page, self.call_filter, cursor, vendor=self.vendor)
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    async def text(self) -> AsyncGenerator[bytes, None]:
        """The file. The first item is empty: with it the export is counted, until it ends or is let go."""
        services = self.services
        services.exports += 1
        try:
            yield b""
            yield HEADER
            async for page in self.pages():
                if page.text:
                    yield page.text
        finally:
            services.exports -= 1

    async def open(self) -> AsyncGenerator[bytes, None]:
        """The file, begun and so counted; raises Overloaded where as many as allowed are on their way."""
        if self.services.exports >= EXPORTS_AT_ONCE_MAX:
            message = f"{self.services.exports} exports are on their way, the limit"
            raise Overloaded(message, retry_after_s=RETRY_AFTER_S)
        stream = self.text()
        await anext(stream)
        return stream

    async def manifest(self) -> ExportManifest:
        """What the file holds, found by making it once more."""
        digest, size, rows, sums = sha256(HEADER), len(HEADER), 0, [0] * (len(SUMMED) + 2)
        async for page in self.pages():
            digest.update(page.text)
            size += len(page.text)
            rows += page.rows
            sums = [have + new for have, new in zip(sums, page.sums, strict=True)]
        *counts, cost_e10, vendor_e10 = sums
        totals = ExportTotals(
            **dict(zip(SUMMED, counts, strict=True)), cost=credits_text(cost_e10) or "0",
            vendor_cost=credits_text(vendor_e10) if self.vendor else None,
        )  # fmt: skip
        asked = self.call_filter
        return ExportManifest(
            from_=None if asked.from_us is None else format_time(asked.from_us),
            to=None if asked.to_us is None else format_time(asked.to_us),
            position=asked.until or 0, rows=rows, bytes=size, sha256=digest.hexdigest(), totals=totals,
        )  # fmt: skip
