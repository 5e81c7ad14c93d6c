"""The stored entry: a CloudEvents object, one line, the same bytes on any machine, at most 65,535 of them."""

import json
from pathlib import Path

import msgspec
import pytest

from schema.entry import ENTRY_BYTES_MAX, Recorded, encode
from schema.errors import EntryTooLarge
from schema.event import decode
from schema.model_call import ModelCallRecorded
from tests.histories import APP, NOON_US, call, entries, open_book, random_history, reading, write_in_groups

GOLDEN = (
    '{"specversion":"1.0","id":"c-1","source":"/apps/support-bot/model_call","type":"model_call.recorded.v2",'
    '"subject":"model_call/support-bot/c-1","time":"2026-11-22T12:00:00.000000Z","sequence":"7",'
    '"recordedtime":"2026-11-22T12:00:01.000000Z","actor":"key:test","data":{"id":"c-1","app":"support-bot",'
    '"provider":"openai","model":"gpt-4o","type":"chat_completion","status":"success",'
    '"started_at":"2026-11-22T12:00:00.000000Z","usage":{"input_tokens":3,"output_tokens":0},'
    '"metadata":{"b":1,"a":"é\\n"}}}'
)


def recorded(data: ModelCallRecorded, position: int = 7) -> Recorded:
    return Recorded(
        position, NOON_US + 1_000_000, f"/apps/{APP}/model_call", "c-1", "model_call.recorded.v2",
        f"model_call/{APP}/c-1", NOON_US, "key:test", data,
    )  # fmt: skip


def encoded(event: Recorded) -> bytes:
    return encode(event, "2026-11-22T12:00:00.000000Z", "2026-11-22T12:00:01.000000Z")


def test_the_bytes_of_an_entry_are_these() -> None:
    """Field order, defaults left out, totals always written, free data in the order given, UTF-8, no spaces."""
    content = call(usage={"input_tokens": 3}, metadata={"b": 1, "a": "é\n"}).call
    assert encoded(recorded(content)) == GOLDEN.encode()


def test_an_entry_decodes_to_the_event_it_was_made_from() -> None:
    """Nothing is lost between an event and its bytes, and encoding it again gives the same bytes."""
    event = recorded(call(usage={"input_tokens": 3}, metadata={"b": 1, "a": "é\n"}).call)
    again = decode(7, event.type, encoded(event))
    assert again == event
    assert encoded(again) == encoded(event)


def sized(size: int, filler: str = "x") -> Recorded:
    """An event whose entry has that many bytes."""
    event = recorded(call(metadata={"fill": ""}).call)
    assert isinstance(event.data, ModelCallRecorded)
    missing = size - len(encoded(event))
    width = len(filler.encode())
    event.data.metadata = {"fill": filler * (missing // width) + "x" * (missing % width)}
    return event


@pytest.mark.parametrize("filler", ["x", "é", "😀"])
def test_an_entry_has_at_most_65535_bytes(filler: str) -> None:
    """The limit is counted in bytes: 65,535 are taken, 65,536 refused."""
    assert ENTRY_BYTES_MAX == 65_535
    assert len(encoded(sized(65_535, filler))) == 65_535
    with pytest.raises(EntryTooLarge, match="65536"):
        encoded(sized(65_536, filler))


def test_every_entry_is_a_cloud_event(tmp_path: Path) -> None:
    """Each line has CloudEvents' required attributes as non-empty text, no null, and only lower-case names."""
    with open_book(tmp_path) as book:
        write_in_groups(book, random_history(9, 100), [20])
        with reading(book.path) as db:
            lines = entries(db)
    for line in lines:
        event = json.loads(line)
        assert event["specversion"] == "1.0"
        for name in ("id", "source", "type", "subject", "time", "sequence", "recordedtime", "actor"):
            assert isinstance(event[name], str)
            assert event[name]
        assert all(name.isalnum() and name.islower() for name in event)
        assert isinstance(event["data"], dict)
        assert "\n" not in line


def test_an_entry_is_one_line_whatever_is_posted() -> None:
    """Line breaks in free data are escaped, so that a line of NDJSON is an entry."""
    event = recorded(call(metadata={"text": "a\nb\r\u2028"}).call)
    assert b"\n" not in encoded(event)
    assert b"\r" not in encoded(event)
    assert msgspec.json.decode(encoded(event))["data"]["metadata"] == {"text": "a\nb\r\u2028"}
