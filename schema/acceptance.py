"""Accepting a decoded call: its normal form, its bounds, and when two contents are the same."""

from typing import Any

import msgspec
from msgspec import Struct

from schema.errors import FieldError, InconsistentUsage, InvalidInput, OutOfRange
from schema.model_call import ModelCall, ModelCallEnd, ModelCallStart, Usage
from schema.times import CANONICAL_LENGTH, DAY_US, format_time, parse_time

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
    if isinstance(call, ModelCall | ModelCallEnd) and call.usage is not None:
        _accept_usage(call.usage)
    if call.metadata is not None:
        _check_free_data("$.metadata", call.metadata)


_NAMES = ("provider", "model", "user_id", "account", "credential_id", "request_id", "trace_id")


def _check_printable(call: ModelCall | ModelCallStart | ModelCallEnd) -> None:
    together = (
        f"{call.provider}{call.model}{call.user_id}{call.account}{call.credential_id}{call.request_id}{call.trace_id}"
    )
    if together.isprintable():
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
    if usage.seconds != "0":
        usage.seconds = _short_decimal(usage.seconds or "0")
    if usage.native is not None:
        _check_free_data("$.usage.native", usage.native)


def _apply_usage_defaults(usage: Usage) -> None:
    usage.input_tokens = usage.input_tokens or 0
    usage.output_tokens = usage.output_tokens or 0
    usage.cache_read_tokens = usage.cache_read_tokens or 0
    usage.cache_write_tokens = usage.cache_write_tokens or 0
    usage.reasoning_tokens = usage.reasoning_tokens or 0
    usage.images = usage.images or 0
    usage.estimated = usage.estimated or False


def _short_decimal(text: str) -> str:
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    whole = whole.lstrip("0") or "0"
    return f"{whole}.{fraction}" if fraction else whole


def _check_free_data(path: str, data: dict[str, Any]) -> None:
    if _depth(data, METADATA_DEPTH_MAX) > METADATA_DEPTH_MAX:
        message = f"Expected at most {METADATA_DEPTH_MAX} levels"
        raise OutOfRange(errors=(FieldError(path, message),))
    size = len(_canonical(data))
    if size > METADATA_BYTES_MAX:
        message = f"Expected at most {METADATA_BYTES_MAX} bytes, got {size}"
        raise OutOfRange(errors=(FieldError(path, message),))


def _depth(value: Any, limit: int) -> int:  # noqa: ANN401 - free data is of any type
    if isinstance(value, dict):
        children: Any = value.values()
    elif isinstance(value, list):
        children = value
    else:
        return 0
    if limit == 0:
        return 1
    return 1 + max((_depth(child, limit - 1) for child in children), default=0)
