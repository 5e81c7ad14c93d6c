"""Hypothesis strategies: the fields of a call, and histories of commands that repeat, conflict, race and time out."""

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ledger.decision import Command
from tests.histories import DAY_US, HOUR_US, MINUTE_US, NOON_US, SECOND_US, call, finish, repeated, start, sweep

QUANTITY_MAX = 10**12
TORTURE_EXAMPLES = int(os.environ.get("TORTURE_EXAMPLES", "200"))

Fields = dict[str, Any]
Step = tuple[Any, ...]


def examples(n: int) -> settings:
    """That many examples, the same ones at every run; a slow machine is no failure."""
    return settings(
        max_examples=n,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


quantities = st.sampled_from((0, 1, QUANTITY_MAX)) | st.integers(0, QUANTITY_MAX)
seconds = st.sampled_from(("0", "12.5", "0.000001", "999999.999999"))


@st.composite
def usages(draw: st.DrawFn) -> Fields:
    """Consistent usage: the cached and the reasoning tokens are parts of their totals."""
    input_tokens, output_tokens = draw(quantities), draw(quantities)
    cached = draw(st.integers(0, input_tokens))
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cached,
        "cache_write_tokens": draw(st.integers(0, input_tokens - cached)),
        "reasoning_tokens": draw(st.integers(0, output_tokens)),
        "images": draw(quantities),
        "seconds": draw(seconds),
    }


free_data = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    max_size=3,
)

# What a start, an end and a finished call may all say.
shared_fields = st.fixed_dictionaries(
    {},
    optional={
        "provider": st.sampled_from(("openai", "anthropic")),
        "model": st.sampled_from(("gpt-4o", "sonnet", "é😀")),
        "type": st.sampled_from(("chat_completion", "embedding")),
        "user_id": optional(st.sampled_from(("u-1", "u-2"))),
        "credential_id": optional(st.just("cred-1")),
        "request_id": optional(st.just("r-1")),
        "trace_id": optional(st.just("t-1")),
        "metadata": optional(free_data),
    },
)
final_fields = st.fixed_dictionaries(
    {},
    optional={
        "duration_ms": optional(quantities),
        "ttfb_ms": optional(quantities),
        "usage": optional(usages()),
        "error": optional(st.just({"code": "rate_limited", "message": "slow\ndown"})),
    },
)
statuses = st.sampled_from(("success", "failed"))
ids = st.sampled_from(("c-1", "c-2", "c-3", "c-4", "c-5"))
apps = st.sampled_from(("a", "b"))
# Before the command, at the edges of hours and days, and ahead as far as is allowed.
starts_before_us = st.sampled_from((0, 1, 12 * HOUR_US, 12 * HOUR_US + 1, 40 * DAY_US, -23 * HOUR_US))
waits_us = st.sampled_from((0, 0, 1, SECOND_US, 50 * SECOND_US, 2 * MINUTE_US, -30 * SECOND_US))
timeouts_us = st.sampled_from((0, SECOND_US, MINUTE_US))

_records = st.tuples(st.just("record"), waits_us, ids, apps, starts_before_us, statuses, shared_fields, final_fields)
_starts = st.tuples(st.just("start"), waits_us, ids, apps, starts_before_us, timeouts_us, shared_fields)
_ends = st.tuples(st.just("finish"), waits_us, ids, apps, statuses, shared_fields, final_fields)
_sweeps = st.tuples(st.just("sweep"), waits_us, st.integers(1, 3))
_repeats = st.tuples(st.just("repeat"), waits_us, st.integers(0, 100))


def _command(step: Any, now_us: int, before: list[Command]) -> Command:  # noqa: ANN401 - a tuple of any width
    match step:
        case ("record", _, id_, app, back_us, status, shared, final):
            return call(id_, app=app, at_us=now_us, started_us=now_us - back_us, status=status, **{**shared, **final})
        case ("start", _, id_, app, back_us, timeout_us, shared):
            started_us = now_us - back_us
            return start(id_, app=app, at_us=now_us, started_us=started_us, timeout_us=timeout_us, **shared)
        case ("finish", _, id_, app, status, shared, final):
            return finish(id_, status, app=app, at_us=now_us, **{**shared, **final})
        case ("repeat", *_) if before:
            which: int = step[-1]
            return repeated(before[which % len(before)], now_us)
        case _:
            limit: int = step[-1]
            return sweep(now_us, limit)


def _history(steps: list[Step]) -> list[Command]:
    now_us = NOON_US
    commands: list[Command] = []
    for step in steps:
        now_us += step[1]
        commands.append(_command(step, now_us, commands))
    return commands


def histories(max_size: int = 25) -> st.SearchStrategy[list[Command]]:
    """Commands of every kind over a few ids of two apps."""
    steps = st.lists(_records | _starts | _ends | _sweeps | _repeats, min_size=1, max_size=max_size)
    return steps.map(_history)


# Events after which statistics are folded: some of the shipped number would never be reached.
tails = st.sampled_from((1, 3, 8, 4_096))
group_sizes = st.lists(st.integers(1, 12), min_size=1, max_size=5)
