"""Builders of commands and of histories, and a plain book of calls that shares no code with the projections."""

import json
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, cast

import apsw
import msgspec

from ledger import rebuild
from ledger.database import open_reader, open_writer
from ledger.decision import Command
from ledger.ledger import LEDGER_FILE, Ledger
from ledger.migrate import migrate
from ledger.queue import CommandQueue
from ledger.writer import Appended, Outcome, Writer
from projections.engine import Engine, registry
from projections.model_call_stat import tail
from schema.acceptance import accept
from schema.entry import Recorded
from schema.errors import LedgerError
from schema.key import CreateKey, KeyCreated
from schema.model_call import (
    FinalStatus,
    FinishModelCall,
    ModelCallEnd,
    ModelCallRecorded,
    ModelCallStart,
    RecordModelCall,
    StartModelCall,
    SweepModelCalls,
)
from schema.times import format_time, parse_time

APP = "support-bot"
ACTOR = "key:test"
NOON_US = parse_time("2026-11-22T12:00:00Z")
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
QUARTER_US = 15 * MINUTE_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

Fields = dict[str, Any]
Row = tuple[Any, ...]


def call(
    id_: str = "c-1",
    *,
    app: str = APP,
    at_us: int = NOON_US,
    started_us: int | None = None,
    **fields: Any,  # noqa: ANN401 - whatever may be posted
) -> RecordModelCall:
    """The command to record a finished call, accepted as the API would; fields are the posted ones."""
    posted = {
        "id": id_, "app": app, "provider": "openai", "model": "gpt-4o", "type": "chat_completion", "status": "success",
        "started_at": format_time(at_us if started_us is None else started_us), **fields,
    }  # fmt: skip
    content = msgspec.convert(deepcopy(posted), ModelCallRecorded)
    return RecordModelCall(ACTOR, at_us, accept(content, at_us), content)


def start(
    id_: str = "c-1",
    *,
    app: str = APP,
    at_us: int = NOON_US,
    started_us: int | None = None,
    timeout_us: int = MINUTE_US,
    **fields: Any,  # noqa: ANN401
) -> StartModelCall:
    """The command that a call begins."""
    posted = {
        "id": id_, "app": app, "provider": "openai", "model": "gpt-4o", "type": "chat_completion",
        "started_at": format_time(at_us if started_us is None else started_us), **fields,
    }  # fmt: skip
    content = msgspec.convert(deepcopy(posted), ModelCallStart)
    return StartModelCall(ACTOR, at_us, accept(content, at_us), timeout_us, content)


def finish(
    id_: str = "c-1",
    status: FinalStatus = "success",
    *,
    app: str = APP,
    at_us: int = NOON_US,
    **fields: Any,  # noqa: ANN401
) -> FinishModelCall:
    """The command that a started call ends."""
    return FinishModelCall(ACTOR, at_us, id_, app, status, msgspec.convert(deepcopy(fields), ModelCallEnd))


def sweep(at_us: int = NOON_US, limit: int = 100) -> SweepModelCalls:
    return SweepModelCalls(at_us, limit)


def create_key(id_: str = "k-1", *, at_us: int = NOON_US, **fields: object) -> CreateKey:
    made = {"id": id_, "role": "app", "app": APP, "sha256": "00" * 32, **fields}
    return CreateKey(ACTOR, at_us, msgspec.convert(made, KeyCreated))


def calls(n: int, *, prefix: str = "c", at_us: int = NOON_US, **fields: Any) -> list[RecordModelCall]:  # noqa: ANN401
    """That many different calls, a second apart."""
    return [call(f"{prefix}-{i}", at_us=at_us + i * SECOND_US, **fields) for i in range(n)]


def random_history(seed: int, size: int) -> list[Command]:
    """Commands of every kind over few ids, so that they repeat, conflict, race and time out; the seed is all."""
    dice = Random(seed)
    now_us = NOON_US
    found: list[Command] = []
    for _ in range(size):
        now_us += dice.choice((0, 0, 1, SECOND_US, 20 * SECOND_US, 45 * MINUTE_US, -30 * SECOND_US))
        found.append(_random_command(dice, found, now_us))
    return found


