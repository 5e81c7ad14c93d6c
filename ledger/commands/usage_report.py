"""Collecting usage and making batches of it. Each step moves how far it is and what it took in together."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import apsw
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ledger import journal, reconciliation
from ledger.decision import Decision, WorkingSet, handles
from ledger.report_state import BATCHES, HEAD, PAIRS, REPORT_HEAD, BatchRow, PairRow, ReportHead
from ledger.state import Removed
from schema.entry import NewEvent
from schema.money import COST_DECIMALS, ZERO, amount_e10, amount_text
from schema.times import DAY_US, format_time
from schema.usage_report import (
    REPORTING_ID,
    REPORTING_NOUN,
    REPORTING_SOURCE,
    CollectUsage,
    Cut,
    CutBatches,
    PruneBatches,
    ReportingStarted,
    StartReporting,
)

BATCHES_KEPT_US = 90 * DAY_US
ID_HEX = 40
_LEAF = "report leaf"


class Collected(Struct, frozen=True):
    """Whether a stretch was taken in; not where another process had done that."""

    taken: bool


class Made(Struct, frozen=True):
    """How many batches were made, or forgotten; as many as were asked for: there may be more."""

    batches: int


def load_head(db: apsw.Connection, ws: WorkingSet) -> None:
    """Bring in how far reporting is."""
    ws.state.load(db, REPORT_HEAD, [(HEAD,)])


def head_of(ws: WorkingSet) -> ReportHead | None:
    """How far reporting is; None before it began."""
    return ws.state.get(ReportHead, HEAD)


def _load_start(db: apsw.Connection, ws: WorkingSet, commands: Sequence[StartReporting]) -> None:
    load_head(db, ws)
    if head_of(ws) is not None or commands[0].from_beginning:
        ws.known = [0, {}]
        return
    ws.known = [journal.head_position(db), reconciliation.ledger_costs(db, None)]


@handles(StartReporting, _load_start, alone=True)
def start(ws: WorkingSet, command: StartReporting) -> Decision:
    """Once. What calls had cost before stays on record, so that sums can be compared for ever."""
    if head_of(ws) is not None:
        return Decision([], repeated=True)
    after, costs = ws.known
    pairs = [PairRow(app, user_id, base=amount_text(cost_e10)) for (app, user_id), cost_e10 in costs.items()]
    time_us = command.received_at_us
    subject = f"{REPORTING_NOUN}/{REPORTING_ID}"
    event = NewEvent(
        REPORTING_SOURCE, REPORTING_ID, subject, format_time(time_us), time_us, command.actor,
        ReportingStarted(after=after),
    )  # fmt: skip
    return Decision([event], state=[ReportHead(started_after=after, position=after), *pairs])


def _load_collect(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CollectUsage]) -> None:
    load_head(db, ws)
    ws.state.load(db, PAIRS, [(each.app, each.user_id) for each in commands[0].moved])


@handles(CollectUsage, _load_collect, alone=True)
def collect(ws: WorkingSet, command: CollectUsage) -> Decision:
    """A stretch that begins where the last one ended; of several processes one takes it in."""
    head = head_of(ws)
    if head is None or head.position != command.after:
        return Decision([], report=Collected(taken=False))
    state: list[Struct] = [replace(head, position=command.until)]
    for moved in command.moved:
        row = ws.state.get(PairRow, moved.app, moved.user_id) or PairRow(moved.app, moved.user_id)
        is_new = row.opened_at_us is None
        state.append(
            replace(
                row,
                open=amount_text(amount_e10(row.open) + moved.amount_e10),
                calls=row.calls + moved.calls,
                tokens=str(int(row.tokens) + moved.tokens),
                after=command.after if is_new else row.after,
                until=moved.until,
                opened_at_us=command.received_at_us if is_new else row.opened_at_us,
            )
        )
    return Decision([], report=Collected(taken=True), state=state)


def _load_cut(db: apsw.Connection, ws: WorkingSet, commands: Sequence[CutBatches]) -> None:
    [command] = commands
    load_head(db, ws)
    now_us, cut = command.received_at_us, command.cut
    # One that was opened later than now was so by a clock that ran ahead.
    due = (
        f"SELECT * FROM {PAIRS.name} WHERE opened_at_us IS NOT NULL "
        "AND (opened_at_us <= ? OR opened_at_us > ? OR calls >= ?) LIMIT ?"
    )
    rows: list[Any] = db.execute(due, (now_us - cut.interval_us, now_us, cut.calls_max, command.limit)).fetchall()
    ws.known = [PairRow(*row) for row in rows]
    ws.state.take(PAIRS, ws.known)
    ids = [_batch_id(db, row, *_whole(row, cut)) for row in ws.known]
    ws.read[_LEAF, ""] = dict(zip([(row.app, row.user_id) for row in ws.known], ids, strict=True))


def _whole(row: PairRow, cut: Cut) -> tuple[int, int]:
    """The whole units of what is collected, and what they come to in 1e-10 credits. The rest stays for later."""
    unit_e10 = 10 ** (COST_DECIMALS - cut.decimals)
    value = amount_e10(row.open) // unit_e10
    return value, value * unit_e10


def _batch_id(db: apsw.Connection, row: PairRow, value: int, whole_e10: int) -> str:
    """From what is in the batch and the journal it is about: the same id never means something else.

    Not even in a ledger that was restored and then went another way, for the last entry's hash is in it.
    """
    leaf: bytes | None = db.execute("SELECT leaf_hash FROM events WHERE position = ?", (row.until,)).get
    about = [row.app, row.user_id, row.after, row.until, row.calls, value, whole_e10, (leaf or b"").hex(), row.batched]
    return f"ur-{sha256(msgspec.json.encode(about)).hexdigest()[:ID_HEX]}"


@handles(CutBatches, _load_cut, alone=True)
def cut(ws: WorkingSet, command: CutBatches) -> Decision:
    """What is collected becomes a batch; what comes to no whole unit, as calls that cost nothing, waits for more."""
    head = head_of(ws)
    assert head is not None or not ws.known
    state: list[Struct] = []
    sequence = 0 if head is None else head.sequence
    for row in ws.known:
        value, whole_e10 = _whole(row, command.cut)
        if value == 0:
            state.append(replace(row, opened_at_us=None))
            continue
        sequence += 1
        id_: str = ws.read[_LEAF, ""][row.app, row.user_id]
        state.append(_made(row, id_, sequence, value, command))
        state.append(_emptied(row, whole_e10))
    if head is not None and sequence > head.sequence:
        state.append(replace(head, sequence=sequence))
    return Decision([], report=Made(len(ws.known)), state=state)


def _made(row: PairRow, id_: str, sequence: int, value: int, command: CutBatches) -> BatchRow:
    now_us, decimals = command.received_at_us, command.cut.decimals
    amount = amount_text(value * 10 ** (COST_DECIMALS - decimals))
    return BatchRow(
        id_, sequence, row.app, row.user_id, row.after, row.until, row.calls, row.tokens, amount, str(value), decimals,
        now_us, due_at_us=now_us,
    )  # fmt: skip


def _emptied(row: PairRow, whole_e10: int) -> PairRow:
    return replace(
        row, open=amount_text(amount_e10(row.open) - whole_e10), calls=0, tokens=ZERO, opened_at_us=None,
        batched=amount_text(amount_e10(row.batched) + whole_e10),
    )  # fmt: skip


def _load_prune(db: apsw.Connection, ws: WorkingSet, commands: Sequence[PruneBatches]) -> None:
    [command] = commands
    oldest = f"SELECT * FROM {BATCHES.name} ORDER BY sequence LIMIT ?"
    old = f"SELECT * FROM ({oldest}) WHERE status = 'reported' AND reported_at_us < ?"
    rows: list[Any] = db.execute(old, (command.limit, command.received_at_us - BATCHES_KEPT_US)).fetchall()
    ws.known = [BatchRow(*row) for row in rows]
    ws.state.load(db, PAIRS, [(row.app, row.user_id) for row in ws.known])


@handles(PruneBatches, _load_prune, alone=True)
def prune(ws: WorkingSet, _: PruneBatches) -> Decision:
    """The oldest go; their sums stay with their user."""
    pairs: dict[tuple[str, str], PairRow] = {}
    for row in ws.known:
        key = row.app, row.user_id
        pair = pairs.get(key) or ws.state.get(PairRow, *key)
        assert pair is not None
        pairs[key] = replace(pair, pruned=amount_text(amount_e10(pair.pruned) + amount_e10(row.amount)))
    gone = [Removed(BATCHES, (row.id,)) for row in ws.known]
    return Decision([], report=Made(len(gone)), state=[*pairs.values(), *gone])
