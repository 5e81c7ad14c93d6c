"""Codes that were guessed wrong, by whose key: who tries many is made to wait. Each worker counts for itself."""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

from schema.errors import TooManyRequests
from schema.payment_errors import UnknownCode
from schema.times import SECOND_US

WRONG_A_MINUTE_MAX = 20
MINUTE_US = 60 * SECOND_US


class CodeGuesses:
    """When each caller named a code that there is not, within the last minute."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._wrong_us: dict[str, deque[int]] = {}

    @contextmanager
    def by(self, actor: str) -> Generator[None, None, None]:
        """Count what goes wrong inside; raises TooManyRequests where it did so too often."""
        now_us = self._clock()
        self._forget(now_us - MINUTE_US)
        times = self._wrong_us.get(actor)
        if times is not None and len(times) >= WRONG_A_MINUTE_MAX:
            wait_us = times[0] + MINUTE_US - now_us
            message = f"{WRONG_A_MINUTE_MAX} codes that there are not were tried within a minute"
            raise TooManyRequests(message, retry_after_s=max(1, -(-wait_us // SECOND_US)))
        try:
            yield
        except UnknownCode:
            self._wrong_us.setdefault(actor, deque(maxlen=WRONG_A_MINUTE_MAX)).append(now_us)
            raise

    def _forget(self, before_us: int) -> None:
        for actor, times in list(self._wrong_us.items()):
            while times and times[0] <= before_us:
                times.popleft()
            if not times:
                del self._wrong_us[actor]
