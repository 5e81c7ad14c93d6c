"""Leasing credentials over HTTP, one by one, against a no-op route: a lease is to cost no more than it must."""

import httpx
from msgspec import Struct

from ops.bench import load
from ops.bench.calls import bench_calls
from ops.bench.ingest import SINGLE_CONNECTIONS, SingleResult, post_singles, scratch
from ops.bench.process import Service, ledger_service, noop_service

CREDENTIALS = 3
BODY = b'{"provider": "openai"}'


class LeaseResult(Struct):
    """Leases beside no-ops, and how many events they made, which is to be none."""

    run: SingleResult
    events: int


def singles(count: int, rounds: int) -> LeaseResult:
    """Measure `count` leases a round, and as many no-ops just before."""
    calls = list(bench_calls(count))
    found = SingleResult([], [], 0.0, 0.0)
    with scratch() as directory, ledger_service(directory / "data") as service, noop_service() as noop:
        _prepare(service)
        before = service.metric("usage_ledger_position")
        for _ in range(rounds):
            found.noop_per_s.append(count / post_singles(noop, "/noop", calls).seconds)
            result = lease(service, count)
            found.posts_per_s.append(count / result.seconds)
            found.p50_ms, found.p99_ms = result.quantile_ms(0.5), result.quantile_ms(0.99)
        return LeaseResult(found, service.metric("usage_ledger_position") - before)


def lease(service: Service, count: int) -> load.Result:
    """Lease one by one over 64 connections."""
    request = load.request(service.host, service.port, "/v1/credentials/lease", BODY, service.key)
    result = load.run(service.host, service.port, [request] * count, SINGLE_CONNECTIONS)
    assert set(result.statuses) == {201}
    return result


def _prepare(service: Service) -> None:
    url = f"http://{service.host}:{service.port}/v1/providers"
    with httpx.Client(headers={"Authorization": f"Bearer {service.key}"}) as client:
        client.post(url, json={"id": "openai", "name": "openai"}).raise_for_status()
        for n in range(CREDENTIALS):
            made = {"id": f"c-{n}", "secret": {"api_key": f"sk-bench-{n:032}"}, "daily_limit": 10**9, "weight": 5 - n}
            client.post(f"{url}/openai/credentials", json=made).raise_for_status()
