"""Calls as a file: what its columns are, and the manifest that says what must be in it."""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from schema.errors import LedgerError
from schema.model_call_view import ModelCallView, UsageView

Cell = str | int | bool | None
# What a column holds, for forms that have types. A decimal has at most ten places, a time is RFC 3339.
ColumnKind = Literal["text", "integer", "flag", "decimal", "time"]
Row = list[Cell]


class MissingExtra(LedgerError):
    """This form of a file needs a library that is not installed here."""

    code = "missing_extra"
    hint = "Install what ops/requirements-parquet.txt pins (`make parquet`), or ask for CSV."


class Layout(Struct, frozen=True):
    """A kind of file: its name, its columns, and a call as a row of it, or None where it is none."""

    name: str
    columns: Mapping[str, ColumnKind]
    row: Callable[[ModelCallView], Row | None]


_INTEGERS = frozenset({
    "duration_ms", "ttfb_ms", "provider_ttfb_ms", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_tokens", "reasoning_tokens", "images", "attempt", "rate_position", "revision", "position",
})  # fmt: skip
_KINDS: dict[str, ColumnKind] = {
    **dict.fromkeys(_INTEGERS, "integer"), "estimated": "flag", "seconds": "decimal", "cost": "decimal",
    "vendor_cost": "decimal", "started_at": "time", "recorded_at": "time",
}  # fmt: skip
COLUMNS = (
    "id", "app", "provider", "model", "type", "status", "started_at", "duration_ms", "ttfb_ms", "provider_ttfb_ms",
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "images", "seconds",
    "estimated", "user_id", "account", "credential_id", "request_id", "trace_id", "attempt", "error_code",
    "error_message", "cost", "vendor_cost", "cost_status", "cost_reason", "rate_position", "revision", "recorded_at",
    "position",
)  # fmt: skip
_USAGE = frozenset(UsageView.__struct_fields__)
SUMMED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "images")


class ExportTotals(Struct, kw_only=True):
    """Sums over the rows. Costs are credits, of the rows that have one; `vendor_cost` is null for role app."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    cost: str
    vendor_cost: str | None


class ExportManifest(Struct, kw_only=True, rename={"from_": "from"}):
    """What the file of the same query and `position` holds, byte for byte: its digest, size, rows and sums.

    `from` and `to` are null where the range is open. A call that was corrected between the two requests makes them
    differ; then both are asked for again.
    """

    from_: str | None
    to: str | None
    position: int
    rows: int
    bytes: int
    sha256: str
    totals: ExportTotals


def cells(call: ModelCallView) -> Row:
    """A call in the order of the columns."""
    usage = call.usage or UsageView()
    error = call.error
    named: dict[str, Cell] = {"error_code": error and error.code, "error_message": error and error.message}
    return [named[name] if name in named else getattr(usage if name in _USAGE else call, name) for name in COLUMNS]


CALLS = Layout("model-calls", {name: _KINDS.get(name, "text") for name in COLUMNS}, cells)
