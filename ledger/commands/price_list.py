"""Following a price list: a provider's new and changed prices become rates, and nothing that is set is touched.

Two syncs at once are safe: each compares under the write lock, so what the first one did the second one finds done.
"""

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from typing import get_args

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ledger.commands.model_rate import rate_event
from ledger.decision import Decision, WorkingSet, handles
from ledger.price_compare import below_cost, charged, drift
from ledger.rate_acceptance import accept_rate
from ledger.rate_segment import Segment, Segments, at, segments, to_post
from projections import model_rate, price_list_sync
from projections.model_rate import RateRow
from schema import provider
from schema.entry import NewEvent
from schema.errors import InvalidInput
from schema.model_rate import ModelRateSet, PriceBook
from schema.price_list import (
    NOUN,
    SOURCE,
    OfferedModel,
    PriceDiff,
    PriceListSynced,
    ProviderSync,
    SyncAction,
    SyncPriceList,
    SyncReport,
)
from schema.provider import ProviderCreated, ProviderType
from schema.times import format_time

ID_HEX_DIGITS = 32
# Providers that the list calls otherwise.
_TYPES: dict[str, ProviderType] = {
    **{name: name for name in get_args(ProviderType)},
    "x-ai": "xai",
    "aws": "bedrock",
}


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[SyncPriceList]) -> None:
    ids = [command.provider.id for command in commands]
    ws.load(db, [(provider.SOURCE, id_) for id_ in ids])
    for id_ in ids:
        ws.read["model_rates", id_] = model_rate.rates_of(db, id_)
        ws.read["price_list_syncs", id_] = price_list_sync.find(db, id_)


@handles(SyncPriceList, _load, alone=True)
def sync(ws: WorkingSet, command: SyncPriceList) -> Decision:
    """A provider's prices are brought up to date; where nothing has changed there is no event."""
    offered = command.provider
    rows: list[RateRow] = ws.read["model_rates", offered.id]
    last: ProviderSync | None = ws.read["price_list_syncs", offered.id]
    found = _Sync(command, rows)
    created = ws.find(provider.SOURCE, offered.id) is None
    events = [_created(command)] if created else []
    events += [rate_event(rate, command.received_at_us, command.actor) for rate in found.rates]
    if events:
        events.append(_synced(command, found.report, last))
    return Decision(events, report=found.report)


