"""The queue: bounded by number and by bytes, all or none, and nothing that was accepted is dropped."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger import queue
from ledger.queue import CommandQueue, Submission, resolve
from schema.errors import Overloaded, Stopping
from tests.histories import calls


def submission(commands: int = 1, size: int = 0) -> Submission:
    return Submission(calls(commands), size, None)


def test_the_number_of_commands_is_bounded() -> None:
    """As many commands as the bound fit, one more is refused, with the time after which to retry."""
    full = CommandQueue(commands_max=10)
    full.put([submission(4), submission(6)])
    with pytest.raises(Overloaded) as refused:
        full.put([submission(1)])
    assert refused.value.retryable
    assert refused.value.retry_after_s == queue.RETRY_AFTER_S
    with pytest.raises(Overloaded):
        CommandQueue(commands_max=10).put([submission(11)])


def test_the_number_of_bytes_is_bounded() -> None:
    """As many bytes as the bound fit, one more is refused."""
    full = CommandQueue(bytes_max=1_000)
    full.put([submission(size=400), submission(size=600)])
    with pytest.raises(Overloaded):
        full.put([submission(size=1)])
    full.put([submission(size=0)])
    with pytest.raises(Overloaded):
        CommandQueue(bytes_max=1_000).put([submission(size=1_001)])


def test_submissions_are_accepted_all_or_none() -> None:
    """Where one of several does not fit, none is taken and the bound is left as it was."""
    some = CommandQueue(commands_max=10)
    with pytest.raises(Overloaded):
        some.put([submission(6), submission(5)])
    assert (some.commands, some.bytes) == (0, 0)
    first = submission(10)
    some.put([first])
    assert some.take() == [first]


def test_what_is_taken_makes_room() -> None:
    """Handing out submissions gives back their number and bytes."""
    some = CommandQueue(commands_max=2, bytes_max=10)
    for _ in range(3):
        some.put([submission(2, 10)])
        some.take()
    assert (some.commands, some.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("sizes", "groups"), [([3, 3, 4], [3]), ([3, 3, 5], [2, 1]), ([11, 1], [1, 1]), ([10, 1], [1, 1])]
)
def test_a_group_is_bounded_by_number(sizes: list[int], groups: list[int]) -> None:
    """A group is filled up to its bound, in order; a single submission beyond it is a group by itself."""
    some = CommandQueue(group_commands_max=10)
    some.put([submission(size) for size in sizes])
    assert [len(some.take()) for _ in groups] == groups


@pytest.mark.parametrize(("sizes", "groups"), [([50, 50], [2]), ([50, 51], [1, 1]), ([101, 1], [1, 1])])
def test_a_group_is_bounded_by_bytes(sizes: list[int], groups: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise by bytes."""
    monkeypatch.setattr(queue, "GROUP_BYTES_MAX", 100)
    some = CommandQueue()
    some.put([submission(size=size) for size in sizes])
    assert [len(some.take()) for _ in groups] == groups


def test_a_closed_queue_hands_out_what_it_took() -> None:
    """After the close nothing more is taken, what was accepted is still handed out, and then the end is told."""
    some = CommandQueue(group_commands_max=1)
    first, second = submission(), submission()
    some.put([first, second])
    some.close()
    with pytest.raises(Stopping):
        some.put([submission()])
    assert [some.take(), some.take(), some.take()] == [[first], [second], []]


def put_one(some: CommandQueue) -> None:
    some.put([submission()])


@pytest.mark.parametrize("wake", [CommandQueue.close, put_one])
def test_whoever_waits_is_woken(wake: Callable[[CommandQueue], None]) -> None:
    """A consumer that waits on an empty queue is woken by a submission and by the close."""
    some = CommandQueue()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(some.take)
        wake(some)
        assert len(waiting.result(5)) in {0, 1}


def test_a_caller_that_gave_up_is_left_alone() -> None:
    """Answers to a cancelled future, or to a loop that is gone, harm nobody."""
    given_up, waiting = submission(), submission()
    given_up.future.cancel()
    resolve([(given_up, ["a"]), (waiting, ["b"])])
    assert waiting.future.result() == ["b"]
    loop = asyncio.new_event_loop()
    lost = Submission([], 0, loop)
    loop.close()
    lost.wake([(lost, [])])


def test_the_shipped_bounds() -> None:
    """Each bound is finite, and a group fits into the queue."""
    some = CommandQueue()
    assert (some.commands_max, some.bytes_max) == (50_000, 64 * 1024 * 1024)
    assert some.commands_max >= queue.GROUP_COMMANDS_MAX
    assert some.bytes_max >= queue.GROUP_BYTES_MAX
