"""Query strings as typed Structs.

An unknown or repeated parameter is refused: a mistyped filter must not select everything.
"""

from collections import Counter
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from msgspec import Meta, Struct, field

from api.as_of import AsOf, position_of
from api.auth import own_app, principal_of
from api.body import translate
from schema.correction import Basis
from schema.errors import FieldError, InvalidInput
from schema.focus import NO_CURRENCY, Currency
from schema.ids import AppId, Name
from schema.model_call import QUANTITY_MAX, CallType, Status
from schema.model_call_query import DIMENSIONS, CallFilter, Dimension, Granularity, Ranking, StatQuery
from schema.times import TimeText, parse_time

Q = TypeVar("Q", bound=Struct)

PARAMETERS_MAX = 50
DISTINCT_MAX = 3

Limit = Annotated[int, Meta(ge=1, description="Rows a page; over 1,000 means 1,000.")]
Cursor = Annotated[str, Meta(max_length=1_000)]
Zone = Annotated[str, Meta(max_length=64, description="An IANA zone.", examples=["UTC"])]
Top = Annotated[int, Meta(ge=1, le=1_000, description="So many groups apart; the rest is added up as one.")]
Position = Annotated[int, Meta(ge=0, le=2**62, description="A position in the journal.")]


class _CallParams(Struct, kw_only=True, forbid_unknown_fields=True):
    from_: TimeText | None = field(name="from", default=None)
    to: TimeText | None = None
    app: AppId | None = None
    user_id: Name | None = None
    provider: Name | None = None
    model: Name | None = None
    type: CallType | None = None
    status: Status | None = None
    credential_id: Name | None = None
    request_id: Name | None = None
    trace_id: Name | None = None
    min_duration_ms: Annotated[int, Meta(ge=0, le=QUANTITY_MAX)] | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="Text in ids and errors.")] | None = None
    basis: Annotated[
        Basis, Meta(description="As corrected, without voided calls; or as billed: each as it was first finished.")
    ] = "corrected"
    as_of: AsOf | None = None


class CallListParams(_CallParams, kw_only=True, forbid_unknown_fields=True):
    """Calls, newest first."""

    limit: Limit | None = None
    cursor: Cursor | None = None


class StatParams(_CallParams, kw_only=True, forbid_unknown_fields=True):
    """Statistics. `group_by` is a comma-separated list."""

    granularity: Granularity = "total"
    timezone: Zone = "UTC"
    group_by: Annotated[str, Meta(max_length=200, examples=["model,app"])] = ""
    fill: bool = False
    compare: (
        Annotated[Literal["previous"], Meta(description="Adds the totals of the range of equal length just before.")]
        | None
    ) = None
    top: Top | None = None
    top_by: Annotated[Ranking, Meta(description="What makes a group one of the top.")] = "calls"
    percentiles: Annotated[bool, Meta(description="Durations and times to first byte by percentile.")] = True
    distinct: Annotated[
        str,
        Meta(max_length=200, description="Up to three of what groups may be by: how many there are of each."),
        Meta(examples=["user_id"]),
    ] = ""


class ErrorParams(_CallParams, kw_only=True, forbid_unknown_fields=True):
    """Failed calls."""

    granularity: Granularity = "total"
    timezone: Zone = "UTC"
    top: Top = 10


class ExportParams(_CallParams, kw_only=True, forbid_unknown_fields=True):
    """Calls as a file."""


class FocusParams(ExportParams, kw_only=True, forbid_unknown_fields=True):
    """The same as FOCUS; `currency` is Credits, a virtual one, unless given."""

    currency: Currency = NO_CURRENCY


class LiveParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which app's calls, and after which position; without one, from now on."""

    app: AppId | None = None
    after: Position | None = None


class AppParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which app's thing."""

    app: AppId | None = None


class CallParams(AppParams, kw_only=True, forbid_unknown_fields=True):
    """Which app's call, and as it was known when."""

    as_of: AsOf | None = None


class EventParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Entries after a position."""

    after: Position = 0
    limit: Limit | None = None
    type: Annotated[str, Meta(max_length=100)] | None = None
    subject: Annotated[str, Meta(max_length=300)] | None = None


class StreamParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Where to start following; `Last-Event-ID` wins."""

    after: Position = 0


class PageParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """A page."""

    limit: Limit | None = None
    cursor: Cursor | None = None


class ReasonParams(Struct, kw_only=True, forbid_unknown_fields=True):
    """Why something is done."""

    reason: Name | None = None


class NoParams(Struct, forbid_unknown_fields=True):
    """No parameters."""


def parse(request: Request[Any, Any, Any], kind: type[Q]) -> Q:
    """The query string as `kind`; raises InvalidInput or OutOfRange naming the parameter."""
    if not request.scope["query_string"]:
        return kind()
    try:
        # Blank values are kept: `?model=` must not select everything.
        text = request.scope["query_string"].decode("ascii")
        items = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise InvalidInput("the query string is not percent-encoded UTF-8, or has too many parameters") from None
    repeated = [name for name, count in Counter(name for name, _ in items).items() if count > 1]
    if repeated:
        raise InvalidInput(errors=tuple(FieldError(f"$.{name}", "Expected this parameter once") for name in repeated))
    try:
        found = msgspec.convert(dict(items), kind, strict=False)
    except ValueError as error:
        raise translate(error) from None
    _refuse_null(found, dict(items))
    return found


def _refuse_null(found: Struct, given: dict[str, str]) -> None:
    """A lax conversion takes the word null for an absent value, and an absent filter selects everything."""
    fields = msgspec.structs.fields(found)
    nulls = [f.encode_name for f in fields if f.encode_name in given and getattr(found, f.name) is None]
    if nulls:
        raise InvalidInput(errors=tuple(FieldError(f"$.{name}", "Expected a value, got null") for name in nulls))


def reason(request: Request[Any, Any, Any]) -> str | None:
    """The reason given, which becomes part of an event; raises InvalidInput where it is not printable."""
    found = parse(request, ReasonParams).reason
    if found is not None and not found.isprintable():
        raise InvalidInput(errors=(FieldError("$.reason", "Expected printable characters only"),))
    return found


async def call_filter(request: Request[Any, Any, Any], params: _CallParams) -> CallFilter:
    """The filter that a caller may use: an app key sees its own calls only."""
    fields = {name: getattr(params, name) for name in CallFilter.__struct_fields__ if hasattr(params, name)}
    fields["app"] = own_app(principal_of(request), params.app)
    fields["as_of"] = await position_of(request, params.as_of)
    return CallFilter(from_us=_time("from", params.from_), to_us=_time("to", params.to), **fields)


async def stat_query(request: Request[Any, Any, Any]) -> StatQuery:
    """The statistics asked for."""
    params = parse(request, StatParams)
    return StatQuery(
        filter=await call_filter(request, params),
        granularity=params.granularity,
        timezone=params.timezone,
        group_by=_dimensions("group_by", params.group_by),
        fill=params.fill,
        compare=params.compare is not None,
        top=params.top,
        top_by=params.top_by,
        percentiles=params.percentiles,
        distinct=_dimensions("distinct", params.distinct, DISTINCT_MAX),
    )


def _dimensions(parameter: str, text: str, at_most: int = len(DIMENSIONS)) -> tuple[Dimension, ...]:
    names = [name.strip() for name in text.split(",")] if text else []
    known: tuple[Dimension, ...] = tuple(d for d in DIMENSIONS if d in names)
    if len(known) != len(names) or len(known) > at_most:
        message = f"Expected a comma-separated list of at most {at_most} of {', '.join(DIMENSIONS)}"
        raise InvalidInput(errors=(FieldError(f"$.{parameter}", message),))
    return known


def _time(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise InvalidInput(errors=(FieldError(f"$.{name}", str(error)),)) from None
