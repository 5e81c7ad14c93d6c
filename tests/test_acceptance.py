"""Acceptance: the normal form of a call, its bounds at the limit and beyond, and when two contents are the same."""

from typing import Any

import msgspec
import pytest

from schema.acceptance import METADATA_BYTES_MAX, METADATA_DEPTH_MAX, accept, differing_fields
from schema.errors import FieldError, InconsistentUsage, InvalidInput, OutOfRange
from schema.model_call import ModelCall
from schema.times import DAY_US, format_time
from tests.histories import NOON_US

MOST = 10**12
REQUIRED = {
    "id": "c-1", "provider": "openai", "model": "gpt-4o", "type": "chat_completion", "status": "success",
    "started_at": "2026-11-22T12:00:00.000000Z",
}  # fmt: skip


def posted(**fields: object) -> ModelCall:
    """A call as it is decoded from the wire."""
    return msgspec.json.decode(msgspec.json.encode({**REQUIRED, **fields}), type=ModelCall)


def accepted(**fields: object) -> ModelCall:
    call = posted(**fields)
    accept(call, NOON_US)
    return call


def nested(depth: int) -> dict[str, Any]:
    return {"d": nested(depth - 1)} if depth > 1 else {}


def levels(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)  # type: ignore[arg-type]
    if isinstance(value, list):
        return 1 + max(map(levels, value), default=0)  # type: ignore[arg-type]
    return 0


# Bounds


@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "images"])
def test_quantities_are_bounded(name: str) -> None:
    """A quantity is 0 to 10^12; one more, one less than nothing, a fraction and a text are refused."""
    assert getattr(accepted(usage={name: MOST}).usage, name) == MOST
    assert getattr(accepted(usage={name: 0}).usage, name) == 0
    for wrong in (MOST + 1, -1, 2**200, 1.5, "1", True):
        with pytest.raises(msgspec.ValidationError):
            posted(usage={name: wrong})


@pytest.mark.parametrize("name", ["duration_ms", "ttfb_ms", "provider_ttfb_ms"])
def test_durations_are_bounded(name: str) -> None:
    """A duration is 0 to 10^12 milliseconds."""
    assert getattr(accepted(**{name: MOST}), name) == MOST
    for wrong in (MOST + 1, -1):
        with pytest.raises(msgspec.ValidationError):
            posted(**{name: wrong})


@pytest.mark.parametrize(
    ("name", "longest", "too_long"),
    [
        ("id", "a" * 128, "a" * 129),
        ("app", "a" * 64, "a" * 65),
        ("provider", "é" * 200, "é" * 201),
        ("model", "é" * 200, "é" * 201),
        ("user_id", "é" * 200, "é" * 201),
        ("attempt", 1_000_000, 1_000_001),
        ("error", {"code": "c" * 200, "message": "é" * 1_000}, {"code": "c", "message": "é" * 1_001}),
        ("error", {"code": "c"}, {"code": "c" * 201}),
    ],
)
def test_lengths_are_bounded(name: str, longest: object, too_long: object) -> None:
    """Each text and number is taken at its limit and refused one beyond."""
    accepted(**{name: longest})
    with pytest.raises(msgspec.ValidationError):
        posted(**{name: too_long})


@pytest.mark.parametrize("id_", ["", "a b", "a/b", "é", "a\n", "a%20b"])
def test_an_id_is_of_its_alphabet(id_: str) -> None:
    """An id is letters, digits and . _ : ~ - only, so that it can stand in a path and in a subject."""
    accepted(id="AZaz09._:~-")
    with pytest.raises(msgspec.ValidationError):
        posted(id=id_)


@pytest.mark.parametrize("seconds", ["1000000", "1.0000001", "-1", "1e3", ".5", "1.", "", "\u0661", "1\n", 1])
def test_seconds_are_a_bounded_plain_decimal(seconds: object) -> None:
    """Seconds are text of at most six digits and six decimals."""
    accepted(usage={"seconds": "999999.999999"})
    with pytest.raises(msgspec.ValidationError):
        posted(usage={"seconds": seconds})


@pytest.mark.parametrize(
    "fields", [{"input_tokns": 1}, {"usage": {"input_tokns": 1}}, {"error": {"code": "c", "x": 1}}]
)
def test_unknown_fields_are_refused(fields: dict[str, Any]) -> None:
    """A mistyped count must not vanish."""
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        posted(**fields)


@pytest.mark.parametrize("name", ["provider", "model", "user_id", "account", "credential_id", "request_id", "trace_id"])
def test_names_are_printable(name: str) -> None:
    """Control characters in a name are refused, and the path names it."""
    accepted(**{name: "ünï 😀"})
    for wrong in ("a\nb", "a\x00", "\x1b[1m", "a\u202eb"):
        with pytest.raises(InvalidInput) as refused:
            accepted(**{name: wrong})
        assert [error.path for error in refused.value.errors] == [f"$.{name}"]