def _random_command(dice: Random, before: Sequence[Command], now_us: int) -> Command:
    id_, app = f"c-{dice.randrange(40)}", dice.choice(("a", "b"))
    match dice.randrange(10):
        case 0 if before:
            return repeated(dice.choice(before), now_us)
        case 1:
            return sweep(now_us, dice.randrange(1, 5))
        case 2 | 3:
            return start(
                id_, app=app, at_us=now_us, timeout_us=dice.choice((1, MINUTE_US)), user_id=dice.choice((None, "u-1"))
            )
        case 4 | 5 | 6:
            status: FinalStatus = dice.choice(("success", "failed"))
            return finish(id_, status, app=app, at_us=now_us, usage={"output_tokens": dice.randrange(3)})
        case _:
            usage = {"input_tokens": dice.randrange(10**12), "output_tokens": dice.randrange(10**6)}
            return call(
                id_, app=app, at_us=now_us, started_us=now_us - dice.randrange(3 * DAY_US), usage=usage,
                model=dice.choice(("gpt-4o", "sonnet")), user_id=dice.choice((None, "u-1", "u-2")),
            )  # fmt: skip


def repeated(command: Command, at_us: int) -> Command:
    """The same command, sent again later."""
    again = deepcopy(command)
    setattr(again, "received_at_us", at_us)  # noqa: B010 - every command has it
    return again


@contextmanager
def open_ledger(data_dir: Path, now_us: int = NOON_US, **options: Any) -> Generator[Ledger]:  # noqa: ANN401
    """An open ledger, closed at the end."""
    ledger = Ledger(data_dir, **options)
    try:
        ledger.open(now_us)
        yield ledger
    finally:
        ledger.close()


def create_file(data_dir: Path) -> Path:
    """A migrated ledger file with its projections' tables, and nobody using it."""
    path = data_dir / LEDGER_FILE
    db = open_writer(path, "os")
    migrate(db, NOON_US)
    rebuild.prepare(db, Engine(db))
    db.close()
    return path


@contextmanager
def open_book(data_dir: Path) -> Generator[Writer]:
    """A writer without its thread: `write(commands)` runs one group here and now."""
    writer = Writer(create_file(data_dir), CommandQueue(), "os")
    try:
        yield writer
    finally:
        writer.stop()


@contextmanager
def reading(path: Path) -> Generator[apsw.Connection]:
    db = open_reader(path)
    try:
        yield db
    finally:
        db.close()


def write_in_groups(writer: Writer, commands: Sequence[Command], sizes: Sequence[int]) -> list[Outcome]:
    """Write copies of the commands in groups of these sizes, taken in turn."""
    outcomes: list[Outcome] = []
    done = turn = 0
    while done < len(commands):
        size = sizes[turn % len(sizes)]
        outcomes.extend(writer.write(deepcopy(commands[done : done + size])))
        done += size
        turn += 1
    return outcomes


def kind_of(outcome: Outcome) -> str:
    """accepted, duplicate or the error's code."""
    if isinstance(outcome, LedgerError):
        return outcome.code
    return "duplicate" if outcome.duplicate else "accepted"


def appended(outcome: Outcome) -> Recorded:
    """The event of an outcome that made or found one."""
    assert isinstance(outcome, Appended), outcome
    assert outcome.recorded is not None
    return outcome.recorded


def kinds(outcomes: Sequence[Outcome]) -> Counter[str]:
    return Counter(map(kind_of, outcomes))


def select(db: apsw.Connection, query: str) -> list[Row]:
    return cast("list[Row]", db.execute(query).fetchall())


def journal_rows(db: apsw.Connection) -> list[Row]:
    return select(db, "SELECT * FROM events ORDER BY position")


def entries(db: apsw.Connection) -> list[str]:
    return [entry for (entry,) in select(db, "SELECT entry FROM events ORDER BY position")]


def tables(db: apsw.Connection, suffix: str = "") -> dict[str, list[Row]]:
    """Every row of every projection, in the order of their keys."""
    return {
        table.name: select(db, f"SELECT * FROM {table.name}{suffix} ORDER BY {table.key}")
        for projection in registry().values()
        for table in projection.tables
    }


@contextmanager
def scratch() -> Generator[apsw.Connection]:
    """An empty ledger's tables, in memory."""
    db = apsw.Connection(":memory:")
    migrate(db, NOON_US)
    Engine(db).ensure()
    try:
        yield db
    finally:
        db.close()


def replayed(events: Sequence[Recorded], size: int) -> dict[str, list[Row]]:
    """The tables that a journal gives when it is replayed into an empty ledger, in batches of this size."""
    with scratch() as db:
        engine = Engine(db)
        for first in range(0, len(events), size):
            engine.apply(first, events[first : first + size])
        return tables(db)


