"""Many rates at once, by a margin: all of them or none, once for an id."""

from collections.abc import Sequence

import apsw

from ledger.commands.model_rate import rate_event
from ledger.decision import Decision, WorkingSet, handles
from ledger.repricing import plan, same_request
from projections.model_rate import Selection, rates_in_force
from schema.entry import Recorded
from schema.errors import FieldError, IdConflict
from schema.model_rate import REPRICED_RATES_MAX, SOURCE, ModelRateSet, RepriceModelRates, Repricing
from schema.times import format_time, parse_time


def _load(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RepriceModelRates]) -> None:
    for command in commands:
        request = command.request
        ws.load(db, [(SOURCE, f"{request.id}:{n}") for n in range(1, REPRICED_RATES_MAX + 1)])
        at_us = parse_time(request.effective_from) if request.effective_from else command.received_at_us
        among = Selection(provider=request.provider, models=request.models, limit=REPRICED_RATES_MAX + 1)
        ws.rate_rows = rates_in_force(db, at_us, among)


@handles(RepriceModelRates, _load, alone=True)
def reprice(ws: WorkingSet, command: RepriceModelRates) -> Decision:
    """Every rate of the selection in force becomes a new one; the same again changes nothing."""
    request = command.request
    first = ws.find(SOURCE, f"{request.id}:1")
    if first is not None:
        return _same_or_conflict(ws, first, request)
    effective_from = request.effective_from or format_time(command.received_at_us)
    made = plan(ws.rate_rows, request, effective_from).rates
    for rate in made:
        if ws.find(SOURCE, rate.id) is not None:
            raise IdConflict(f"there is another rate {rate.id}")
    return Decision([rate_event(rate, command.received_at_us, command.actor) for rate in made])


def _same_or_conflict(ws: WorkingSet, first: Recorded, request: Repricing) -> Decision:
    assert isinstance(first.data, ModelRateSet)
    made = first.data.repriced
    if made is None or made.request is None:
        raise IdConflict(f"there is another rate {first.id}")
    if different := same_request(made.request, request, first.data.effective_from):
        errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
        raise IdConflict(f"this id was used before with other {', '.join(different)}", errors=errors)
    last = first
    for n in range(2, REPRICED_RATES_MAX + 1):
        following = ws.find(SOURCE, f"{request.id}:{n}")
        if following is None:
            break
        last = following
    return Decision([], last)