@pytest.mark.parametrize("field", ["metadata", "native"])
def test_free_data_is_bounded_in_size(field: str) -> None:
    """Free data is at most 16 KiB of canonical JSON, counted in bytes."""

    def fields(data: dict[str, Any]) -> dict[str, Any]:
        return {"metadata": data} if field == "metadata" else {"usage": {"native": data}}

    path = "$.metadata" if field == "metadata" else "$.usage.native"
    room = METADATA_BYTES_MAX - len('{"k":""}')
    accepted(**fields({"k": "x" * room}))
    accepted(**fields({"k": "é" * (room // 2)}))
    for wrong in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(OutOfRange) as refused:
            accepted(**fields({"k": wrong}))
        assert refused.value.errors[0].path == path


def test_free_data_is_bounded_in_depth() -> None:
    """Free data is at most 16 levels deep, objects and lists alike."""
    deepest = nested(METADATA_DEPTH_MAX)
    lists: dict[str, Any] = {"a": [[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}
    for data in (deepest, lists):
        assert levels(data) == METADATA_DEPTH_MAX
        accepted(metadata=data)
        with pytest.raises(OutOfRange, match=r"."):
            accepted(metadata={"more": data})
    with pytest.raises(OutOfRange):
        accepted(metadata=nested(200))


def test_free_data_keeps_numbers_of_any_size() -> None:
    """An integer beyond 64 bits in free data is kept as it is."""
    assert accepted(metadata={"n": 2**200}).metadata == {"n": 2**200}


# Times


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2026-11-22T12:00:00Z", "2026-11-22T12:00:00.000000Z"),
        ("2026-11-22T13:00:00.5+01:00", "2026-11-22T12:00:00.500000Z"),
        ("2026-11-22T11:59:59.9999999Z", "2026-11-22T11:59:59.999999Z"),
        ("2026-11-22 12:00:00.000000Z", "2026-11-22T12:00:00.000000Z"),
        ("2026-11-22t12:00:00.000000z", "2026-11-22T12:00:00.000000Z"),
        ("2026-11-22T12:00:00.1234567890Z", "2026-11-22T12:00:00.123456Z"),
        ("2026-11-22T12:00:00.1234+00:00", "2026-11-22T12:00:00.123400Z"),
    ],
)
def test_a_start_is_written_in_utc_and_cut(text: str, normal: str) -> None:
    """However a start is written, it is stored with six digits in UTC; finer digits are cut, never rounded."""
    call = posted(started_at=text)
    started_at_us = accept(call, NOON_US)
    assert (call.started_at, format_time(started_at_us)) == (normal, normal)


@pytest.mark.parametrize("text", ["2026-11-22T12:00:00", "2026-11-22", "yesterday", "2026-11-22T12:00:00.000000"])
def test_a_start_without_a_zone_is_refused(text: str) -> None:
    """A time that names no zone is no instant; the path names it."""
    with pytest.raises(InvalidInput) as refused:
        accepted(started_at=text)
    assert refused.value.errors[0].path == "$.started_at"


@pytest.mark.parametrize(
    ("started_us", "taken"), [(NOON_US + DAY_US, True), (NOON_US + DAY_US + 1, False), (0, True), (-1, False)]
)
def test_a_start_is_at_most_a_day_ahead(started_us: int, *, taken: bool) -> None:
    """A start is from 1970 to exactly 24 hours ahead of the ledger's clock."""
    if taken:
        assert accept(posted(started_at=format_time(started_us)), NOON_US) == started_us
        return
    with pytest.raises(OutOfRange) as refused:
        accepted(started_at=format_time(started_us))
    assert refused.value.errors[0].path == "$.started_at"


# Usage


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 10, "cache_read_tokens": 4, "cache_write_tokens": 6},
        {"output_tokens": 5, "reasoning_tokens": 5},
        {},
    ],
)
def test_parts_may_be_the_whole(usage: dict[str, int]) -> None:
    """Cached tokens may be all of the input, reasoning all of the output."""
    accepted(usage=usage)


@pytest.mark.parametrize(
    ("usage", "path"),
    [
        ({"input_tokens": 9, "cache_read_tokens": 4, "cache_write_tokens": 6}, "$.usage.input_tokens"),
        ({"cache_read_tokens": 1}, "$.usage.input_tokens"),
        ({"output_tokens": 4, "reasoning_tokens": 5}, "$.usage.output_tokens"),
        ({"reasoning_tokens": 1}, "$.usage.output_tokens"),
        ({"input_tokens": MOST, "cache_read_tokens": MOST, "cache_write_tokens": 1}, "$.usage.input_tokens"),
    ],
)
def test_parts_never_exceed_the_whole(usage: dict[str, int], path: str) -> None:
    """Usage whose parts exceed their total is inconsistent, and the path names the total."""
    with pytest.raises(InconsistentUsage) as refused:
        accepted(usage=usage)
    assert [error.path for error in refused.value.errors] == [path]


@pytest.mark.parametrize(
    ("text", "short"),
    [("0", "0"), ("0.0", "0"), ("007.50", "7.5"), ("12", "12"), ("0.000001", "0.000001"), ("00", "0")],
)
def test_seconds_are_shortened(text: str, short: str) -> None:
    """Equal seconds have one text."""
    usage = accepted(usage={"seconds": text}).usage
    assert usage is not None
    assert usage.seconds == short


# The same content

NULLS = dict.fromkeys(
    ("app", "duration_ms", "ttfb_ms", "usage", "user_id", "account", "credential_id", "request_id", "trace_id",
     "attempt", "provider_ttfb_ms", "error", "metadata")
)  # fmt: skip
USAGE_NULLS = dict.fromkeys(
    ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "images",
     "seconds", "estimated", "native")
)  # fmt: skip
USAGE_ZEROS = {**dict.fromkeys(list(USAGE_NULLS)[:6], 0), "seconds": "0.00", "estimated": False}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, NULLS),
        ({}, {"attempt": 1}),
        ({"usage": {}}, {"usage": USAGE_NULLS}),
        ({"usage": {}}, {"usage": USAGE_ZEROS}),
        ({"error": {"code": "c"}}, {"error": {"code": "c", "message": None}}),
        ({"started_at": "2026-11-22T12:00:00Z"}, {"started_at": "2026-11-22T13:00:00.0000009+01:00"}),
        ({"metadata": {"a": 1, "b": {"c": 2, "d": 3}}}, {"metadata": {"b": {"d": 3, "c": 2}, "a": 1}}),
        ({"usage": {"native": {"x": 1, "y": 2}}}, {"usage": {"native": {"y": 2, "x": 1}}}),
    ],
)
def test_these_contents_are_the_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Absent, null and default are one; so are notations of one instant, and orders of keys."""
    assert differing_fields(accepted(**first), accepted(**second)) == ()


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ({"metadata": {"n": 1}}, {"metadata": {"n": 1.0}}, ("metadata",)),
        ({"metadata": {"n": 1}}, {"metadata": {"n": True}}, ("metadata",)),
        ({"metadata": {"n": 0}}, {"metadata": {"n": False}}, ("metadata",)),
        ({"metadata": {"n": 0}}, {"metadata": {"n": None}}, ("metadata",)),
        ({"metadata": {"n": None}}, {"metadata": {}}, ("metadata",)),
        ({"metadata": {"n": [1, 2]}}, {"metadata": {"n": [2, 1]}}, ("metadata",)),
        ({"metadata": {"n": "1"}}, {"metadata": {"n": 1}}, ("metadata",)),
        ({"usage": {}}, {}, ("usage",)),
        ({"usage": {"input_tokens": 1}}, {"usage": {"input_tokens": 2}}, ("usage",)),
        ({"usage": {"native": {"n": 1}}}, {"usage": {"native": {"n": 1.0}}}, ("usage",)),
        ({"duration_ms": 0}, {}, ("duration_ms",)),
        ({"status": "failed", "model": "o"}, {}, ("model", "status")),
        ({"started_at": "2026-11-22T12:00:00.000001Z"}, {}, ("started_at",)),
    ],
)
def test_these_contents_differ(first: dict[str, Any], second: dict[str, Any], names: tuple[str, ...]) -> None:
    """1, 1.0, true and "1" are four contents; what was not measured is not zero; the fields are named."""
    assert differing_fields(accepted(**first), accepted(**second)) == names
    assert differing_fields(accepted(**second), accepted(**first)) == names


def test_acceptance_is_stable() -> None:
    """What was accepted is accepted again without a change."""
    call = accepted(started_at="2026-11-22T13:00:00+01:00", usage={"seconds": "01.50"}, attempt=None)
    before = msgspec.json.encode(call)
    accept(call, NOON_US)
    assert msgspec.json.encode(call) == before


def test_an_error_carries_its_place() -> None:
    """A refusal says in data where and what, so that the wire needs no prose."""
    with pytest.raises(InconsistentUsage) as refused:
        accepted(usage={"reasoning_tokens": 1})
    (error,) = refused.value.errors
    assert isinstance(error, FieldError)
    assert (refused.value.code, refused.value.retryable) == ("inconsistent_usage", False)
