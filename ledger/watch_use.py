"""What a command is about, as far as budgets ask: app, user, model and tags. Accounts are those that it loaded."""

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import UNSET, Struct

from ledger.begun import begun
from ledger.changed_call import KnownCall
from schema.correction import CorrectModelCall
from schema.hold import PlaceHold
from schema.lease import LeaseCredential
from schema.model_call import FinishModelCall, RecordModelCall, StartModelCall
from schema.rerate import AdvanceRerate
from schema.times import parse_time


class Use(Struct, gc=False):
    """One thing that a command is about; `at_us` where it may cost something: when that was."""

    app: str | None
    user: str | None
    model: str | None
    metadata: dict[str, Any] | None
    at_us: int | None = None


def uses_of(ws: Any, command: Any) -> Iterator[Use]:  # noqa: ANN401 - a working set, any command
    """All that a command may count against."""
    found = _USES.get(command.__class__)
    if found is not None:
        yield from found(ws, command)


def _recorded(_: Any, command: RecordModelCall) -> Iterator[Use]:  # noqa: ANN401
    call = command.call
    yield Use(call.app, call.user_id, call.model, call.metadata, command.started_at_us)


def _finished(ws: Any, command: FinishModelCall) -> Iterator[Use]:  # noqa: ANN401
    end = command.end
    for start in begun(ws, command):
        metadata = start.metadata if end.metadata is None else end.metadata
        user, model = end.user_id or start.user_id, end.model or start.model
        yield Use(command.app, user, model, metadata, parse_time(start.started_at))


def _started(_: Any, command: StartModelCall) -> Iterator[Use]:  # noqa: ANN401
    call = command.call
    if call.hold is not None:
        yield Use(call.app, call.user_id, call.model, call.metadata)


def _held(_: Any, command: PlaceHold) -> Iterator[Use]:  # noqa: ANN401
    hold = command.hold
    yield Use(hold.app, hold.user_id, hold.model, dict[str, Any](hold.tags or {}))


def _leased(_: Any, command: LeaseCredential) -> Iterator[Use]:  # noqa: ANN401
    yield Use(command.app, None, command.wanted.model, None)


def _corrected(ws: Any, command: CorrectModelCall) -> Iterator[Use]:  # noqa: ANN401
    for known in ws.known:
        yield from _of_known(known)
        if known.call is not None and command.correction.set is not None:
            yield _after(known, command.correction.set)


def _after(known: KnownCall, given: Any) -> Use:  # noqa: ANN401 - what a correction sets
    call: Any = known.call
    user, model, metadata, started_at = (
        getattr(call if getattr(given, name) is UNSET else given, name)
        for name in ("user_id", "model", "metadata", "started_at")
    )
    try:
        at_us = parse_time(started_at)
    except ValueError:  # refused when it is decided
        at_us = known.started_at_us
    return Use(call.app, user, model, metadata, at_us)


def _rerated(ws: Any, _: AdvanceRerate) -> Iterator[Use]:  # noqa: ANN401
    for step in ws.known:
        for known in () if step.batch is None else step.batch.calls:
            yield from _of_known(known)


def _of_known(known: KnownCall) -> Iterator[Use]:
    call = known.call
    if call is not None:
        yield Use(call.app, call.user_id, call.model, call.metadata, known.started_at_us)


_USES: dict[type[Struct], Callable[[Any, Any], Iterator[Use]]] = {
    RecordModelCall: _recorded,
    FinishModelCall: _finished,
    StartModelCall: _started,
    PlaceHold: _held,
    LeaseCredential: _leased,
    CorrectModelCall: _corrected,
    AdvanceRerate: _rerated,
}
