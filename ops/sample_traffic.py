"""Sample model calls, drawn from a seed: for demonstrations, benchmarks and tests without real data.

Token lengths and gaps between calls follow two production services, coding and conversation, by the quantile
tables below: rounded summary statistics of the LLM inference traces of 2023 in the Azure Public Dataset,
CC-BY 4.0; P. Patel et al., "Splitwise: Efficient generative LLM inference using phase splitting", ISCA 2024.

The traces cover one hour of one day and hold neither latencies nor users, so the hour-of-day curve, the
latencies, the failures and all names here are plausible inventions. Gaps are drawn independently: drifts
within an hour are not modelled, and neither is a link between input and output length, which the traces
hardly show (rank correlation -0.02 for coding, 0.07 for conversation).
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import itemgetter
from random import Random
from typing import Protocol, TypeVar
from uuid import UUID

from schema.times import HOUR_US, format_time

# (per mille of the draws, value there), rising in both; linear in between.
Quantiles = tuple[tuple[int, int], ...]

CODE_INPUT_TOKENS: Quantiles = (
    (0, 3), (10, 17), (50, 75), (100, 150), (250, 580), (400, 1_080), (500, 1_470), (600, 1_910),
    (750, 2_740), (900, 5_190), (950, 7_300), (1_000, 7_440),
)  # fmt: skip
CODE_OUTPUT_TOKENS: Quantiles = (
    (0, 6), (100, 7), (250, 9), (400, 11), (500, 13), (600, 16), (750, 24), (900, 55), (950, 90),
    (980, 170), (990, 250), (999, 820), (1_000, 1_900),
)  # fmt: skip
CODE_GAPS: Quantiles = (
    (0, 0), (100, 1), (250, 5), (400, 39), (500, 164), (600, 244), (750, 267), (900, 700), (950, 1_030),
    (980, 2_050), (990, 5_660), (995, 26_000), (998, 103_000), (999, 201_000), (1_000, 557_000),
)  # fmt: skip
CONVERSATION_INPUT_TOKENS: Quantiles = (
    (0, 2), (10, 29), (50, 180), (100, 205), (200, 387), (300, 403), (400, 700), (500, 1_020), (600, 1_070),
    (750, 1_190), (900, 2_730), (950, 4_080), (990, 4_140), (999, 6_200), (1_000, 14_000),
)  # fmt: skip
CONVERSATION_OUTPUT_TOKENS: Quantiles = (
    (0, 7), (10, 16), (50, 41), (100, 54), (250, 85), (400, 103), (500, 129), (600, 177), (700, 384),
    (750, 395), (900, 424), (950, 451), (990, 600), (1_000, 1_000),
)  # fmt: skip
CONVERSATION_GAPS: Quantiles = (
    (0, 0), (50, 35), (100, 89), (250, 267), (400, 483), (500, 655), (600, 877), (750, 1_360), (900, 2_330),
    (950, 3_130), (990, 4_920), (999, 7_910), (1_000, 23_900),
)  # fmt: skip

# Relative calls by UTC hour: quiet nights, a dip at noon, the peak in the afternoon.
CALLS_BY_HOUR = (
    18, 14, 12, 11, 12, 16, 26, 44, 68, 88, 96, 98,
    90, 94, 100, 99, 92, 82, 66, 54, 46, 38, 31, 24,
)  # fmt: skip
HOUR_NOISE_PERCENT = (85, 115)
FAILED_PER_MILLE = 30
RETRIED_PER_MILLE = 20
CREDENTIAL_PERCENT = 70
IMAGES_MAX = 4
TTFB_SIGMA = 0.30
UNIT_SIGMA = 0.20


class Weighted(Protocol):
    """Anything that is drawn in proportion to its weight."""

    @property
    def weight(self) -> int: ...


Option = TypeVar("Option", bound=Weighted)


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model and how fast it is; percents say how many of its calls have any tokens of that subset."""

    provider: str
    name: str
    weight: int
    type: str = "chat_completion"
    streams: bool = True
    ttfb_ms: int
    input_token_us: int
    unit_us: int  # of an output token, or of an image
    cache_read_percent: int = 0
    cache_write_percent: int = 0
    reasoning_percent: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A kind of application; the weights of the two are the traces' calls in their hour."""

    weight: int
    input_tokens: Quantiles
    output_tokens: Quantiles
    gaps: Quantiles  # in thousandths of the mean gap
    models: tuple[Model, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A way to fail: a failed call has no output, and input only where the vendor had read it."""

    code: str
    message: str
    weight: int
    wait_ms: tuple[int, int]
    answers: bool = True
    reads_input: bool = False


@dataclass(frozen=True, slots=True)
class App:
    """An application; its kind decides what it calls, how often and with how much."""

    id: str
    profile: Profile

    @property
    def weight(self) -> int:
        """Its share of the calls, relative to the other apps."""
        return self.profile.weight


CONVERSATION = Profile(
    weight=19_366,
    input_tokens=CONVERSATION_INPUT_TOKENS,
    output_tokens=CONVERSATION_OUTPUT_TOKENS,
    gaps=CONVERSATION_GAPS,
    models=(
        Model(
            provider="openai", name="gpt-4o", weight=34,
            ttfb_ms=240, input_token_us=110, unit_us=12_000, cache_read_percent=35,
        ),
        Model(
            provider="google", name="gemini-2.5-flash", weight=24,
            ttfb_ms=210, input_token_us=60, unit_us=6_000, cache_read_percent=20, reasoning_percent=40,
        ),
        Model(
            provider="anthropic", name="claude-sonnet-4-5", weight=20,
            ttfb_ms=420, input_token_us=140, unit_us=15_000, cache_read_percent=45, cache_write_percent=25,
        ),
        Model(
            provider="openai", name="text-embedding-3-small", weight=18, type="embedding", streams=False,
            ttfb_ms=45, input_token_us=20, unit_us=0,
        ),
        Model(
            provider="openai", name="gpt-image-1", weight=4, type="image_generation", streams=False,
            ttfb_ms=900, input_token_us=100, unit_us=7_000_000,
        ),
    ),
    features=("chat", "search", "summarise", "translate"),
)  # fmt: skip
CODE = Profile(
    weight=8_819,
    input_tokens=CODE_INPUT_TOKENS,
    output_tokens=CODE_OUTPUT_TOKENS,
    gaps=CODE_GAPS,
    models=(
        Model(
            provider="anthropic", name="claude-sonnet-4-5", weight=45,
            ttfb_ms=420, input_token_us=140, unit_us=15_000, cache_read_percent=60, cache_write_percent=35,
        ),
        Model(
            provider="mistral", name="codestral-latest", weight=35,
            ttfb_ms=130, input_token_us=50, unit_us=7_000,
        ),
        Model(
            provider="openai", name="gpt-5-mini", weight=20,
            ttfb_ms=350, input_token_us=80, unit_us=8_000, cache_read_percent=30, reasoning_percent=60,
        ),
    ),
    features=("complete", "explain", "review"),
)  # fmt: skip
FAILURES = (
    Failure(code="rate_limited", message="Too many requests; slow down.", weight=60, wait_ms=(20, 250)),
    Failure(code="timeout", message="No answer in time.", weight=25, wait_ms=(30_000, 60_000), answers=False),
    Failure(
        code="content_filter", message="The content policy refused the request.", weight=15,
        wait_ms=(150, 900), reads_input=True,
    ),
)  # fmt: skip


class Dice(Random):
    """Repeatable draws: sample data has nothing to keep secret, and a cryptographic source takes no seed."""

    def quantile(self, table: Quantiles) -> int:
        """Inverse of the distribution function at a uniform draw, in whole numbers."""
        draw = self.randrange(1_000_000)
        for (low, least), (high, most) in pairwise(table):
            if draw < high * 1_000:
                return least + (most - least) * (draw - low * 1_000) // ((high - low) * 1_000)
        return table[-1][1]

    def pick(self, options: Sequence[Option]) -> Option:
        """One of them, in proportion to its weight."""
        return self.choices(options, [option.weight for option in options])[0]

    def part(self, whole: int, percent: int) -> int:
        """Some part of the whole in so many percent of the draws, else 0."""
        return self.randint(0, whole) if self.randrange(100) < percent else 0

    def split(self, whole: int, weights: Sequence[int]) -> Iterator[int]:
        """The whole in shares proportional to the weights; they add up to it, small ones fall anywhere."""
        total = sum(weights)
        offset = self.randrange(total)
        marks = ((whole * mark + offset) // total for mark in accumulate(weights, initial=0))
        return (high - low for low, high in pairwise(marks))

    def hex(self, digits: int) -> str:
        """So many hexadecimal digits."""
        return f"{self.getrandbits(4 * digits):0{digits}x}"

    def uuid7(self, time_us: int) -> str:
        """RFC 9562, version 7; the 12 bits below the millisecond keep the ids of one millisecond in order."""
        ms, us = divmod(time_us, 1_000)
        bits = ms << 80 | 0x7 << 76 | us * 4_096 // 1_000 << 64 | 0b10 << 62 | self.getrandbits(62)
        return str(UUID(int=bits))


class Traffic:
    """Calls of some apps, which are in turn conversation and coding; a seed always gives the same calls."""

    def __init__(self, seed: int, *, apps: Sequence[str], users: int = 200) -> None:
        if not apps or len(set(apps)) < len(apps) or users < 1:
            message = "Sample traffic needs at least one app, each named once, and at least one user"
            raise ValueError(message)
        self._seed = seed
        self._apps = [App(app, CODE if index % 2 else CONVERSATION) for index, app in enumerate(apps)]
        self._users = [f"u-{number}" for number in range(1, users + 1)]
        # Zipf's law: the n-th user calls 1/n as often as the first.
        self._user_weights = list(accumulate(1 / number for number in range(1, users + 1)))
        self._live = Dice(f"{seed}/live")

    def history(self, start_us: int, end_us: int, calls: int) -> Iterator[dict[str, object]]:
        """So many calls that started in [start, end), microseconds since 1970, in order of their start.

        The same arguments give the same calls again. Memory grows with the calls of an app's busiest hour.
        """
        if start_us >= end_us or calls < 0:
            message = "A history needs a start before its end and no negative number of calls"
            raise ValueError(message)
        seed = f"{self._seed}/{start_us}/{end_us}/{calls}"
        shares = Dice(seed).split(calls, [app.weight for app in self._apps])
        streams = [
            self._stream(Dice(f"{seed}/{app.id}"), app, start_us, end_us, share)
            for app, share in zip(self._apps, shares, strict=True)
        ]
        return (call for _, call in heapq.merge(*streams, key=itemgetter(0)))

    def live(self, now_us: int) -> dict[str, object]:
        """One call that has just ended; each is another draw."""
        app = self._live.pick(self._apps)
        outcome, duration_ms = draw_outcome(self._live, app.profile)
        return self._call(self._live, app, now_us - duration_ms * 1_000, outcome)

    def _stream(
        self, dice: Dice, app: App, start_us: int, end_us: int, calls: int
    ) -> Iterator[tuple[int, dict[str, object]]]:
        for time_us in arrivals(dice, app.profile.gaps, start_us, end_us, calls):
            outcome, _ = draw_outcome(dice, app.profile)
            yield time_us, self._call(dice, app, time_us, outcome)

    def _call(self, dice: Dice, app: App, time_us: int, outcome: dict[str, object]) -> dict[str, object]:
        call: dict[str, object] = {
            "id": dice.uuid7(time_us),
            "app": app.id,
            "started_at": format_time(time_us),
            **outcome,
            "user_id": dice.choices(self._users, cum_weights=self._user_weights)[0],
            "request_id": f"req-{dice.hex(16)}",
            "trace_id": dice.hex(32),
            "attempt": 2 if dice.randrange(1_000) < RETRIED_PER_MILLE else 1,
            "metadata": {"feature": dice.choice(app.profile.features)},
        }
        if dice.randrange(100) < CREDENTIAL_PERCENT:
            call["credential_id"] = f"{outcome['provider']}-{dice.randint(1, 3)}"
        return call


def arrivals(dice: Dice, gaps: Quantiles, start_us: int, end_us: int, calls: int) -> Iterator[int]:
    """So many rising times in [start, end): each hour has its share by the curve, spread by the gaps."""
    hours = list(_hours(start_us, end_us))
    weights = [
        CALLS_BY_HOUR[low // HOUR_US % 24] * (high - low) * dice.randint(*HOUR_NOISE_PERCENT) for low, high in hours
    ]
    for (low, high), share in zip(hours, dice.split(calls, weights), strict=True):
        yield from _bursts(dice, gaps, low, high - low, share)


def _hours(start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    edges = range(start_us // HOUR_US * HOUR_US + HOUR_US, end_us, HOUR_US)
    return pairwise((start_us, *edges, end_us))


def _bursts(dice: Dice, gaps: Quantiles, start_us: int, length_us: int, calls: int) -> list[int]:
    # The gaps go round a circle with a random first point: so a lone call falls anywhere in the hour, where
    # gaps laid in a line would press it against one of the edges. The added 1 keeps their sum positive.
    marks = list(accumulate(dice.quantile(gaps) + 1 for _ in range(calls)))
    first = dice.randrange(length_us)
    return sorted(start_us + (first + length_us * mark // marks[-1]) % length_us for mark in marks)


def draw_outcome(dice: Dice, profile: Profile) -> tuple[dict[str, object], int]:
    """What was asked of which model and how it went, and the duration in milliseconds."""
    model = dice.pick(profile.models)
    usage = _draw_usage(dice, profile, model)
    asked: dict[str, object] = {"provider": model.provider, "model": model.name, "type": model.type}
    if dice.randrange(1_000) < FAILED_PER_MILLE:
        return _failed(dice, asked, usage)
    ttfb_ms, duration_ms = _draw_latency(dice, model, usage)
    times = {"duration_ms": duration_ms, "ttfb_ms": ttfb_ms}
    return {**asked, "status": "success", **times, "usage": usage}, duration_ms


def _draw_usage(dice: Dice, profile: Profile, model: Model) -> dict[str, int]:
    input_tokens = dice.quantile(profile.input_tokens)
    output_tokens = dice.quantile(profile.output_tokens) if model.type == "chat_completion" else 0
    cache_read = dice.part(input_tokens, model.cache_read_percent)
    usage = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cache_read,
        "cache_write_tokens": dice.part(input_tokens - cache_read, model.cache_write_percent),
        "reasoning_tokens": dice.part(output_tokens, model.reasoning_percent),
    }
    if model.type == "image_generation":
        usage["images"] = dice.randint(1, IMAGES_MAX)
    return usage


def _draw_latency(dice: Dice, model: Model, usage: dict[str, int]) -> tuple[int, int]:
    """Milliseconds to the first byte, growing with the input, and in all, growing with the output."""
    wait_us = model.ttfb_ms * 1_000 + usage["input_tokens"] * model.input_token_us
    work_us = (usage["output_tokens"] + usage.get("images", 0)) * model.unit_us
    ttfb_ms = int(wait_us * dice.lognormvariate(0, TTFB_SIGMA)) // 1_000
    duration_ms = ttfb_ms + int(work_us * dice.lognormvariate(0, UNIT_SIGMA)) // 1_000
    return (ttfb_ms if model.streams else duration_ms), duration_ms


def _failed(dice: Dice, asked: dict[str, object], usage: dict[str, int]) -> tuple[dict[str, object], int]:
    failure = dice.pick(FAILURES)
    duration_ms = dice.randint(*failure.wait_ms)
    outcome: dict[str, object] = {
        **asked,
        "status": "failed",
        "duration_ms": duration_ms,
        "usage": dict.fromkeys(usage, 0) | {"input_tokens": usage["input_tokens"] * failure.reads_input},
        "error": {"code": failure.code, "message": failure.message},
    }
    if failure.answers:
        outcome["ttfb_ms"] = duration_ms
    return outcome, duration_ms
