"""What charging costs: the same rated calls posted to a ledger with accounts and to one without, in turn.

Holds are posted one by one, against a route that does nothing but decode a call.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import harmonic_mean
from typing import Literal

import msgspec
from msgspec import Struct

from ledger.decision import Command
from ledger.ledger import Ledger
from ledger.writer import Appended
from ops.bench import ingest, load
from ops.bench.calls import APPS, START_US, USERS, bench_calls
from ops.bench.process import Service, ledger_service, noop_service
from ops.bench.rated import set_rates
from schema.account import AccountCreated, CreateAccount, Owner
from schema.credit import CreditAccount, PostedCredit

Owners = Literal["app", "user"]
CREDIT = "10000000"


class ChargedResult(Struct):
    """Calls per second with and without accounts, by round."""

    owners: Owners
    charged_per_s: list[float]
    uncharged_per_s: list[float]

    @property
    def ratio(self) -> float:
        """Against the ledger without accounts."""
        return harmonic_mean(self.charged_per_s) / harmonic_mean(self.uncharged_per_s)


class HoldResult(Struct):
    """Holds at 64 connections and the no-op route, requests per second by round."""

    holds_per_s: list[float]
    noop_per_s: list[float]
    p50_ms: float

    @property
    def ratio(self) -> float:
        """Against the no-op route."""
        return harmonic_mean(self.holds_per_s) / harmonic_mean(self.noop_per_s)


def batches(count: int, rounds: int, owners: Owners) -> ChargedResult:
    """Measure `count` calls in batches of 500: 20 accounts of apps, or 5,000 of users, each with a balance."""
    calls = list(bench_calls(count))
    found = ChargedResult(owners, [], [])
    with (
        ingest.scratch() as directory,
        ledger_service(directory / "uncharged", set_rates) as uncharged,
        ledger_service(directory / "charged", _with_accounts(owners)) as charged,
    ):
        for n in range(rounds):
            part = calls[n * count // rounds : (n + 1) * count // rounds]
            pairs = [(uncharged, found.uncharged_per_s), (charged, found.charged_per_s)]
            for service, per_s in pairs if n % 2 else reversed(pairs):
                per_s.append(len(part) / ingest.post_batches(service, part).seconds)
    return found


def holds(count: int, rounds: int) -> HoldResult:
    """Measure `count` holds a round, spread over the accounts of 5,000 users, and as many no-ops before."""
    calls = list(bench_calls(count * rounds))
    found = HoldResult([], [], 0.0)
    with (
        ingest.scratch() as directory,
        ledger_service(directory / "data", _with_accounts("user")) as service,
        noop_service() as noop,
    ):
        for n in range(rounds):
            part = calls[n * count : (n + 1) * count]
            found.noop_per_s.append(count / ingest.post_singles(noop, "/noop", part).seconds)
            requests = [_hold(service, call.user_id, call.id, call.app) for call in part]
            result = load.run(service.host, service.port, requests, ingest.SINGLE_CONNECTIONS)
            assert set(result.statuses) == {201}
            found.holds_per_s.append(count / result.seconds)
            found.p50_ms = result.quantile_ms(0.5)
    return found


def _hold(service: Service, user: str, id_: str, app: str) -> bytes:
    body = msgspec.json.encode({"id": id_, "amount": "0.05", "expires_in_s": 3600, "app": app})
    return load.request(service.host, service.port, f"/v1/accounts/{user}/holds", body, service.key)


def _with_accounts(owners: Owners) -> Callable[[Path], None]:
    names = [f"user-{n:04}" for n in range(USERS)] if owners == "user" else [f"app-{n:02}" for n in range(APPS)]

    def fill(data_dir: Path) -> None:
        set_rates(data_dir)
        ledger = Ledger(data_dir, durability="os")
        ledger.open(START_US)
        try:
            _run(ledger, (CreateAccount("bench", START_US, _account(owners, name)) for name in names))
            _run(ledger, (_credit(name) for name in names))
        finally:
            ledger.close()

    return fill


def _account(owners: Owners, name: str) -> AccountCreated:
    return AccountCreated(id=name, owner=Owner(kind=owners, id=name))


def _credit(name: str) -> CreditAccount:
    posted = PostedCredit(id="first", kind="recharge", amount=CREDIT, free=False)
    return CreditAccount(actor="bench", received_at_us=START_US, account=name, credit=posted)


def _run(ledger: Ledger, commands: Iterable[Command]) -> None:
    wanted: Sequence[Command] = list(commands)
    assert all(isinstance(outcome, Appended) for outcome in ledger.execute_now(wanted))
