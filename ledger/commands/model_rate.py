"""Rates: set once, never changed; marked as no longer offered, and offered again."""

from collections.abc import Sequence

import apsw
from msgspec import Struct

from ledger.decision import Decision, WorkingSet, handles
from schema.acceptance import differing_fields
from schema.entry import NewEvent
from schema.errors import FieldError, IdConflict, InvalidInput, NotFound
from schema.model_rate import NOUN, SOURCE, DeprecateModelRate, ModelRateDeprecated, ModelRateSet, SetModelRate
from schema.times import format_time

MARKS_MAX = 1_000


def _load_set(db: apsw.Connection, ws: WorkingSet, commands: Sequence[SetModelRate]) -> None:
    ws.load(db, [(SOURCE, command.rate.id) for command in commands])


@handles(SetModelRate, _load_set, alone=True)
def set_rate(ws: WorkingSet, command: SetModelRate) -> Decision:
    """A rate comes into being; without a date it holds from now on."""
    rate = command.rate
    first = ws.find(SOURCE, rate.id)
    if first is not None:
        assert isinstance(first.data, ModelRateSet)
        rate.effective_from = rate.effective_from or first.data.effective_from
        if different := differing_fields(first.data, rate):
            errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
            raise IdConflict(f"this id was used before with other {', '.join(different)}", errors=errors)
        return Decision([], first)
    rate.effective_from = rate.effective_from or format_time(command.received_at_us)
    return Decision([rate_event(rate, command.received_at_us, command.actor)])


def rate_event(rate: ModelRateSet, now_us: int, actor: str) -> NewEvent:
    """The event that sets a rate."""
    return _event(rate.id, rate.id, now_us, actor, rate)


def _load_marked(db: apsw.Connection, ws: WorkingSet, commands: Sequence[DeprecateModelRate]) -> None:
    ids = [command.data.id for command in commands]
    ws.load(db, [(SOURCE, id_) for id_ in ids] + [(SOURCE, f"{id_}/mark/{n}") for id_ in ids for n in range(MARKS_MAX)])


@handles(DeprecateModelRate, _load_marked, alone=True)
def deprecate(ws: WorkingSet, command: DeprecateModelRate) -> Decision:
    """A rate is marked; marking it the same again changes nothing."""
    data = command.data
    last = ws.find(SOURCE, data.id)
    if last is None:
        raise NotFound(f"there is no rate {data.id}")
    n = 0
    while (marked := ws.find(SOURCE, f"{data.id}/mark/{n}")) is not None:
        last = marked
        n += 1
    now = last.data if isinstance(last.data, ModelRateDeprecated) else ModelRateDeprecated(id=data.id, deprecated=False)
    if not differing_fields(now, data):
        return Decision([], last)
    if n == MARKS_MAX:
        raise InvalidInput(f"rate {data.id} was marked {MARKS_MAX} times, the limit: set a new one")
    return Decision([_event(f"{data.id}/mark/{n}", data.id, command.received_at_us, command.actor, data)])


def _event(id_: str, rate_id: str, now_us: int, actor: str, data: Struct) -> NewEvent:
    return NewEvent(SOURCE, id_, f"{NOUN}/{rate_id}", format_time(now_us), now_us, actor, data)
