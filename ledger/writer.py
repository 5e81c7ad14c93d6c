"""The single writer of a ledger file: one thread, one transaction for everything that waits (group commit).

A group is decided in order against one working set, appended and applied at once, committed once; then every caller
is answered. A command that fails does not disturb its neighbours. A COMMIT that raises is unknown, not failed: the
handle is closed, the file reopened and the group's events, or its mark on the state, looked up before anyone is
answered.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import msgspec
import structlog
from msgspec import Struct

from ledger import journal
from ledger.credential_book import CredentialBook
from ledger.database import Durability, delete_securely, guard_fork, open_writer, roll_back, sync_recovered
from ledger.decision import Command, Decision, WorkingSet, groups, handlers, load_group
from ledger.keyring import Keyring
from ledger.queue import CommandQueue, Submission
from ledger.rate_book import RateBook
from ledger.state import CommitMark, Write
from projections.account_book import KINDS
from projections.account_state import Remembered
from projections.engine import Engine
from schema.entry import Recorded, encode
from schema.errors import EntryTooLarge, LedgerError, OutcomeUnknown, StorageUnavailable
from schema.event import type_of
from schema.times import format_time

log = structlog.get_logger()

COMMIT_ATTEMPTS_MAX = 2


class Appended(Struct, gc=False):
    """A command took effect, now or (duplicate) before. `recorded` is the event that tells it; None if it made none."""

    recorded: Recorded | None
    duplicate: bool
    events: int
    report: Struct | None = None


Outcome = Appended | LedgerError


class Group(Struct):
    """What one transaction decided."""

    outcomes: list[Outcome]
    events: list[Recorded]
    entries: list[bytes]
    writes: list[Write] = msgspec.field(default_factory=list[Write])
    mark: CommitMark | None = None
    accounts: Remembered | None = None  # as it leaves them, where it knows


class WriterStats(Struct):
    """Counters since the start of this writer."""

    groups: int = 0
    commands: int = 0
    events: int = 0
    commit_failures: int = 0
    reopened: int = 0


class Writer:
    """Owns the write connection and the thread that uses it."""

    def __init__(
        self,
        path: Path,
        queue: CommandQueue,
        durability: Durability = "full",
        *,
        open_connection: Callable[[Path, Durability], apsw.Connection] = open_writer,
        keyring: Keyring | None = None,
    ) -> None:
        self.path = path
        self.queue = queue
        self.durability: Durability = durability
        self.stats = WriterStats()
        self.failed: str | None = None
        self.storing = True  # whether the last group could be written
        self._open_connection = open_connection
        self._pid = os.getpid()
        self._db: apsw.Connection | None = None
        self._engine: Engine | None = None
        self._rates = RateBook()
        self._credentials = CredentialBook()
        self._name = f"{self._pid}-{time.monotonic_ns()}"  # its own among all writers of the file
        self._marks = 0
        self._keyring = keyring
        self.erased = threading.Event()  # set when a data key was destroyed, whose traces are still in the WAL
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Open the file and begin to write."""
        self._connect()
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Finish what was accepted, take nothing more, close."""
        self.queue.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._db is not None and not self._thread.is_alive():
            self._db.close()
            self._db = None

    def _connect(self) -> tuple[apsw.Connection, Engine]:
        guard_fork(self._pid)
        if self._db is None:
            self._db = self._open_connection(self.path, self.durability)
            delete_securely(self._db)
        if self._engine is None:
            sync_recovered(self._db)
            self._engine = Engine(self._db)
        return self._db, self._engine

    def _disconnect(self) -> None:
        """Let go of a handle whose state is unknown; the next use opens a new one."""
        db, self._db, self._engine = self._db, None, None
        self.stats.reopened += 1
        if db is not None:
            try:
                db.close(force=True)
            except apsw.Error as error:
                log.warning("close_failed", error=str(error))

    def _run(self) -> None:
        while submissions := self.queue.take():
            commands = [command for submission in submissions for command in submission.commands]
            try:
                outcomes = self.write(commands)
            except BaseException as error:  # the thread must answer whoever waits, whatever happened
                log.exception("writer_failed")
                self.failed = repr(error)
                outcomes = [OutcomeUnknown() for _ in commands]
            self.stats.commands += len(commands)
            _answer(submissions, outcomes)

    def write(self, commands: Sequence[Command]) -> list[Outcome]:
        """Run commands in order; outcomes likewise."""
        return [outcome for group in groups(commands) for outcome in self._write(group)]

    def _write(self, commands: Sequence[Command]) -> list[Outcome]:
        """Run commands as one group; if the group cannot be written, each alone, so that only the culprit fails."""
        try:
            return self._write_group(commands)
        except LedgerError as error:
            self.storing = False
            return [error for _ in commands]
        except Exception:
            log.exception("group_failed", commands=len(commands))
            if len(commands) == 1:
                return [LedgerError()]
            return [outcome for command in commands for outcome in self._write([command])]

    def _write_group(self, commands: Sequence[Command]) -> list[Outcome]:
        for _ in range(COMMIT_ATTEMPTS_MAX):
            db, engine = self._begin()
            try:
                group = self._decide_and_append(db, engine, commands)
            except BaseException as error:
                self._undo(error)
                raise
            if self._commit(db, group):
                self.storing = True
                self.stats.groups += 1
                self.stats.events += len(group.events)
                self._forget_erased(group)
                if group.accounts is not None:
                    engine.accounts.keep(group.accounts)
                return group.outcomes
        raise StorageUnavailable

    def _forget_erased(self, group: Group) -> None:
        """What was destroyed in the file must not live on in memory or in the WAL."""
        for erased in [write.erased for write in group.writes if write.erased is not None]:
            self.erased.set()
            if self._keyring is not None:
                self._keyring.forget(erased)

    def _begin(self) -> tuple[apsw.Connection, Engine]:
        try:
            db, engine = self._connect()
            db.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            if not isinstance(error, apsw.BusyError):
                self._disconnect()
            raise StorageUnavailable(f"the write lock was not to be had: {error}") from error
        return db, engine

    def _undo(self, error: BaseException) -> None:
        """Roll back; a storage error becomes StorageUnavailable and costs the handle."""
        if self._engine is not None:
            self._engine.forget()
        try:
            if self._db is not None:
                roll_back(self._db)
        except apsw.Error:
            self._disconnect()
            raise StorageUnavailable from error
        if isinstance(
            error, apsw.IOError | apsw.FullError | apsw.CorruptError | apsw.ReadOnlyError | apsw.CantOpenError
        ):
            self._disconnect()
            raise StorageUnavailable(f"{type(error).__name__}: {error}") from error

    def _decide_and_append(self, db: apsw.Connection, engine: Engine, commands: Sequence[Command]) -> Group:
        head = journal.read_head(db)
        accounts = engine.begin(head.size)
        working_set = WorkingSet(self._rates, self._keyring, self._credentials, accounts)
        load_group(db, commands, working_set)
        group = decide_group(working_set, head, commands)
        if group.events:
            before = head.size
            journal.append(db, head, group.events, group.entries)
            engine.apply(before, group.events, working_set.book if working_set.book.collects else None)
        # A book that does not collect has not followed all that its accounts' rows are made of.
        if working_set.book.collects or not any(isinstance(event.data, KINDS) for event in group.events):
            group.accounts = accounts
        if working_set.state.changed or group.writes:
            self._marks += 1
            group.mark = CommitMark(self._name, self._marks)
            self._write_state(db, working_set, group)
        return group

    def _write_state(self, db: apsw.Connection, working_set: WorkingSet, group: Group) -> None:
        working_set.state.write(db)
        for write in group.writes:
            db.execute(write.sql, write.bindings)
        if group.mark is not None:
            group.mark.write(db)

    def _commit(self, db: apsw.Connection, group: Group) -> bool:
        """Commit; after an error of COMMIT, find out whether it happened. False: it did not, try again."""
        try:
            db.execute("COMMIT")
        except apsw.Error as error:
            self.stats.commit_failures += 1
            log.warning("commit_unknown", error=str(error), events=len(group.events))
            self._disconnect()
            return self._is_stored(group)
        return True

    def _is_stored(self, group: Group) -> bool:
        try:
            db, _ = self._connect()
            stored = journal.leaf_hashes(db, group.events)
            marked = group.mark is None or group.mark.is_stored(db)
        except apsw.Error as error:
            self._disconnect()
            raise OutcomeUnknown(f"after a failed COMMIT the file could not be read: {error}") from error
        return marked and stored == [journal.tree.leaf_hash(entry) for entry in group.entries]


def decide_group(working_set: WorkingSet, head: journal.Head, commands: Sequence[Command]) -> Group:
    """Decide commands in order, each seeing what the ones before it did; nothing is written yet."""
    group = Group([], [], [])
    clock = _Clock(head.recorded_at_us)
    table = handlers()
    for command in commands:
        try:
            decision = table[type(command)].decide(working_set, command)
            if decision.first is not None:
                group.outcomes.append(Appended(decision.first, duplicate=True, events=0))
                continue
            if working_set.watch is not None:
                working_set.follow(working_set.watch, command, decision)
            # What makes no events must leave the time to those after it.
            now = clock.at(command) if decision.events else clock
            told = _stage(group, working_set, now, head.size, decision)
            if decision.state or decision.writes:
                working_set.state.put(decision.state)
                group.writes += decision.writes
            group.outcomes.append(Appended(told, decision.repeated, len(decision.events), decision.report))
            clock = now
        except LedgerError as error:
            group.outcomes.append(error)
    return group


class _Clock:
    """`recorded_at`: the command's time, never earlier than the last event's. Written out once per instant."""

    def __init__(self, last_us: int) -> None:
        self.us = last_us
        self.text = format_time(last_us)

    def at(self, command: Command) -> "_Clock":
        """What a command's events get."""
        received_at_us: int = getattr(command, "received_at_us")  # noqa: B009 - every command has it
        return self if received_at_us <= self.us else _Clock(received_at_us)


def _stage(group: Group, working_set: WorkingSet, clock: _Clock, size: int, decision: Decision) -> Recorded | None:
    """Encode a decision's events, which join the group only if all fit; returns the one that the caller is told of."""
    events, entries = group.events, group.entries
    before = len(events)
    try:
        for new in decision.events:
            recorded = Recorded(
                size + len(events) + 1, clock.us, new.source, new.id, type_of(new.data), new.subject, new.time_us,
                new.actor, new.data,
            )  # fmt: skip
            entries.append(encode(recorded, new.time, clock.text))
            events.append(recorded)
    except EntryTooLarge:
        del events[before:], entries[before:]
        raise
    staged = events[before:]
    for recorded in staged:
        working_set.evolve(recorded)
    return staged[decision.answer] if staged else None


def _answer(submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> None:
    """Give each submission its outcomes; those of one event loop in one wake-up."""
    done = 0
    by_loop: dict[object, list[tuple[Submission, Sequence[Outcome]]]] = {}
    for submission in submissions:
        part = outcomes[done : done + len(submission.commands)]
        done += len(submission.commands)
        by_loop.setdefault(submission.loop, []).append((submission, part))
    for answers in by_loop.values():
        answers[0][0].wake(answers)
