"""What rating costs: the same calls posted to a ledger with rates and to one without, in turn, round by round."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import harmonic_mean

import msgspec
from msgspec import Struct

from ledger.ledger import Ledger
from ledger.rate_acceptance import accept_rate
from ledger.writer import Appended
from ops.bench import ingest
from ops.bench.calls import MODELS, START_US, BenchCall, bench_calls
from ops.bench.process import Service, ledger_service
from schema.model_rate import ModelRateSet, SetModelRate

LONG_BEFORE = "2020-01-01T00:00:00Z"


class RatedResult(Struct):
    """Calls per second with and without rates, by round."""

    posts: str
    rated_per_s: list[float]
    unrated_per_s: list[float]

    @property
    def ratio(self) -> float:
        """Against the ledger without rates."""
        return harmonic_mean(self.rated_per_s) / harmonic_mean(self.unrated_per_s)


def batches(count: int, rounds: int) -> RatedResult:
    """Measure `count` calls in batches of 500, spread over rounds."""
    return _measure("batches of 500", list(bench_calls(count)), rounds, _post_batches)


def singles(count: int, rounds: int) -> RatedResult:
    """Measure `count` single posts a round."""
    return _measure("single posts, 64 connections", list(bench_calls(count * rounds)), rounds, _post_singles)


def _measure(
    posts: str, calls: Sequence[BenchCall], rounds: int, post: Callable[[Service, Sequence[BenchCall]], float]
) -> RatedResult:
    found = RatedResult(posts, [], [])
    with (
        ingest.scratch() as directory,
        ledger_service(directory / "unrated") as unrated,
        ledger_service(directory / "rated", set_rates) as rated,
    ):
        for n in range(rounds):
            part = calls[n * len(calls) // rounds : (n + 1) * len(calls) // rounds]
            # Who is first changes, so that what slows down within a round falls on both.
            pairs = [(unrated, found.unrated_per_s), (rated, found.rated_per_s)]
            for service, per_s in pairs if n % 2 else reversed(pairs):
                per_s.append(len(part) / post(service, part))
    return found


def _post_batches(service: Service, calls: Sequence[BenchCall]) -> float:
    return ingest.post_batches(service, calls).seconds


def _post_singles(service: Service, calls: Sequence[BenchCall]) -> float:
    return ingest.post_singles(service, "/v1/model-calls", calls).seconds


def set_rates(data_dir: Path) -> None:
    """A rate for each model of the calls: two tiers, a cache price, and what the vendor asks."""
    ledger = Ledger(data_dir)
    ledger.open(START_US)
    try:
        outcomes = ledger.execute_now([_rate(f"model-{n:02}") for n in range(MODELS)])
    finally:
        ledger.close()
    assert all(isinstance(outcome, Appended) for outcome in outcomes)


def _rate(model: str) -> SetModelRate:
    vendor = {"input": "0.00000125", "output": "0.00001", "cache_read": "0.000000125"}
    dearer = {"input": "0.0000025", "output": "0.000015", "cache_read": "0.00000025"}
    posted = {
        "id": model, "provider": "openai", "model": model, "effective_from": LONG_BEFORE, "mode": "upstream",
        "markup": "1.2", "vendor": {**vendor, "tiers": [{"above": 1_000, **dearer}]},
    }  # fmt: skip
    rate = msgspec.convert(posted, ModelRateSet)
    accept_rate(rate)
    return SetModelRate(actor="bench", received_at_us=START_US, rate=rate)
