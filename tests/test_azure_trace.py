"""Reading the Azure traces: exact values, stable ids, and errors that name the line."""

import tracemalloc
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from ops.azure_trace import LINE_BYTES_MAX, TraceError, count_rows, read_calls
from schema.model_call import ModelCall

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
ROW = "2023-11-16 10:20:30.1234567,4321,12\r\n"


def written(tmp_path: Path, text: str, *, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def calls_of(path: Path, *, app: str = "ide") -> list[dict[str, object]]:
    return list(read_calls(path, app=app, provider="azure", model="gpt-4"))


def real(name: str) -> Path:
    path = DATA / f"azure-llm-inference-2023-{name}.csv"
    if not path.exists():
        pytest.skip(f"The Azure traces are not part of the project; {path} is missing")
    return path


def error_of(path: Path) -> TraceError:
    with pytest.raises(TraceError) as caught:
        calls_of(path)
    return caught.value


def test_a_row_becomes_a_call(tmp_path: Path) -> None:
    """A row carries its time and tokens into a successful chat completion of the app, provider and model."""
    path = written(tmp_path, HEADER + ROW)
    [call] = calls_of(path)
    assert call.pop("id") == "azure-9b480c8b7c48-0000001"
    assert call == {
        "app": "ide",
        "provider": "azure",
        "model": "gpt-4",
        "type": "chat_completion",
        "status": "success",
        "started_at": "2023-11-16T10:20:30.123456Z",
        "usage": {"input_tokens": 4321, "output_tokens": 12},
    }


@pytest.mark.parametrize(
    ("stamp", "started_at"),
    [
        ("2023-11-16 23:59:59.9999999", "2023-11-16T23:59:59.999999Z"),
        ("2023-11-16 18:17:03.0000009", "2023-11-16T18:17:03.000000Z"),
        ("2023-11-16 18:17:03.5", "2023-11-16T18:17:03.500000Z"),
        ("2023-11-16 18:17:03", "2023-11-16T18:17:03.000000Z"),
        ("2024-05-10 00:00:00.009930+00:00", "2024-05-10T00:00:00.009930Z"),
    ],
)
def test_times_are_cut_to_the_microsecond(tmp_path: Path, stamp: str, started_at: str) -> None:
    """Digits beyond the microsecond are cut, never rounded; missing ones are zeros; a written UTC is UTC."""
    [call] = calls_of(written(tmp_path, f"{HEADER}{stamp},1,2"))
    assert call["started_at"] == started_at


def test_ids_follow_from_the_file_and_the_row(tmp_path: Path) -> None:
    """A second reading under any name or app gives the same ids; other content gives none of them."""
    path = written(tmp_path, HEADER + ROW * 3)
    first = [call["id"] for call in calls_of(path)]
    copy = written(tmp_path, HEADER + ROW * 3, name="copy.csv")
    grown = written(tmp_path, HEADER + ROW * 4, name="grown.csv")
    assert [str(id_)[-8:] for id_ in first] == ["-0000001", "-0000002", "-0000003"]
    assert [call["id"] for call in calls_of(copy, app="other")] == first
    assert not {call["id"] for call in calls_of(grown)} & set(first)


@pytest.mark.parametrize(
    "text",
    [
        "\N{BYTE ORDER MARK}" + HEADER + ROW * 2,
        (HEADER + ROW * 2).replace("\r\n", "\n"),
        (HEADER + ROW * 2).removesuffix("\r\n"),
        HEADER + ROW + "\r\n" + ROW + "\r\n\r\n",
    ],
    ids=["byte order mark", "line feeds", "no last line end", "blank lines"],
)
def test_harmless_differences_are_read_over(tmp_path: Path, text: str) -> None:
    """A byte order mark, other line ends and blank lines change neither the rows nor their count."""
    path = written(tmp_path, text)
    assert [str(call["id"])[-7:] for call in calls_of(path)] == ["0000001", "0000002"]
    assert count_rows(path) == 2


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("2023-11-16 10:20:30.1234567", "missing column ContextTokens"),
        ("2023-11-16 10:20:30.1234567,4321", "missing column GeneratedTokens"),
        ("2023-11-16 10:20:30.1234567,1,2,3", "expected 3 columns, found 4"),
        ("2023-11-16 10:20:30.1234567,4321.0,1", "ContextTokens is not a whole number of tokens: '4321.0'"),
        ("2023-11-16 10:20:30.1234567,-1,1", "ContextTokens is not a whole number of tokens: '-1'"),
        ("2023-11-16 10:20:30.1234567,1_000,1", "ContextTokens is not a whole number of tokens: '1_000'"),
        ("2023-11-16 10:20:30.1234567,٣,1", "ContextTokens is not a whole number of tokens: '٣'"),
        ("2023-11-16 10:20:30.1234567,1,", "GeneratedTokens is not a whole number of tokens: ''"),
        ("2023-02-29 18:17:03,1,2", "TIMESTAMP is not a UTC time: '2023-02-29 18:17:03'"),
        ("2023-11-16,1,2", "TIMESTAMP is not a UTC time: '2023-11-16'"),
        ("2023-11-16 18:17:03+02:00,1,2", "TIMESTAMP is not a UTC time: '2023-11-16 18:17:03+02:00'"),
        ("x" * 100 + ",1,2", "TIMESTAMP is not a UTC time: '" + "x" * 60 + "'"),
        ("1" * (LINE_BYTES_MAX - 2), "missing column ContextTokens"),
        ("1" * (LINE_BYTES_MAX - 1), f"longer than {LINE_BYTES_MAX} bytes"),
    ],
    ids=lambda value: value[:60],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    """The error names the line in the file, the header being line 1, and what is wrong with it."""
    error = error_of(written(tmp_path, f"{HEADER}{ROW}\r\n{row}\r\n{ROW}"))
    assert (error.line, error.problem) == (4, problem)
    assert str(error) == f"line 4: {problem}"


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    """A file of another kind is refused with the line where it stops being text."""
    path = tmp_path / "trace.csv"
    path.write_bytes(HEADER.encode() + b"\xff\xfe\x00,1,2\r\n")
    assert str(error_of(path)) == "line 2: not UTF-8 text"