class _Sync:
    """What a sync finds and does, model by model."""

    def __init__(self, command: SyncPriceList, rows: Sequence[RateRow]) -> None:
        self.command = command
        self.rates: list[ModelRateSet] = []
        self.report = SyncReport(items=[])
        current: defaultdict[str, list[RateRow]] = defaultdict(list)
        for row in rows:
            if row.rate.type is None:
                current[row.rate.model].append(row)
        for model in command.provider.models:
            self._model(model, current.get(model.model, []))
        listed = {model.model for model in command.provider.models}
        for model, old in sorted(current.items()):
            if model not in listed and old[-1].rate.listed is not None:
                self.report.missing += 1
                self._tell(model, "missing", before=self._in_force(segments(row.rate for row in old)))

    def _model(self, model: OfferedModel, rows: Sequence[RateRow]) -> None:
        current = segments(row.rate for row in rows)
        newest = rows[-1].rate if rows else None
        if model.problem is not None or not model.rates:
            self._tell(model.model, "problem", before=self._in_force(current), reason=model.problem or "no_price")
        elif newest is not None and newest.mode == "manual":
            self.report.skipped += 1
            self._compare_manual(model, current)
        else:
            try:
                offered = segments(_wanted(rate, newest) for rate in model.rates)
            except InvalidInput as error:
                self._tell(model.model, "problem", before=self._in_force(current), reason=error.errors[0].message)
                return
            self._follow(model.model, current, offered, rows)

    def _follow(self, model: str, current: Segments, offered: Segments, rows: Sequence[RateRow]) -> None:
        posted = to_post(current, offered, self.command.received_at_us)
        for from_us, segment in posted:
            self.rates += self._dated(segment, from_us, rows[-1].position if rows else 0)
        after = self._in_force(offered)
        if not posted:
            self.report.skipped += 1
        elif rows:
            self.report.updated += 1
            self._tell(model, "updated", before=self._in_force(current), after=after)
        else:
            self.report.created += 1
            self._tell(model, "created", after=after)
        if after is not None and after.vendor is not None and (reason := below_cost(after, after.vendor)):
            self._tell(model, "below_cost", before=after, after=after.vendor, reason=reason)

    def _compare_manual(self, model: OfferedModel, current: Segments) -> None:
        mine, theirs = self._in_force(current), self._in_force(segments(model.rates))
        if mine is None or theirs is None:
            return
        if reason := drift(mine, theirs):
            self._tell(model.model, "drift", before=mine, after=theirs, reason=reason)
        if reason := below_cost(mine, theirs):
            self._tell(model.model, "below_cost", before=mine, after=theirs, reason=reason)

    def _dated(self, segment: Segment, from_us: int, newest: int) -> list[ModelRateSet]:
        """The rates of a segment, ready to be set: each with an id that follows from what it is and what was before."""
        date, listed = format_time(from_us), self.command.listed
        found: list[ModelRateSet] = []
        for rate in segment.rates:
            made_of = (rate.provider, rate.model, date, rate.daily_window, listed.hash, newest)
            digest = sha256(msgspec.json.encode(made_of)).hexdigest()
            id_ = f"list-{digest[:ID_HEX_DIGITS]}"
            found.append(replace(rate, id=id_, effective_from=date, listed=listed))
        return found

    def _in_force(self, found: Segments) -> ModelRateSet | None:
        segment = at(found, self.command.received_at_us)
        return None if segment is None else segment.whole_day

    def _tell(
        self,
        model: str,
        action: SyncAction,
        before: PriceBook | None = None,
        after: PriceBook | None = None,
        reason: str | None = None,
    ) -> None:
        self.report.items.append(
            PriceDiff(
                provider=self.command.provider.id,
                model=model,
                action=action,
                before=None if before is None else charged(before),
                after=None if after is None else charged(after),
                reason=reason,
            )
        )


def _wanted(rate: ModelRateSet, newest: ModelRateSet | None) -> ModelRateSet:
    """An offered rate in the mode that the model has: as it is, or marked up as before. Raises InvalidInput."""
    if newest is None or newest.mode != "upstream":
        return rate
    found = replace(rate, mode="upstream", markup=newest.markup, **dict.fromkeys(PriceBook.__struct_fields__))
    accept_rate(found)
    return found


def _created(command: SyncPriceList) -> NewEvent:
    offered = command.provider
    data = ProviderCreated(
        id=offered.id, name=offered.name, type=_TYPES.get(offered.id, "custom"), website=offered.website,
        price_list_id=offered.id, fallback_providers=offered.fallback_providers,
    )  # fmt: skip
    return _event(provider.SOURCE, offered.id, f"{provider.NOUN}/{offered.id}", command, data)


def _count(report: SyncReport, action: SyncAction) -> int:
    return sum(item.action == action for item in report.items)


def _synced(command: SyncPriceList, report: SyncReport, last: ProviderSync | None) -> NewEvent:
    id_ = command.provider.id
    data = PriceListSynced(
        provider=id_, listed=command.listed, created=report.created, updated=report.updated, skipped=report.skipped,
        missing=report.missing, drifted=_count(report, "drift"), below_cost=_count(report, "below_cost"),
    )  # fmt: skip
    event_id = id_ if last is None else f"{id_}/sync/{last.position}"
    return _event(SOURCE, event_id, f"{NOUN}/{id_}", command, data)


def _event(source: str, id_: str, subject: str, command: SyncPriceList, data: Struct) -> NewEvent:
    time_us = command.received_at_us
    return NewEvent(source, id_, subject, format_time(time_us), time_us, command.actor, data)
