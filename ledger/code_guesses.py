"""Codes of coupons that were guessed wrong, by whose key: who tries many is made to wait.

They are state, counted where codes are looked up: no race and no number of workers gives anybody a guess more.
"""

import apsw
import msgspec
from msgspec import Struct

from ledger.decision import Decision, WorkingSet
from ledger.state import Write, state_table
from schema.errors import TooManyRequests
from schema.times import MINUTE_US, SECOND_US

WRONG_A_MINUTE_MAX = 20
_times = msgspec.json.Decoder(list[int])


class GuessRow(Struct, frozen=True):
    """When somebody last named codes that there are not: `times_us` is a JSON array of WRONG_A_MINUTE_MAX at most."""

    actor: str
    last_us: int
    times_us: str


class WrongCode(Struct, frozen=True):
    """The report of a command that named a code that there is not: nothing happened, but it was counted."""


GUESSES = state_table("code_guesses", GuessRow)


def load(db: apsw.Connection, ws: WorkingSet, actor: str) -> None:
    """Bring in what somebody guessed wrong."""
    ws.state.load(db, GUESSES, [(actor,)])


def require_patience(ws: WorkingSet, actor: str, now_us: int) -> None:
    """Raise TooManyRequests where somebody guessed wrong too often."""
    times = _recent(ws, actor, now_us)
    if len(times) >= WRONG_A_MINUTE_MAX:
        wait_us = times[0] + MINUTE_US - now_us
        message = f"{WRONG_A_MINUTE_MAX} codes that there are not were tried within a minute"
        raise TooManyRequests(message, retry_after_s=max(1, -(-wait_us // SECOND_US)))


def wrong(ws: WorkingSet, actor: str, now_us: int) -> Decision:
    """One more wrong guess. Whose last is over is forgotten."""
    times = [*_recent(ws, actor, now_us), now_us]
    row = GuessRow(actor, now_us, msgspec.json.encode(times).decode())
    forget = Write("DELETE FROM code_guesses WHERE last_us <= ?", (now_us - MINUTE_US,))
    return Decision([], report=WrongCode(), state=[row], writes=[forget])


def _recent(ws: WorkingSet, actor: str, now_us: int) -> list[int]:
    """Within a minute, also of a clock that was set back meanwhile."""
    row = ws.state.get(GuessRow, actor)
    times: list[int] = [] if row is None else _times.decode(row.times_us)
    return sorted(at for at in times if abs(now_us - at) < MINUTE_US)