@pytest.mark.parametrize(
    "text",
    ["", ROW, "TIMESTAMP,ContextTokens\r\n" + ROW, "ContextTokens,TIMESTAMP,GeneratedTokens\r\n" + ROW],
    ids=["empty", "no header", "column missing", "columns swapped"],
)
def test_another_header_is_refused(tmp_path: Path, text: str) -> None:
    """Without exactly the trace's header nothing is read or counted, so no column is mistaken for another."""
    path = written(tmp_path, text)
    error = error_of(path)
    assert error.line == 1
    assert error.problem.startswith("expected the header TIMESTAMP,ContextTokens,GeneratedTokens, found ")
    with pytest.raises(TraceError, match="line 1: "):
        count_rows(path)


def test_a_header_alone_is_an_empty_trace(tmp_path: Path) -> None:
    """A trace without rows gives no calls and no error."""
    path = written(tmp_path, HEADER)
    assert calls_of(path) == []
    assert count_rows(path) == 0


def test_rows_before_the_fault_are_yielded(tmp_path: Path) -> None:
    """The file is read as it goes: good rows come out before a bad one is met."""
    calls = read_calls(written(tmp_path, HEADER + ROW * 2 + "bad"), app="a", provider="p", model="m")
    assert len(list(islice(calls, 2))) == 2
    with pytest.raises(TraceError, match="line 4"):
        next(calls)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Reading a file of over a megabyte takes less than half a megabyte."""
    path = written(tmp_path, HEADER + ROW * 40_000)
    assert path.stat().st_size > 1_000_000
    tracemalloc.start()
    try:
        rows = count_rows(path)
        calls = sum(1 for _ in islice(read_calls(path, app="a", provider="p", model="m"), 10_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (rows, calls) == (40_000, 10_000)
    assert peak < 500_000


def test_memory_does_not_grow_with_a_line(tmp_path: Path) -> None:
    """A file of a megabyte without a line end is refused without being read whole."""
    path = written(tmp_path, HEADER + "1" * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(TraceError, match="line 2: longer than"):
            count_rows(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize(
    ("name", "calls", "input_tokens", "output_tokens"),
    [("code", 8_819, 18_059_974, 245_896), ("conv", 19_366, 22_361_870, 4_088_665)],
)
def test_real_totals(name: str, calls: int, input_tokens: int, output_tokens: int) -> None:
    """The published traces read to their known totals, as calls that the ledger's schema accepts."""
    path = real(name)
    read = msgspec.convert(calls_of(path), list[ModelCall])
    usages = [call.usage for call in read if call.usage is not None]
    assert len(read) == len({call.id for call in read}) == count_rows(path) == calls
    assert sum(usage.input_tokens or 0 for usage in usages) == input_tokens
    assert sum(usage.output_tokens or 0 for usage in usages) == output_tokens
    assert [call.started_at for call in read] == sorted(call.started_at for call in read)
