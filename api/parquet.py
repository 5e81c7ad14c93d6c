"""Rows as Apache Parquet, by a library that is there only where it was asked for: the extra `parquet`.

It writes from a thread of its own, which takes pages from the event loop and gives it bytes, a bounded number ahead.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ledger.call_export import ExportPage
from schema.call_export import ColumnKind, Layout, MissingExtra, Row

if TYPE_CHECKING:
    from arro3.core import DataType, RecordBatch, Schema

MEDIA_TYPE = "application/vnd.apache.parquet"
ROW_GROUP_ROWS = 20_000  # what the writer keeps, encoded, until a group is whole
CHUNK_BYTES = 256 * 1024
CHUNKS_AHEAD_MAX = 4
DRAIN_S = 0.01
DIGITS, SCALE = 38, 10
COMPRESSION = "zstd(3)"


class _Gone(OSError):
    """Nobody waits for the file any more."""


def installed() -> bool:
    """Whether the library is there."""
    return find_spec("arro3") is not None and find_spec("arro3.io") is not None


def require() -> None:
    """Raises MissingExtra unless the library is there."""
    if not installed():
        raise MissingExtra("Parquet needs the extra parquet, which is not installed")


def encoder(layout: Layout) -> Callable[[list[Row]], "RecordBatch"]:
    """What makes a page's rows a batch of columns."""
    from arro3.core import Array, DataType, RecordBatch  # noqa: PLC0415 - only where it was asked for

    schema = _schema(layout)
    types: list[tuple[DataType, ColumnKind]] = [(_type(kind), kind) for kind in layout.columns.values()]

    def column(values: "tuple[Any, ...]", type_: "DataType", kind: ColumnKind) -> "Array":
        if kind in {"integer", "flag", "text"}:
            return Array(values, type_)
        return Array(values, DataType.utf8()).cast(type_)  # texts of decimals and times, taken exactly

    def encode(rows: list[Row]) -> "RecordBatch":
        columns = list(zip(*rows, strict=True)) or [()] * len(types)
        arrays = [column(values, type_, kind) for values, (type_, kind) in zip(columns, types, strict=True)]
        return RecordBatch.from_arrays(arrays, schema=schema)

    return encode


def _schema(layout: Layout) -> "Schema":
    from arro3.core import Field, Schema  # noqa: PLC0415

    return Schema([Field(name, _type(kind)) for name, kind in layout.columns.items()])


def _type(kind: ColumnKind) -> "DataType":
    from arro3.core import DataType  # noqa: PLC0415

    match kind:
        case "text":
            return DataType.utf8()
        case "integer":
            return DataType.int64()
        case "flag":
            return DataType.bool()
        case "decimal":
            return DataType.decimal128(DIGITS, SCALE)
        case "time":
            return DataType.timestamp("us", tz="UTC")


class _Sink:
    """The file that the library writes to: bytes in large parts, handed over as they are taken."""

    def __init__(self, give: Callable[[bytes], None]) -> None:
        self.give = give
        self.held = bytearray()

    def write(self, data: bytes) -> int:
        self.held += data
        if len(self.held) >= CHUNK_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self.held:
            self.give(bytes(self.held))
            self.held.clear()

    def seek(self, offset: int, whence: int = 0) -> int:
        """A stream only goes on; the library asks for this method and does not use it."""
        raise OSError(f"no way to {offset} from {whence}")


class _Crossing:
    """Between the writing thread and the event loop."""

    def __init__(self, pages: AsyncGenerator[ExportPage, None]) -> None:
        self.pages = pages
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue(CHUNKS_AHEAD_MAX)
        self.loop = asyncio.get_running_loop()
        self.gone = False
        self.failure: BaseException | None = None

    def batches(self, layout: Layout) -> "Generator[RecordBatch, None, None]":
        """In the thread: pages as they are read, as columns; made here, so that no reader's memory grows by them.

        What goes wrong is kept, for the library tells its text alone.
        """
        encode = encoder(layout)
        try:
            while (page := self._across(self._next)) is not None:
                if page.rows:
                    yield encode(page.content)
        except Exception as error:
            self.failure = error
            raise

    async def _next(self) -> ExportPage | None:
        return await anext(self.pages, None)

    def give(self, data: bytes) -> None:
        """In the thread: waits until there is room."""
        self._across(lambda: self.chunks.put(data))

    def _across(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - what is asked for
        if self.gone:
            raise _Gone
        return asyncio.run_coroutine_threadsafe(ask(), self.loop).result()

    def write(self, layout: Layout) -> None:
        """In the thread: the whole file."""
        from arro3.core import RecordBatchReader  # noqa: PLC0415
        from arro3.io import write_parquet  # noqa: PLC0415

        sink: Any = _Sink(self.give)
        reader = RecordBatchReader.from_batches(_schema(layout), self.batches(layout))
        try:
            write_parquet(reader, sink, compression=COMPRESSION, max_row_group_size=ROW_GROUP_ROWS)
            sink.flush()
        finally:
            self._across(lambda: self.chunks.put(None))


async def written(layout: Layout, pages: AsyncGenerator[ExportPage, None]) -> AsyncGenerator[bytes, None]:
    """The file of pages whose content is their rows, part by part; raises what reading raised."""
    crossing = _Crossing(pages)
    writer = asyncio.ensure_future(asyncio.to_thread(crossing.write, layout))
    try:
        while (chunk := await crossing.chunks.get()) is not None:
            yield chunk
        if crossing.failure is not None:
            raise crossing.failure
        await writer
    finally:
        crossing.gone = True
        while not writer.done():  # it waits for room, or for a page
            while not crossing.chunks.empty():
                crossing.chunks.get_nowait()
            await asyncio.sleep(DRAIN_S)
        writer.exception()  # told above, or nobody's any more
        await pages.aclose()
