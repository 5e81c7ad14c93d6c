"""Calls out of the Azure LLM inference traces, for import.

A trace is a CSV of one service: `TIMESTAMP` (UTC, 100 ns), `ContextTokens`, `GeneratedTokens`. It holds no
latencies, users or errors, so the calls have none either. Source: Azure Public Dataset (CC-BY 4.0);
P. Patel et al., "Splitwise: Efficient generative LLM inference using phase splitting", ISCA 2024.
"""

import hashlib
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from schema.times import format_time, parse_time

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
LINE_BYTES_MAX = 4_096
SHOWN_CHARS_MAX = 60
TOKENS = re.compile(r"[0-9]{1,12}")


class TraceError(ValueError):
    """A line of a trace is not what the format says."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        """`line 7: missing column GeneratedTokens`."""
        return f"line {self.line}: {self.problem}"


def read_calls(path: Path, *, app: str, provider: str, model: str) -> Iterator[dict[str, object]]:
    """Each row as a call to post, in the file's order, in bounded memory; the same file gives the same ids.

    Raises TraceError at the first malformed row; the calls before it have been yielded by then.
    """
    with path.open("rb") as file:
        # Ids need the hash, so it comes first; the same open file, so that both readings see one content.
        prefix = f"azure-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
        file.seek(0)
        for row, (line, text) in enumerate(_rows(file), start=1):
            started_at, input_tokens, output_tokens = _cells(line, text)
            yield {
                "id": f"{prefix}-{row:07d}",
                "app": app,
                "provider": provider,
                "model": model,
                "type": "chat_completion",
                "status": "success",
                "started_at": started_at,
                "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
            }


def count_rows(path: Path) -> int:
    """How many calls `read_calls` will yield where every row is well formed.

    Raises TraceError where the header is not a trace's.
    """
    with path.open("rb") as file:
        return sum(1 for _ in _rows(file))


def _rows(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """The rows below the header with their line numbers; blank lines are no rows."""
    lines = _lines(file)
    header = next(lines, (1, ""))[1]
    if header != ",".join(COLUMNS):
        raise TraceError(1, f"expected the header {','.join(COLUMNS)}, found {_shown(header)}")
    return ((line, text) for line, text in lines if text)


def _lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Line numbers and texts without line ends; a byte order mark, as spreadsheets write it, is dropped."""
    number = 0
    # A bounded readline, because a file without line ends would otherwise be read into memory whole.
    while raw := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(raw) > LINE_BYTES_MAX:
            raise TraceError(number, f"longer than {LINE_BYTES_MAX} bytes")
        try:
            text = raw.removeprefix(BOM_UTF8 if number == 1 else b"").decode("utf-8")
        except UnicodeDecodeError as error:
            raise TraceError(number, "not UTF-8 text") from error
        yield number, text.strip()


def _cells(line: int, text: str) -> tuple[str, int, int]:
    cells = text.split(",")
    if len(cells) < len(COLUMNS):
        raise TraceError(line, f"missing column {COLUMNS[len(cells)]}")
    if len(cells) > len(COLUMNS):
        raise TraceError(line, f"expected {len(COLUMNS)} columns, found {len(cells)}")
    return _instant(line, cells[0]), _tokens(line, COLUMNS[1], cells[1]), _tokens(line, COLUMNS[2], cells[2])


def _instant(line: int, cell: str) -> str:
    """The trace's time, cut to the microsecond; later releases write the zone, which is always UTC."""
    try:
        return format_time(parse_time(cell.removesuffix("+00:00") + "Z"))
    except ValueError as error:
        raise TraceError(line, f"{COLUMNS[0]} is not a UTC time: {_shown(cell)}") from error


def _tokens(line: int, column: str, cell: str) -> int:
    # int() alone would take "1_000", " 7" and digits of other scripts.
    if TOKENS.fullmatch(cell) is None:
        raise TraceError(line, f"{column} is not a whole number of tokens: {_shown(cell)}")
    return int(cell)


def _shown(cell: str) -> str:
    return repr(cell[:SHOWN_CHARS_MAX])
