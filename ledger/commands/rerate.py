"""Re-rates: begun once, advanced batch by batch, taken back batch by batch. Killed anywhere, the next batch goes on."""

from collections.abc import Sequence

import apsw
import msgspec
from msgspec import Struct

from ledger import journal
from ledger.changed_call import known_calls
from ledger.decision import Decision, WorkingSet, handles
from ledger.recharging import load_standing, moved
from ledger.rerate import Batch, Verdict, advanced, judge, next_batch
from ledger.teller import Teller
from projections import rerate as rerates
from projections.rerate import RerateRow
from schema.acceptance import differing_fields
from schema.correction import ModelCallRerated
from schema.entry import NewEvent
from schema.errors import FieldError, IdConflict, NotFound, RerateUnfinished
from schema.model_call import source_of, subject_of
from schema.model_call_view import UNRATED
from schema.rerate import NOUN, SOURCE, AdvanceRerate, RerateAdvanced, RevertRerate, StartRerate
from schema.times import format_time


class Step(Struct):
    """What the next batch of a run is about: fresh calls, or calls that it changed with the ratings they had."""

    row: RerateRow | None = None
    batch: Batch | None = None
    taken_back: list[ModelCallRerated] = []
    left: int = 0  # changed by something else since, so not taken back


def _load_start(db: apsw.Connection, ws: WorkingSet, commands: Sequence[StartRerate]) -> None:
    ws.load(db, [(SOURCE, command.rerate.id) for command in commands])


@handles(StartRerate, _load_start)
def start(ws: WorkingSet, command: StartRerate) -> Decision:
    """A re-rate begins; its batches follow."""
    first = ws.find(SOURCE, command.rerate.id)
    if first is not None:
        if different := differing_fields(first.data, command.rerate):
            errors = tuple(FieldError(f"$.{name}", "differs from the first content") for name in different)
            raise IdConflict(f"this id was used before with other {', '.join(different)}", errors=errors)
        return Decision([], first)
    return Decision(
        [_event(command.rerate.id, command.rerate.id, command.received_at_us, command.actor, command.rerate)]
    )


def _load_revert(db: apsw.Connection, ws: WorkingSet, commands: Sequence[RevertRerate]) -> None:
    (command,) = commands
    ws.load(db, [(SOURCE, f"{command.data.id}/revert")])
    ws.known = [rerates.find(db, command.data.id)]


@handles(RevertRerate, _load_revert, alone=True)
def revert(ws: WorkingSet, command: RevertRerate) -> Decision:
    """A completed re-rate is to be taken back."""
    id_ = command.data.id
    (row,) = ws.known
    if row is None:
        raise NotFound(f"there is no re-rate {id_}")
    first = ws.find(SOURCE, f"{id_}/revert")
    if first is not None:
        return Decision([], first)
    if row.status != "completed":
        raise RerateUnfinished(f"re-rate {id_} is {row.status}")
    return Decision([_event(f"{id_}/revert", id_, command.received_at_us, command.actor, command.data)])


def _load_advance(db: apsw.Connection, ws: WorkingSet, commands: Sequence[AdvanceRerate]) -> None:
    (command,) = commands
    ws.rates.refresh(db)
    step = Step(row=rerates.find(db, command.id))
    ws.known = [step]
    row = step.row
    if row is None or row.status not in {"running", "reverting"}:
        return
    after = row.progress.next if row.progress else None
    if row.status == "running":
        step.batch = next_batch(db, row.started, after, command.limit)
        ws.charges = load_standing(db, ws, step.batch.calls, commands)
        return
    positions = rerates.rerated_after(db, command.id, after[1] if after else 0, command.limit)
    events = [event.data for event in journal.at(db, positions)]
    step.taken_back = [data for data in events if isinstance(data, ModelCallRerated)]
    calls = known_calls(db, [data.recorded for data in step.taken_back])
    # A call that something else has changed since keeps what that made of it.
    still = [call.row.rated == at and not call.row.voided for call, at in zip(calls, positions, strict=True)]
    step.taken_back = [data for data, ours in zip(step.taken_back, still, strict=True) if ours]
    step.left = len(still) - sum(still)
    following = (0, positions[-1]) if len(positions) == command.limit else None
    step.batch = Batch([call for call, ours in zip(calls, still, strict=True) if ours], following)
    ws.charges = load_standing(db, ws, step.batch.calls, commands)


@handles(AdvanceRerate, _load_advance, alone=True)
def advance(ws: WorkingSet, command: AdvanceRerate) -> Decision:
    """The next batch, with what it came to, in one transaction; nothing where nothing is left to do."""
    (step,) = ws.known
    row, batch = step.row, step.batch
    if row is None or batch is None:
        return Decision([])
    reverting = row.status == "reverting"
    verdicts = _taken_back(step) if reverting else judge(ws.rates, batch.calls, command.policy)
    teller = Teller(ws.book, command.received_at_us, command.actor)
    for verdict in verdicts:
        if verdict.changes:
            _rerate(teller, ws, verdict, _rerated(ws, verdict, row, command, reverted=reverting))
    progress = advanced(row.progress, verdicts, batch.next, step.left)
    done = RerateAdvanced(id=row.id, reverting=reverting, progress=progress)
    id_ = f"{row.id}/advance/{row.batches}"
    return Decision([*teller.events, _event(id_, row.id, command.received_at_us, command.actor, done)])


def _rerate(teller: Teller, ws: WorkingSet, verdict: Verdict, event: NewEvent) -> None:
    """The next call of a batch sees what this one did to its account."""
    data = event.data
    assert isinstance(data, ModelCallRerated)
    known = verdict.known
    data.charges = moved(teller, known, ws.charges.get(known.row.position), data.rating)
    teller.conclude(event, data.charges)


def _taken_back(step: Step) -> list[Verdict]:
    assert step.batch is not None
    pairs = zip(step.batch.calls, step.taken_back, strict=True)
    return [Verdict(known, known.rating, data.replaces.rating or UNRATED) for known, data in pairs]


def _rerated(ws: WorkingSet, verdict: Verdict, run: RerateRow, command: AdvanceRerate, *, reverted: bool) -> NewEvent:
    call = verdict.known.call
    assert call is not None
    assert verdict.after is not None
    app = call.app or ""
    data = ModelCallRerated(
        id=call.id, app=app, recorded=verdict.known.row.position, rerate=run.id, reverted=reverted,
        replaces=ws.counted(verdict.known), rating=verdict.after,
    )  # fmt: skip
    # Named by its batch: a correction that moves a call ahead of a run lets the run meet it twice.
    id_ = f"{call.id}/rerate/{run.id}/{run.batches}"
    now_us = command.received_at_us
    return NewEvent(source_of(app), id_, subject_of(app, call.id), format_time(now_us), now_us, command.actor, data)


def _event(id_: str, rerate: str, now_us: int, actor: str, data: msgspec.Struct) -> NewEvent:
    return NewEvent(SOURCE, id_, f"{NOUN}/{rerate}", format_time(now_us), now_us, actor, data)
