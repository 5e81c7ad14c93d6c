"""What calls cost: set rates, mark them, re-price many, read them, their history, and the public prices."""

from typing import Any, TypeVar

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from api import body as bodies
from api import query
from api.auth import ADMINS, OPERATORS, READERS, principal_of
from api.openapi import documented
from api.query import PageParams
from api.respond import JSON, json
from api.services import services_of
from ledger import rate_reads
from ledger.decision import Command
from ledger.rate_acceptance import accept_rate
from ledger.rate_reads import Place
from ledger.repricing import accept_repricing, bare
from ledger.writer import Appended
from projections.model_rate import RateFilter
from schema.errors import FieldError, InvalidInput
from schema.ids import CLIENT_ID_PATTERN, ClientId, Name
from schema.model_call import CallType
from schema.model_rate import (
    DeprecateModelRate,
    Mode,
    ModelRate,
    ModelRateDeprecated,
    ModelRateSet,
    ModelRateView,
    RepriceModelRates,
    RepricingPost,
    SetModelRate,
)
from schema.model_rate_view import DatedRate, MarkReceipt, ModelPrice, RateReceipt, RepricingResult
from schema.paging import Page, bounded_limit
from schema.times import format_time

T = TypeVar("T", bound=Struct)
AnyRequest = Request[Any, Any, Any]


class RateListParams(PageParams, kw_only=True, forbid_unknown_fields=True):
    """Rates, newest first. `current`: whether it is the one that holds now for its provider, model and type."""

    provider: Name | None = None
    model: Name | None = None
    type: CallType | None = None
    mode: Mode | None = None
    current: bool = False
    deprecated: bool | None = None


class RateHistoryParams(PageParams, kw_only=True, forbid_unknown_fields=True):
    """Which model's rates; `provider` and `model` are required."""

    provider: Name | None = None
    model: Name | None = None
    type: CallType | None = None


class PriceParams(PageParams, kw_only=True, forbid_unknown_fields=True):
    """Which models' prices."""

    provider: Name | None = None
    model: Name | None = None


class RateMark(Struct, kw_only=True, forbid_unknown_fields=True):
    """Whether a rate is no longer offered."""

    deprecated: bool = True
    reason: Name | None = None


_rates = msgspec.json.Decoder(ModelRate)
_marks = msgspec.json.Decoder(RateMark)
_repricings = msgspec.json.Decoder(RepricingPost)


async def _decoded(request: AnyRequest, decoder: "msgspec.json.Decoder[T]") -> T:
    bodies.content_type(request, JSON)
    return bodies.decode(await bodies.read(request, services_of(request.app).settings.body_bytes_max), decoder)


async def _executed(request: AnyRequest, command: Command) -> Appended:
    length = int(request.headers.get("content-length", "0"))
    return await services_of(request.app).ledger.execute_one(command, length)


def _place(params: PageParams) -> Place:
    return Place(params.cursor, bounded_limit(params.limit))


def _sees_vendor(request: AnyRequest) -> bool:
    return principal_of(request).role in OPERATORS


@post(
    "/v1/model-rates",
    **documented(ADMINS, "Set a rate", body=ModelRate, responses={200: RateReceipt, 201: RateReceipt}),
)
async def post_model_rate(request: AnyRequest) -> ASGIApp:
    """A rate is never changed: another price is another rate, from its `effective_from` on or from now."""
    posted = await _decoded(request, _rates)
    rate = ModelRateSet(**{name: getattr(posted, name) for name in ModelRate.__struct_fields__})
    accept_rate(rate)
    now_us = services_of(request.app).clock()
    outcome = await _executed(
        request, SetModelRate(actor=principal_of(request).actor, received_at_us=now_us, rate=rate)
    )
    recorded = outcome.recorded
    assert recorded is not None
    assert isinstance(recorded.data, ModelRateSet)
    receipt = RateReceipt(
        id=rate.id, position=recorded.position, recorded_at=format_time(recorded.recorded_at_us),
        effective_from=recorded.data.effective_from or "", duplicate=outcome.duplicate,
    )  # fmt: skip
    return json(receipt, 200 if outcome.duplicate else 201)


@post(
    "/v1/model-rates/{rate_id:str}/deprecate",
    **documented(ADMINS, "Mark a rate", body=RateMark, responses={200: MarkReceipt, 201: MarkReceipt}),
)
async def deprecate_model_rate(request: AnyRequest, rate_id: FromPath[str]) -> ASGIApp:
    """As no longer offered, or offered again. Calls are priced as before."""
    mark = await _decoded(request, _marks)
    data = ModelRateDeprecated(id=_rate_id(rate_id), deprecated=mark.deprecated, reason=mark.reason)
    if data.reason is not None and not data.reason.isprintable():
        raise InvalidInput(errors=(FieldError("$.reason", "Expected printable characters only"),))
    now_us = services_of(request.app).clock()
    outcome = await _executed(
        request, DeprecateModelRate(actor=principal_of(request).actor, received_at_us=now_us, data=data)
    )
    recorded = outcome.recorded
    assert recorded is not None
    receipt = MarkReceipt(
        id=rate_id, position=recorded.position, recorded_at=format_time(recorded.recorded_at_us),
        deprecated=data.deprecated, duplicate=outcome.duplicate,
    )  # fmt: skip
    return json(receipt, 200 if outcome.duplicate else 201)