CALL_COLUMNS = (
    "position", "event_position", "id", "app", "user_id", "provider", "model", "credential_id", "type", "status",
    "request_id", "trace_id", "started_at_us", "duration_ms", "ttfb_ms", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "images", "seconds_e6", "error_code",
    "error_message", "times_out_at_us",
)  # fmt: skip
DIMENSIONS = ("user_id", "app", "provider", "model", "credential_id", "type", "status")
MEASURES = (
    "calls", "succeeded", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "images", "seconds_e6", "duration_ms_sum", "ttfb_ms_sum", "ttfb_calls",
)  # fmt: skip
_KINDS = ("type", "status")
_CELL = ("app", "provider", "model", "credential_id", *_KINDS)
ROLLUPS: dict[int, tuple[int, tuple[str, ...]]] = {
    0: (QUARTER_US, _KINDS),
    1: (DAY_US, _KINDS),
    2: (QUARTER_US, ("app", *_KINDS)),
    3: (DAY_US, ("app", *_KINDS)),
    4: (QUARTER_US, ("provider", "model", *_KINDS)),
    5: (DAY_US, ("provider", "model", *_KINDS)),
    6: (QUARTER_US, _CELL),
    7: (DAY_US, _CELL),
    8: (QUARTER_US, ("user_id", *_CELL)),
    9: (DAY_US, ("user_id", "app")),
    10: (QUARTER_US, ("credential_id", *_KINDS)),
    11: (DAY_US, ("credential_id", *_KINDS)),
}


def call_rows(db: apsw.Connection) -> set[Row]:
    return set(select(db, f"SELECT {', '.join(CALL_COLUMNS)} FROM model_calls_named"))


def stat_cells(db: apsw.Connection) -> dict[Row, Row]:
    """(rollup, bucket, *dimensions) → measures: the cells that are folded, and the tail that is not yet."""
    keys = ("rollup", "bucket", *DIMENSIONS)
    cells = Cells()
    for row in select(db, f"SELECT {', '.join((*keys, *MEASURES))} FROM model_call_stats_named"):
        cells.add(row[: len(keys)], row[len(keys) :])
    names = dict(select(db, "SELECT id, name FROM names"))
    sources, stretch = tail(db)
    for source in sources:
        for started_us, *values in db.execute(
            f"SELECT started_at_us, {', '.join((*DIMENSIONS, *MEASURES))} FROM {source}", stretch
        ):
            named = {dimension: names[values[n]] for n, dimension in enumerate(DIMENSIONS)}
            cells.count(started_us, named, values[len(DIMENSIONS) :])
    return cells.plain


class Cells:
    """Sums by roll-up, bucket and dimensions, added one by one."""

    def __init__(self) -> None:
        self.sums: dict[Row, list[int]] = {}

    def add(self, key: Row, measures: Sequence[int]) -> None:
        cell = self.sums.setdefault(key, [0] * len(MEASURES))
        for n, value in enumerate(measures):
            cell[n] += value

    def count(self, started_us: int, named: Mapping[str, str | None], measures: Sequence[int]) -> None:
        """Add one call to its cell of each roll-up."""
        for code, (size_us, kept) in ROLLUPS.items():
            names = [named.get(dimension) or "" if dimension in kept else "" for dimension in DIMENSIONS]
            self.add((code, started_us - started_us % size_us, *names), measures)

    @property
    def plain(self) -> dict[Row, Row]:
        return {key: tuple(cell) for key, cell in self.sums.items()}


@dataclass
class Thing:
    """What the book knows of one id: `content` is the posted object, `end` the verb and the whole call."""

    position: int
    started: bool
    content: Fields
    due_us: int = 0
    timed_out: bool = False
    end: tuple[str, Fields] | None = None

    @property
    def open(self) -> bool:
        return self.started and not self.timed_out and self.end is None


