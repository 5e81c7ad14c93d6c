"""Accepting a decoded call: its normal form, its bounds, and when two contents are the same."""

from collections.abc import Iterable
from typing import Any, cast

import msgspec
from msgspec import Struct

from schema.charge import accept_amount
from schema.entry import ENTRY_BYTES_MAX
from schema.errors import EntryTooLarge, FieldError, InconsistentUsage, InvalidInput, OutOfRange
from schema.model_call import CallHold, ModelCall, ModelCallEnd, ModelCallStart, Usage
from schema.times import CANONICAL_LENGTH, DAY_US, format_time, parse_time
from schema.unit import UNITS

METADATA_BYTES_MAX = 16_384
METADATA_DEPTH_MAX = 16
AHEAD_MAX_US = DAY_US

_sorted_encoder = msgspec.json.Encoder(order="sorted")
_canonical = _sorted_encoder.encode


def differing_fields(first: Struct, second: Struct) -> tuple[str, ...]:
    """The fields in which two accepted contents differ; empty means they are the same content.

    Compared as canonical JSON, key-sorted, because Python holds 1, 1.0 and True to be equal.
    """
    if _canonical(first) == _canonical(second):
        return ()
    return tuple(
        name
        for name in first.__struct_fields__
        if _canonical(getattr(first, name)) != _canonical(getattr(second, name, None))
    )


def differing_values(first: dict[str, Any], second: dict[str, Any]) -> tuple[str, ...]:
    """The names under which two plain objects differ, compared as canonical JSON."""
    return tuple(n for n in dict.fromkeys([*first, *second]) if _canonical(first.get(n)) != _canonical(second.get(n)))


def accept(call: ModelCall | ModelCallStart, received_at_us: int) -> int:
    """Bring a decoded call to its normal form in place and return its start in microseconds.

    Defaults are applied, times written with six digits in UTC, decimals shortened. Raises InvalidInput, OutOfRange or
    InconsistentUsage naming the path.
    """
    started_at_us = accept_time(call.started_at, received_at_us)
    if len(call.started_at) != CANONICAL_LENGTH or call.started_at[-1] != "Z" or call.started_at[10] != "T":
        call.started_at = format_time(started_at_us)
    if call.attempt is None:
        call.attempt = 1
    accept_details(call)
    return started_at_us


def accept_time(text: str, received_at_us: int) -> int:
    """Microseconds of a start, from 1970 to at most 24 hours ahead of the ledger's clock."""
    try:
        started_at_us = parse_time(text)
    except ValueError as error:
        raise InvalidInput(errors=(FieldError("$.started_at", str(error)),)) from None
    if not 0 <= started_at_us <= received_at_us + AHEAD_MAX_US:
        message = "Expected a time from 1970 to at most 24 hours ahead of the ledger's clock"
        raise OutOfRange(errors=(FieldError("$.started_at", message),))
    return started_at_us


def accept_details(call: ModelCall | ModelCallStart | ModelCallEnd) -> None:
    """Check and normalise what every form of a call shares: names, usage, free data."""
    _check_printable(call)
    if isinstance(call, _WITH_USAGE) and call.usage is not None:
        _accept_usage(call.usage)
    if call.metadata is not None:
        check_free_data("$.metadata", call.metadata)


_WITH_USAGE = (ModelCall, ModelCallEnd)  # a tuple, because `|` would be made anew for every call
_NAMES = ("provider", "model", "user_id", "account", "credential_id", "request_id", "trace_id")


def _check_printable(call: ModelCall | ModelCallStart | ModelCallEnd) -> None:
    # One join and one look for all of them: nearly always all are printable.
    names = (call.provider, call.model, call.user_id, call.account, call.credential_id, call.request_id, call.trace_id)
    if "".join(filter(None, names)).isprintable():
        return
    bad = tuple(n for n in _NAMES if not str(getattr(call, n)).isprintable())
    raise InvalidInput(errors=tuple(FieldError(f"$.{n}", "Expected printable characters only") for n in bad))


