"""One ledger file, open: its writer, its readers, its projections brought up to date."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import apsw
import structlog

from ledger import lock, rebuild
from ledger.checkpointer import Checkpointer
from ledger.database import Durability, open_writer
from ledger.decision import Command
from ledger.keyring import Keyring
from ledger.migrate import migrate
from ledger.queue import CommandQueue, Submission
from ledger.readers import Readers
from ledger.rebuild import Progress
from ledger.writer import Appended, Outcome, Writer
from projections.engine import Engine
from schema.errors import LedgerError, SecretUnreadable

log = structlog.get_logger()

LEDGER_FILE = "ledger.db"
SUBMISSION_COMMANDS_MAX = 1_000

OpenConnection = Callable[[Path, Durability], apsw.Connection]


class Ledger:
    """The ledger of a data directory. Several processes may each open one."""

    def __init__(
        self,
        data_dir: Path,
        *,
        durability: Durability = "full",
        queue: CommandQueue | None = None,
        open_connection: OpenConnection = open_writer,
        keyring: Keyring | None = None,
    ) -> None:
        self.path = data_dir / LEDGER_FILE
        self.data_dir = data_dir
        self.durability: Durability = durability
        self.queue = queue or CommandQueue()
        self.keyring = keyring
        self.writer = Writer(self.path, self.queue, durability, open_connection=open_connection, keyring=keyring)
        self.checkpointer = Checkpointer(self.path, durability, self.writer.erased)
        self.readers = Readers(self.path)
        self._held = ExitStack()
        self._stopping = threading.Event()
        self._rebuilder: threading.Thread | None = None

    def open(self, now_us: int, progress: Progress | None = None) -> None:
        """Create or migrate the file, bring projections up to date, start the writer.

        Raises LedgerBusy, NewerFile, MigrationChanged, UnsafeSqlite, UnknownEventType.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opening:
            opening.enter_context(lock.shared(self.data_dir))
            _make_private(self.path)  # under the lock: a restore that runs must not find a new file in its place
            behind = self._bring_up(now_us, progress or rebuild.quiet)
            self.writer.start()
            self._held = opening.pop_all()
        self.checkpointer.start()
        if behind:
            self._rebuilder = threading.Thread(target=self._rebuild_pending, name="ledger-rebuild", daemon=True)
            self._rebuilder.start()

    def _bring_up(self, now_us: int, progress: Progress) -> bool:
        """Migrate and prepare; whether projections are left that can be rebuilt beside the writer."""
        db = open_writer(self.path, self.durability)
        try:
            migrate(db, now_us)
            rebuild.prepare(db, Engine(db), progress)
            return bool(rebuild.pending(db))
        finally:
            db.close()

    def _rebuild_pending(self) -> None:
        """Rebuild what a new version changed, in small steps beside the writer."""
        db = open_writer(self.path, self.durability)
        try:
            engine = Engine(db)
            for projection in rebuild.pending(db):
                while not self._stopping.is_set() and not rebuild.rebuild_step(db, engine, projection):
                    pass
        except Exception:
            log.exception("rebuild_stopped")  # reads of it answer 503 and health shows where it stands
        finally:
            db.close()

    async def execute(self, commands: Sequence[Command], size_bytes: int) -> list[Outcome]:
        """Run commands and wait until what they did is durable; outcomes in their order.

        All are accepted or none: raises Overloaded or Stopping. They may span several transactions.
        """
        loop = asyncio.get_running_loop()
        submissions = _submissions(commands, size_bytes, loop)
        self.queue.put(submissions)
        outcomes: list[Outcome] = []
        for submission in submissions:
            outcomes.extend(await submission.future)
        return outcomes

    async def execute_one(self, command: Command, size_bytes: int = 0) -> Appended:
        """Run one command and wait until what it did is durable; raises what became of it otherwise."""
        (outcome,) = await self.execute([command], size_bytes)
        return _taken(outcome)

    def execute_one_now(self, command: Command) -> Appended:
        """The same, for callers without an event loop."""
        (outcome,) = self.execute_now([command])
        return _taken(outcome)

    def execute_now(self, commands: Sequence[Command], size_bytes: int = 0) -> list[Outcome]:
        """The same, for callers without an event loop."""
        submissions = _submissions(commands, size_bytes, None)
        self.queue.put(submissions)
        return [outcome for submission in submissions for outcome in submission.future.result()]

    def require_keyring(self) -> Keyring:
        """What seals and opens secrets; raises SecretUnreadable where the ledger was opened without one."""
        if self.keyring is None:
            raise SecretUnreadable("the ledger was opened without a master key")
        return self.keyring

    def close(self) -> None:
        """Finish what was accepted, then close everything."""
        self._stopping.set()
        self.writer.stop()
        self.checkpointer.stop()
        if self._rebuilder is not None:
            self._rebuilder.join()
        self.readers.close()
        self._held.close()


def _taken(outcome: Outcome) -> Appended:
    if isinstance(outcome, LedgerError):
        raise outcome
    return outcome


def _make_private(path: Path) -> None:
    """A new ledger is its owner's alone; its WAL takes over the mode.

    An existing file must not be opened like this: closing it would drop SQLite's locks.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _submissions(
    commands: Sequence[Command], size_bytes: int, loop: asyncio.AbstractEventLoop | None
) -> list[Submission]:
    if len(commands) <= SUBMISSION_COMMANDS_MAX:
        return [Submission(commands, size_bytes, loop)]
    parts = [commands[i : i + SUBMISSION_COMMANDS_MAX] for i in range(0, len(commands), SUBMISSION_COMMANDS_MAX)]
    return [Submission(part, size_bytes * len(part) // len(commands), loop) for part in parts]
