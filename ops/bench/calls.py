"""The calls that benchmarks write: by default 20 apps, 30 models, 5,000 users in random order, one in 20 ms; seeded.

A user belongs to one app and uses three models, as people do. `scattered` draws app and model anew for each call: the
worst case for statistics by user, because then nearly every call is a cell of its own.
"""

import random
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from schema.times import format_time

APPS, MODELS, USERS, MODELS_PER_USER = 20, 30, 5_000, 3
STEP_US = 20_000
REASONS = ("rate_limited", "server", "timeout", "content", "auth")
START_US = 1_760_000_400_000_000


class Shape(Struct, frozen=True):
    """How many apps, models and users calls are of, and how many in a hundred fail."""

    apps: int = APPS
    models: int = MODELS
    users: int = USERS
    failed_percent: int = 0


class BenchCall(Struct):
    """One call, as the floors need it and as a body item."""

    id: str
    app: str
    model: str
    user_id: str
    started_at_us: int
    input_tokens: int
    output_tokens: int
    body: bytes


def bench_calls(  # noqa: PLR0913 - what calls are like
    count: int,
    *,
    seed: int = 1,
    random_ids: bool = False,
    scattered: bool = False,
    step_us: int = STEP_US,
    shape: Shape = Shape(),  # noqa: B008 - frozen
    start_us: int = START_US,
) -> Iterator[BenchCall]:
    """Calls in time order. Ids are UUIDv7-shaped (time-ordered) unless `random_ids`."""
    draw = random.Random(seed)  # noqa: S311 - sample data
    for n in range(count):
        started = start_us + n * step_us
        head = f"{draw.getrandbits(48):012x}" if random_ids else f"{started // 1000:012x}"
        tail = draw.getrandbits(74)
        id_ = f"{head[:8]}-{head[8:]}-7{tail >> 62:03x}-{0x8000 | tail & 0x3FFF:04x}-{tail >> 14 & 0xFFFFFFFFFFFF:012x}"
        user = draw.randrange(shape.users)
        app = draw.randrange(shape.apps) if scattered else user % shape.apps
        own = user // shape.apps + draw.randrange(MODELS_PER_USER)
        model = draw.randrange(shape.models) if scattered else own % shape.models
        call = BenchCall(
            id_,
            f"app-{app:02}",
            f"model-{model:02}",
            f"user-{user:04}",
            started,
            draw.randint(10, 5_000),
            draw.randint(1, 800),
            b"",
        )
        failed = shape.failed_percent and draw.randrange(100) < shape.failed_percent
        call.body = _body(call, draw, draw.choice(REASONS) if failed else None)
        yield call


def _body(call: BenchCall, draw: random.Random, reason: str | None) -> bytes:
    failed = {} if reason is None else {"error": {"code": reason, "message": "the vendor says so"}}
    return msgspec.json.encode(
        {
            "id": call.id,
            "app": call.app,
            "provider": "openai",
            "model": call.model,
            "type": "chat_completion",
            "status": "success" if reason is None else "failed",
            **failed,
            "started_at": format_time(call.started_at_us),
            "duration_ms": draw.randint(100, 9_000),
            "ttfb_ms": draw.randint(10, 900),
            "usage": {"input_tokens": call.input_tokens, "output_tokens": call.output_tokens},
            "user_id": call.user_id,
            "metadata": {"feature": "search"},
        }
    )