def _accept_usage(usage: Usage) -> None:
    _apply_usage_defaults(usage)
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if cached and cached > (usage.input_tokens or 0):
        message = "cache_read_tokens + cache_write_tokens exceed input_tokens, which includes them"
        raise InconsistentUsage(errors=(FieldError("$.usage.input_tokens", message),))
    if usage.reasoning_tokens and usage.reasoning_tokens > (usage.output_tokens or 0):
        message = "reasoning_tokens exceed output_tokens, which includes them"
        raise InconsistentUsage(errors=(FieldError("$.usage.output_tokens", message),))
    if usage.seconds is not _NO_SECONDS:
        usage.seconds = _short_decimal(usage.seconds or _NO_SECONDS)
    if usage.units is not None:
        _check_units(usage.units)
    if usage.native is not None:
        check_free_data("$.usage.native", usage.native)


def accept_call_hold(hold: CallHold) -> None:
    """Bring what a start asks to hold to its normal form; raises InvalidInput, OutOfRange naming the path."""
    if (hold.amount is None) == (hold.estimate is None):
        raise InvalidInput(errors=(FieldError("$.hold", "Expected either an amount or an estimate"),))
    if hold.amount is not None:
        hold.amount = accept_amount(hold.amount, "$.hold.amount")
    if hold.estimate is not None:
        try:
            _accept_usage(hold.estimate)
        except InvalidInput as error:  # its paths are those of a call
            errors = tuple(FieldError(f"$.hold.estimate{each.path[7:]}", each.message) for each in error.errors)
            raise type(error)(errors=errors) from None


def _check_units(units: dict[str, int]) -> None:
    for unit in units:
        if unit in _OWN_UNITS:
            message = f"{unit} has a field of its own in usage"
        elif unit not in UNITS:
            message = "Expected a unit of the price list, as input_audio_tokens"
        else:
            continue
        raise InvalidInput(errors=(FieldError(f"$.usage.units.{unit[:UNIT_CHARS_MAX]}", message),))


UNIT_CHARS_MAX = 100
_OWN_UNITS = frozenset(
    {
        "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens", "images",
        "seconds", "requests",
    }
)  # fmt: skip


def _apply_usage_defaults(usage: Usage) -> None:
    """An explicit null means the default, as an absent field does."""
    if usage.input_tokens is None:
        usage.input_tokens = 0
    if usage.output_tokens is None:
        usage.output_tokens = 0
    if usage.cache_read_tokens is None:
        usage.cache_read_tokens = 0
    if usage.cache_write_tokens is None:
        usage.cache_write_tokens = 0
    if usage.reasoning_tokens is None:
        usage.reasoning_tokens = 0
    if usage.images is None:
        usage.images = 0
    if usage.estimated is None:
        usage.estimated = False


# The default's very object: an encoder leaves out a default by identity, not by equality.
_NO_SECONDS = Usage().seconds or ""


def _short_decimal(text: str) -> str:
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    whole = whole.lstrip("0") or _NO_SECONDS
    return f"{whole}.{fraction}" if fraction else whole


def accept_instant(text: str, path: str) -> str:
    """An instant in its normal form: six digits, UTC. Raises InvalidInput."""
    try:
        return format_time(parse_time(text))
    except ValueError as error:
        raise InvalidInput(errors=(FieldError(path, str(error)),)) from None


def check_free_data(path: str, data: dict[str, Any]) -> None:
    """Check the bounds of free data: 16 KiB, 16 levels. Raises OutOfRange or EntryTooLarge."""
    text = _canonical(data)
    # No more brackets than levels allowed means no more levels, and costs less than a walk.
    brackets = text.count(b"{") + text.count(b"[")
    if brackets > METADATA_DEPTH_MAX and _depth(data, METADATA_DEPTH_MAX) > METADATA_DEPTH_MAX:
        message = f"Expected at most {METADATA_DEPTH_MAX} levels"
        raise OutOfRange(errors=(FieldError(path, message),))
    if len(text) > ENTRY_BYTES_MAX:
        raise EntryTooLarge(f"{path} alone has {len(text)} bytes, an entry at most {ENTRY_BYTES_MAX}")
    if len(text) > METADATA_BYTES_MAX:
        message = f"Expected at most {METADATA_BYTES_MAX} bytes, got {len(text)}"
        raise OutOfRange(errors=(FieldError(path, message),))


def _depth(value: Any, limit: int) -> int:  # noqa: ANN401 - free data is of any type
    if not isinstance(value, dict | list):
        return 0
    if limit == 0:
        return 1
    children = cast("Iterable[Any]", value.values() if isinstance(value, dict) else value)
    return 1 + max((_depth(child, limit - 1) for child in children), default=0)