class Book:
    """What a history must come to: folded from its commands one by one, in dicts."""

    def __init__(self) -> None:
        self.things: dict[tuple[str, str], Thing] = {}
        self.events: list[tuple[str, str]] = []
        self.recorded_at_us: list[int] = []
        self.rows: dict[int, Row] = {}
        self.cells = Cells()

    def take(self, command: Command) -> str:
        """The outcome that a command must have: accepted, duplicate or an error's code."""
        match command:
            case RecordModelCall(call=content):
                return self._first(command, plain(content), started=False)
            case StartModelCall(call=content):
                return self._first(command, plain(content), started=True)
            case FinishModelCall():
                return self._finish(command)
            case SweepModelCalls():
                return self._sweep(command)
            case _:
                raise TypeError(command)

    def _append(self, now_us: int, type_: str, id_: str) -> int:
        self.events.append((type_, id_))
        self.recorded_at_us.append(max([now_us, *self.recorded_at_us[-1:]]))
        return len(self.events)

    def _first(self, command: RecordModelCall | StartModelCall, content: Fields, *, started: bool) -> str:
        key = (content["app"], content["id"])
        known = self.things.get(key)
        if known is not None:
            return "duplicate" if (known.started, known.content) == (started, content) else "id_conflict"
        type_ = "model_call.started.v1" if started else "model_call.recorded.v2"
        position = self._append(command.received_at_us, type_, content["id"])
        thing = self.things[key] = Thing(position, started, content)
        if isinstance(command, StartModelCall):
            thing.due_us = command.received_at_us + command.timeout_us
            self._show(thing, position, "processing", content)
        else:
            self._show(thing, position, content["status"], content)
            self._count(content, content["status"])
        return "accepted"

    def _finish(self, command: FinishModelCall) -> str:
        thing = self.things.get((command.app, command.id))
        if thing is None:
            return "not_found"
        if not thing.started:
            return "already_finished"
        given = {name: value for name, value in plain(command.end).items() if value is not None}
        whole = {**thing.content, **given, "status": command.status}
        verb = "complete" if command.status == "success" else "fail"
        if thing.end is not None:
            return "duplicate" if thing.end == (verb, whole) else "already_finished"
        if not thing.timed_out and thing.due_us <= command.received_at_us:
            self._time_out(thing, command.received_at_us)
        if thing.timed_out:
            self._count(thing.content, "timed_out", -1)
        type_ = "model_call.completed.v2" if verb == "complete" else "model_call.failed.v2"
        position = self._append(command.received_at_us, type_, f"{command.id}/{verb}")
        thing.end = (verb, whole)
        self._show(thing, position, command.status, whole)
        self._count(whole, command.status)
        return "accepted"

    def _sweep(self, command: SweepModelCalls) -> str:
        due = [thing for thing in self.things.values() if thing.open and thing.due_us <= command.received_at_us]
        due.sort(key=lambda thing: (thing.due_us, thing.position))
        for thing in due[: command.limit]:
            self._time_out(thing, command.received_at_us)
        return "accepted"

    def _time_out(self, thing: Thing, now_us: int) -> None:
        position = self._append(now_us, "model_call.timed_out.v1", f"{thing.content['id']}/time_out")
        thing.timed_out = True
        self._show(thing, position, "timed_out", thing.content)
        self._count(thing.content, "timed_out")

    def _show(self, thing: Thing, position: int, status: str, content: Fields) -> None:
        error: Fields = content.get("error") or {}
        self.rows[thing.position] = (
            thing.position, position, content["id"], content["app"], content.get("user_id") or "",
            content["provider"], content["model"], content.get("credential_id") or "", content["type"], status,
            content.get("request_id"), content.get("trace_id"), parse_time(content["started_at"]),
            content.get("duration_ms"), content.get("ttfb_ms"), *used(content), error.get("code"),
            error.get("message"), thing.due_us if status == "processing" else None,
        )  # fmt: skip

    def _count(self, content: Fields, status: str, sign: int = 1) -> None:
        ttfb = content.get("ttfb_ms")
        duration = content.get("duration_ms") or 0
        measures = [1, int(status == "success"), *used(content), duration, ttfb or 0, 0 if ttfb is None else 1]
        if status == "timed_out":
            measures = [1, *[0] * (len(MEASURES) - 1)]
        self.cells.count(parse_time(content["started_at"]), {**content, "status": status}, [sign * m for m in measures])

    @property
    def stats(self) -> dict[Row, Row]:
        return self.cells.plain


def used(content: Fields) -> tuple[int, ...]:
    usage: Fields = content.get("usage") or {}
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "images")
    return (*(usage.get(name) or 0 for name in names), int(Decimal(usage.get("seconds") or "0") * 10**6))


def plain(content: msgspec.Struct) -> Fields:
    """A content as the dict that its JSON is, with the usage's defaults written out."""
    fields: Fields = json.loads(msgspec.json.encode(content))
    if fields.get("usage") is not None:
        fields["usage"] = (
            dict(zip(("input", "output", "read", "write", "reasoning", "images", "us"), used(fields), strict=True))
            | fields["usage"]
        )
        for total in ("input_tokens", "output_tokens"):
            fields["usage"][total] = fields["usage"].get(total) or 0
    return fields


def book_of(commands: Sequence[Command]) -> tuple[Book, list[str]]:
    """The book of a history and the outcome of each command."""
    book = Book()
    return book, [book.take(command) for command in deepcopy(commands)]