def _rate_id(text: str) -> str:
    try:
        return msgspec.convert(text, ClientId)
    except msgspec.ValidationError:
        raise InvalidInput(errors=(FieldError("$.id", f"Expected an id that matches {CLIENT_ID_PATTERN}"),)) from None


@post(
    "/v1/model-rates/reprice",
    **documented(
        ADMINS, "Re-price many models", body=RepricingPost, responses={200: RepricingResult, 201: RepricingResult}
    ),
)
async def reprice_model_rates(request: AnyRequest) -> ASGIApp:
    """A new manual rate for each rate in force with vendor prices: vendor × (1 + margin / 100) / credit_price.

    Rounded half up to ten decimals. All of them or none. A dry run answers with what would be done, and does nothing;
    what made no rate leaves no trace, and its id stays free.
    """
    posted = await _decoded(request, _repricings)
    accept_repricing(posted)
    wanted, services = bare(posted), services_of(request.app)
    now_us, readers = services.clock(), services.ledger.readers
    if posted.dry_run:
        preview = await readers.run(rate_reads.repricing_preview, wanted, now_us)
        return json(msgspec.structs.replace(preview, dry_run=True))
    command = RepriceModelRates(actor=principal_of(request).actor, received_at_us=now_us, request=wanted)
    outcome = await _executed(request, command)
    if outcome.recorded is None:
        return json(await readers.run(rate_reads.repricing_preview, wanted, now_us))
    done = await readers.run(rate_reads.repricing_done, wanted.id)
    assert done is not None
    return json(msgspec.structs.replace(done, duplicate=outcome.duplicate), 200 if outcome.duplicate else 201)


@get(
    "/v1/model-rates",
    **documented(READERS, "List rates, newest first", query=RateListParams, responses={200: Page[ModelRateView]}),
)
async def list_model_rates(request: AnyRequest) -> ASGIApp:
    """What the vendor asks is shown to admin, auditor and dashboard; to others it is null."""
    params, services = query.parse(request, RateListParams), services_of(request.app)
    wanted = RateFilter(
        provider=params.provider, model=params.model, type=params.type, mode=params.mode, deprecated=params.deprecated
    )
    at_us = services.clock() if params.current else None
    readers, with_vendor = services.ledger.readers, _sees_vendor(request)
    return json(await readers.run(rate_reads.rates, wanted, at_us, _place(params), with_vendor=with_vendor))


@get(
    "/v1/model-rates/history",
    **documented(OPERATORS, "Read a model's rates", query=RateHistoryParams, responses={200: Page[DatedRate]}),
)
async def get_model_rate_history(request: AnyRequest) -> ASGIApp:
    """In the order in which they take effect: who set each and when, and by how many percent each price moved."""
    params = query.parse(request, RateHistoryParams)
    missing = [name for name in ("provider", "model") if getattr(params, name) is None]
    if missing:
        raise InvalidInput(errors=tuple(FieldError(f"$.{name}", "Expected this parameter") for name in missing))
    wanted = RateFilter(provider=params.provider, model=params.model, type=params.type)
    readers = services_of(request.app).ledger.readers
    return json(await readers.run(rate_reads.history, wanted, _place(params)))


@get("/v1/model-rates/{rate_id:str}", **documented(READERS, "Read one rate", responses={200: ModelRateView}))
async def get_model_rate(request: AnyRequest, rate_id: FromPath[str]) -> ASGIApp:
    """The rate as it was set, and how it is marked now."""
    query.parse(request, query.NoParams)
    readers, with_vendor = services_of(request.app).ledger.readers, _sees_vendor(request)
    return json(await readers.run(rate_reads.rate, _rate_id(rate_id), with_vendor=with_vendor))


@get(
    "/v1/model-prices",
    **documented(READERS, "Read the prices that hold now", query=PriceParams, responses={200: Page[ModelPrice]}),
)
async def list_model_prices(request: AnyRequest) -> ASGIApp:
    """What calls that start now are charged, in credits for one unit, by provider, model and type."""
    params, services = query.parse(request, PriceParams), services_of(request.app)
    now_us, readers = services.clock(), services.ledger.readers
    return json(await readers.run(rate_reads.prices, params.provider, params.model, now_us, _place(params)))


ROUTES = (
    post_model_rate,
    deprecate_model_rate,
    reprice_model_rates,
    list_model_rates,
    get_model_rate_history,
    get_model_rate,
    list_model_prices,
)
