"""Ledgers to measure on, written straight through the writer."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec

from ledger.database import open_writer
from ledger.migrate import migrate
from ledger.queue import CommandQueue
from ledger.rebuild import prepare
from ledger.writer import Appended, Writer
from ops.bench.calls import START_US, Shape, bench_calls
from projections.engine import Engine
from schema.acceptance import accept
from schema.model_call import ModelCallRecorded, RecordModelCall
from schema.times import DAY_US

GROUP_CALLS = 2_000
AHEAD_US = 365 * DAY_US
_decoder = msgspec.json.Decoder(ModelCallRecorded)


def build_ledger(
    path: Path,
    calls: int,
    *,
    span_us: int,
    shape: Shape = Shape(),  # noqa: B008 - frozen
    told: Callable[[int], object] = int,  # which does nothing with it
) -> None:
    """A ledger of `calls` calls spread evenly over `span_us`; `told` hears how many more are in, a group at a time."""
    db = open_writer(path)
    migrate(db, START_US)
    prepare(db, Engine(db))
    db.close()
    writer = Writer(path, CommandQueue(), "os")
    found = bench_calls(calls, step_us=span_us // calls, shape=shape)
    while part := list(islice(found, GROUP_CALLS)):
        outcomes = writer.write([_command(call.body) for call in part])
        assert all(isinstance(outcome, Appended) and not outcome.duplicate for outcome in outcomes)
        told(len(part))
    writer.stop()


def _command(body: bytes) -> RecordModelCall:
    call = _decoder.decode(body)
    return RecordModelCall("bench", START_US + AHEAD_US, accept(call, START_US + AHEAD_US), call)
