"""Reads of rates: pages, histories, what holds now, what a re-pricing does or did."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import apsw
from msgspec import Meta, Struct, structs

from ledger import journal
from ledger.rate_book import compiled
from ledger.repricing import plan, prices_by_place
from projections.engine import require
from projections.model_rate import (
    ANY_POSITION,
    RateFilter,
    RateRow,
    Selection,
    dated_rates,
    find,
    key_of,
    list_rates,
    rates_in_force,
)
from schema.errors import NotFound
from schema.model_rate import REPRICED_RATES_MAX, SOURCE, ModelRate, ModelRateSet, ModelRateView, PriceBook, Repricing
from schema.model_rate_view import DatedRate, ModelPrice, RepricingResult
from schema.money import percent_moved
from schema.paging import Page, decode_cursor, encode_cursor
from schema.times import format_time, parse_time

TABLE = "model_rates"
DATED_RATES_MAX = 10_000

Position = Annotated[int, Meta(ge=0, le=ANY_POSITION)]
Key = tuple[str, str, str]
# What would tell what the vendor asks.
_OF_VENDOR = ("vendor", "markup", "listed", "metadata")


class Place(Struct, frozen=True):
    """Where a page begins, and how long it is."""

    cursor: str | None
    limit: int


def _require(db: apsw.Connection) -> None:
    require(db, journal.head_position(db), TABLE)


def rate(db: apsw.Connection, id_: str, *, with_vendor: bool) -> ModelRateView:
    """One rate. Raises NotFound, Rebuilding."""
    _require(db)
    row = find(db, id_)
    if row is None:
        raise NotFound(f"there is no rate {id_}")
    return ModelRateView(**_viewed(row, with_vendor=with_vendor))


def _viewed(row: RateRow, *, with_vendor: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {name: getattr(row.rate, name) for name in ModelRate.__struct_fields__}
    if not with_vendor:
        fields |= dict.fromkeys(_OF_VENDOR)
    marked = {"deprecated": row.deprecated, "deprecated_reason": row.deprecated_reason}
    return {**fields, **marked, "position": row.position, "recorded_at": format_time(row.recorded_at_us)}


def rates(
    db: apsw.Connection, wanted: RateFilter, current_at_us: int | None, at: Place, *, with_vendor: bool
) -> Page[ModelRateView]:
    """A page of rates, newest first; with an instant, only those that hold then. Raises Rebuilding, InvalidInput."""
    _require(db)
    below = decode_cursor(at.cursor, tuple[Position])[0] if at.cursor else ANY_POSITION
    if current_at_us is None:
        rows = list_rates(db, wanted, below, at.limit + 1)
    else:
        held = [row for row in holding(db, current_at_us, wanted.provider) if wanted.takes(row)]
        rows = sorted((row for row in held if row.position < below), key=lambda row: row.position, reverse=True)
    page = rows[: at.limit]
    return Page(
        items=[ModelRateView(**_viewed(row, with_vendor=with_vendor)) for row in page],
        next_cursor=encode_cursor(page[-1].position) if len(rows) > at.limit else None,
    )


def holding(db: apsw.Connection, at_us: int, provider: str | None) -> list[RateRow]:
    """The one rate that holds at an instant for each provider, model and type, in the order of their names."""
    rows = rates_in_force(db, at_us, Selection(provider=provider))
    return list({key_of(row.rate): row for row in rows if compiled(row).holds(at_us)}.values())


def history(db: apsw.Connection, wanted: RateFilter, at: Place) -> Page[DatedRate]:
    """The rates of a model in the order in which they take effect. Raises Rebuilding, InvalidInput."""
    _require(db)
    after = decode_cursor(at.cursor, tuple[int, Position]) if at.cursor else None
    rows = dated_rates(db, wanted, DATED_RATES_MAX)
    moves = _moves(rows)
    following = [row for row in rows if after is None or (row.effective_from_us, row.position) > after]
    page = following[: at.limit]
    actors = [event.actor for event in journal.at(db, [row.position for row in page])]
    items = [
        DatedRate(**_viewed(row, with_vendor=True), actor=actor, moved=moves[row.position])
        for row, actor in zip(page, actors, strict=True)
    ]
    more = len(following) > at.limit
    return Page(items=items, next_cursor=encode_cursor(page[-1].effective_from_us, page[-1].position) if more else None)


def _moves(rows: Iterable[RateRow]) -> dict[int, dict[str, str | None]]:
    found: dict[int, dict[str, str | None]] = {}
    latest: dict[object, dict[str, int]] = {}
    for row in rows:
        window = row.rate.daily_window
        key = (row.rate.type, window and (window.start, window.end))
        before, now = latest.get(key, {}), prices_by_place(row.rate)
        both = dict.fromkeys((*before, *now))
        found[row.position] = {
            place: percent_moved(before[place], now[place]) if place in before and place in now else None
            for place in both
        }
        latest[key] = now
    return found


def prices(db: apsw.Connection, provider: str | None, model: str | None, now_us: int, at: Place) -> Page[ModelPrice]:
    """What models are charged at an instant, in the order of their names. Raises Rebuilding, InvalidInput."""
    _require(db)
    after = decode_cursor(at.cursor, Key) if at.cursor else None
    held = [row for row in holding(db, now_us, provider) if model is None or row.rate.model == model]
    following = [row for row in held if after is None or _name_key(row) > after]
    page = following[: at.limit]
    more = len(following) > at.limit
    return Page(
        items=[_price(row) for row in page], next_cursor=encode_cursor(*_name_key(page[-1])) if more else None
    )  # fmt: skip


def _name_key(row: RateRow) -> Key:
    return row.rate.provider, row.rate.model, row.rate.type or ""


def _price(row: RateRow) -> ModelPrice:
    names = (*PriceBook.__struct_fields__, "provider", "model", "type", "billing", "daily_window", "display_name")
    fields: dict[str, Any] = {name: getattr(row.rate, name) for name in names}
    return ModelPrice(**fields, effective_from=format_time(row.effective_from_us), deprecated=row.deprecated)


def repricing_preview(db: apsw.Connection, request: Repricing, now_us: int) -> RepricingResult:
    """What a re-pricing would do now. Raises Rebuilding, InvalidInput."""
    _require(db)
    at_us = parse_time(request.effective_from) if request.effective_from else now_us
    among = Selection(provider=request.provider, models=request.models, limit=REPRICED_RATES_MAX + 1)
    return _result(rates_in_force(db, at_us, among), request, format_time(at_us))


def repricing_done(db: apsw.Connection, id_: str) -> RepricingResult | None:
    """What a re-pricing did, from what it and the rates before it left in the journal; None where it made no rate."""
    _require(db)
    keys = [(SOURCE, f"{id_}:{n}") for n in range(1, REPRICED_RATES_MAX + 1)]
    made = {event.position: event.data for event in journal.lookup(db, keys)}
    sources = [rate.repriced for rate in made.values() if isinstance(rate, ModelRateSet) and rate.repriced]
    request = next((source.request for source in sources if source.request is not None), None)
    if request is None:
        return None
    first = made[min(made)]
    assert isinstance(first, ModelRateSet)
    effective_from = first.effective_from or ""
    among = Selection(provider=request.provider, models=request.models, below=min(made))
    # What was not left alone was not deprecated then, whatever was marked since.
    taken = {source.before for source in sources}
    rows = [
        structs.replace(row, deprecated=row.position not in taken)
        for row in rates_in_force(db, parse_time(effective_from), among)
    ]
    return _result(rows, request, effective_from)


def _result(rows: Sequence[RateRow], request: Repricing, effective_from: str) -> RepricingResult:
    planned = plan(rows, request, effective_from)
    return RepricingResult(
        id=request.id, effective_from=effective_from, items=planned.items, skipped=planned.skipped
    )  # fmt: skip
