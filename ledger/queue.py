"""What waits for the writer: bounded by number and by bytes, and refused rather than dropped."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from ledger.decision import Command
from schema.errors import Overloaded, Stopping

QUEUE_COMMANDS_MAX = 50_000
QUEUE_BYTES_MAX = 64 * 1024 * 1024
GROUP_COMMANDS_MAX = 2_000
GROUP_BYTES_MAX = 16 * 1024 * 1024
RETRY_AFTER_S = 1
SIBLINGS_MIN = 8  # submissions in the last group from which on the writer lingers for more
LINGER_STEP_S = 0.0005
LINGER_MAX_S = 0.005


class Submission:
    """Some commands and who waits for them: an asyncio future on `loop`, or a plain one where there is no loop."""

    __slots__ = ("bytes", "commands", "future", "loop")

    def __init__(self, commands: Sequence[Command], bytes_: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self.commands = commands
        self.bytes = bytes_
        self.loop = loop
        self.future: Any = Future() if loop is None else loop.create_future()

    def wake(self, answers: Sequence[tuple["Submission", Any]]) -> None:
        """Resolve the futures of several submissions of this one's loop."""
        if self.loop is None:
            resolve(answers)
            return
        try:
            self.loop.call_soon_threadsafe(resolve, answers)
        except RuntimeError:
            # The loop is gone and with it everyone who waited; what was committed stays.
            return


def resolve(answers: Sequence[tuple[Submission, Any]]) -> None:
    """Set each future that is still waited for."""
    for submission, outcomes in answers:
        if not submission.future.done():
            submission.future.set_result(outcomes)


class CommandQueue:
    """A queue of submissions with one consumer, the writer."""

    def __init__(
        self,
        *,
        commands_max: int = QUEUE_COMMANDS_MAX,
        bytes_max: int = QUEUE_BYTES_MAX,
        group_commands_max: int = GROUP_COMMANDS_MAX,
    ) -> None:
        self.commands_max = commands_max
        self.bytes_max = bytes_max
        self.group_commands_max = group_commands_max
        self.commands = 0
        self.bytes = 0
        self._waiting: deque[Submission] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._last_group = 0
        self._awaited = 0
        self._all_here = threading.Event()

    def put(self, submissions: Sequence[Submission]) -> None:
        """Accept all of these or none: raises Overloaded when full, Stopping when closed."""
        commands = size = 0
        for submission in submissions:
            commands += len(submission.commands)
            size += submission.bytes
        with self._changed:
            if self._closed:
                raise Stopping(retry_after_s=RETRY_AFTER_S)
            if self.commands + commands > self.commands_max or self.bytes + size > self.bytes_max:
                raise Overloaded(retry_after_s=RETRY_AFTER_S)
            self.commands += commands
            self.bytes += size
            self._waiting.extend(submissions)
            self._changed.notify()
            if len(self._waiting) >= self._awaited:
                self._all_here.set()

    def take(self) -> list[Submission]:
        """Wait for work and return what fits one group, at least one submission; [] when closed and empty."""
        with self._changed:
            # Whoever was just answered may come back, and then nobody is left to wait for. Some are slow to.
            self._awaited = max(self._last_group + len(self._waiting), self._awaited * 7 // 8)
            self._all_here.clear()
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
        if self._last_group >= SIBLINGS_MIN:
            self._linger()
        with self._changed:
            return self._take_group()

    def _linger(self) -> None:
        """While more keep coming, wait a little: a commit costs nearly the same for one command and for many.

        The idea is PostgreSQL's commit_delay with commit_siblings. It begins once commands come several at a time, so
        a lone one never waits; it looks now and then rather than being woken by each, and ends when none came, or at
        once when as many are here as there were callers.
        """
        deadline = time.monotonic() + LINGER_MAX_S
        seen = 0
        while seen < self.commands < self.group_commands_max and time.monotonic() < deadline and not self._closed:
            seen = self.commands
            if self._all_here.wait(LINGER_STEP_S):
                return

    def _take_group(self) -> list[Submission]:
        taken: list[Submission] = []
        commands = size = 0
        while self._waiting:
            following = self._waiting[0]
            commands += len(following.commands)
            size += following.bytes
            if taken and (commands > self.group_commands_max or size > GROUP_BYTES_MAX):
                break
            taken.append(self._waiting.popleft())
            self.commands -= len(following.commands)
            self.bytes -= following.bytes
        self._last_group = len(taken)
        return taken

    def close(self) -> None:
        """Take nothing more; what was accepted is still handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
