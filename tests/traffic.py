"""Clients that post at once and remember what they were told, and a reader that holds the journal against that."""

import json
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from threading import Event
from time import sleep
from typing import Any

from schema.times import DAY_US, parse_time
from tests.server import POLL_S, Answer, Disconnected, Server, ask
from tests.serving import APP, CALLS, a_call, at

Json = dict[str, Any]

FIRST_START_US = parse_time("2025-03-30T00:00:00Z")
CLIENTS = 4
BATCH_CALLS_MAX = 20
MEASURES = (
    "calls", "succeeded", "failed", "input_tokens", "output_tokens", "cache_read_tokens", "duration_ms_sum",
    "ttfb_ms_sum", "ttfb_calls",
)  # fmt: skip
Cell = tuple[str, str, str]  # hour, app, model


@dataclass(frozen=True)
class Posting:
    """A request, and the ids of the events that it asks for."""

    path: str
    body: bytes
    events: Sequence[str]
    content_type: str = "application/json"


@dataclass
class Claims:
    """What was posted, and what came of it. Clients share one; each id is of one client."""

    contents: dict[str, Json] = field(default_factory=dict[str, Json])
    positions: dict[str, int] = field(default_factory=dict[str, int])
    unanswered: list[Posting] = field(default_factory=list[Posting])
    refused: list[Posting] = field(default_factory=list[Posting])
    met: Counter[str] = field(default_factory=Counter[str])

    def settle(self, posting: Posting, answer: Answer) -> dict[str, bool]:
        """Take in an answer; returns each event that it acknowledges, and whether as a duplicate."""
        self.met[str(answer.status)] += 1
        if answer.status == 503:
            assert answer.json()["code"] == "stopping"
            self.refused.append(posting)
            return {}
        assert answer.status in {200, 201, 207}, answer.content
        body = answer.json()
        items: list[Json] = body["items"] if answer.status == 207 else [{**body, "status": _fate(answer)}]
        assert {item["status"] for item in items} <= {"accepted", "duplicate"}, answer.content
        found: dict[str, bool] = {}
        for event, item in zip(posting.events, items, strict=True):
            assert self.positions.setdefault(event, item["position"]) == item["position"]
            found[event] = item["status"] == "duplicate"
        return found


def _fate(answer: Answer) -> str:
    assert answer.json()["duplicate"] == (answer.status == 200)
    return "duplicate" if answer.status == 200 else "accepted"


class Client:
    """One connection that posts singles, arrays, NDJSON, long calls and repeats, in an order of its own."""

    def __init__(self, server: Server, claims: Claims, name: str) -> None:
        self.connection = server.connect()
        self.claims = claims
        self.name = name
        self.acknowledged = 0
        self._dice = Random(name)
        self._numbers = count()
        self._started: list[str] = []
        self._answered: list[Posting] = []

    def run(self, stop: Event, *, through: bool) -> None:
        """Post until told to stop; where the server goes away, end, or go `through` that by trying again."""
        with closing(self.connection):
            while not stop.is_set():
                posting = self._next()
                try:
                    self.post(posting)
                except Disconnected as error:
                    self.connection.close()
                    self.claims.met[type(error).__name__] += 1
                    self.claims.unanswered.append(posting)
                    if not through:
                        return
                    sleep(POLL_S)

    def post(self, posting: Posting) -> dict[str, bool]:
        """Post and remember the answer; raises one of `Disconnected` where there is none."""
        headers = {"Content-Type": posting.content_type}
        answer = ask(self.connection, "POST", posting.path, APP, posting.body, headers)
        found = self.claims.settle(posting, answer)
        self.acknowledged += len(found)
        if found:
            self._answered = [*self._answered[-9:], posting]
        if posting.path.endswith("/start"):
            self._started += [event for event, duplicate in found.items() if not duplicate]
        return found

    def _next(self) -> Posting:
        kind = self._dice.random()
        if kind < 0.15 and self._started:
            return self._complete(self._started.pop())
        if kind < 0.2 and self._answered:
            return self._dice.choice(self._answered)
        if kind < 0.4:
            return self._start()
        if kind < 0.7:
            return self._remember(CALLS, [self._call()])
        calls = [self._call() for _ in range(self._dice.randint(1, BATCH_CALLS_MAX))]
        return self._remember(CALLS, calls, "array" if kind < 0.85 else "lines")

    def _call(self) -> Json:
        dice = self._dice
        usage = {
            "input_tokens": 1_000 + dice.randrange(10**9),
            "output_tokens": dice.randrange(10**6),
            "cache_read_tokens": dice.randint(1, 1_000),
        }
        return a_call(
            f"{self.name}-{next(self._numbers)}",
            model=dice.choice(("gpt-4o", "sonnet", "haiku")), status=dice.choice(("success", "success", "failed")),
            started_at=at(FIRST_START_US + dice.randrange(3 * DAY_US)), duration_ms=dice.randrange(10_000),
            ttfb_ms=dice.choice((None, dice.randrange(1_000))), user_id=f"u-{dice.randrange(5)}", usage=usage,
        )  # fmt: skip

    def _start(self) -> Posting:
        call = {name: value for name, value in self._call().items() if name not in _ENDS}
        return self._remember(f"{CALLS}/{call['id']}/start", [call])

    def _complete(self, id_: str) -> Posting:
        end = {"duration_ms": self._dice.randrange(10_000), "usage": {"input_tokens": 7, "output_tokens": 5}}
        event = f"{id_}/complete"
        self.claims.contents[event] = end
        return Posting(f"{CALLS}/{event}", json.dumps(end).encode(), [event])

    def _remember(self, path: str, calls: list[Json], form: str = "one") -> Posting:
        for call in calls:
            self.claims.contents[call["id"]] = call
        events = [call["id"] for call in calls]
        if form == "lines":
            body = "".join(f"{json.dumps(call)}\n" for call in calls).encode()
            return Posting(path, body, events, "application/x-ndjson")
        return Posting(path, json.dumps(calls if form == "array" else calls[0]).encode(), events)


_ENDS = ("status", "duration_ms", "ttfb_ms", "usage")


@contextmanager
def posting(clients: Sequence[Client], *, through: bool = False) -> Generator[list["Future[None]"], None, None]:
    """All of them post during the block; what one of them met that it should not have is raised at the end."""
    stop = Event()
    with ThreadPoolExecutor(len(clients)) as threads:
        running = [threads.submit(client.run, stop, through=through) for client in clients]
        try:
            yield running
        finally:
            stop.set()
        for each in running:
            each.result()


def clients_of(server: Server, claims: Claims, name: str, number: int = CLIENTS) -> list[Client]:
    return [Client(server, claims, f"{name}-{n}") for n in range(number)]


class Replay:
    """The journal as it is read over HTTP, entry by entry, and the statistics it must come to."""

    def __init__(self) -> None:
        self.position = 0
        self.events: dict[str, int] = {}
        self.cells: dict[Cell, Counter[str]] = {}

    def check(self, server: Server, claims: Claims) -> None:
        """Read on to the head; all that was acknowledged is there once, and nothing that nobody posted.

        What is there is as it was posted; the totals of the statistics are those of the entries.
        """
        self.follow(server, claims)
        missing = {event: at for event, at in claims.positions.items() if self.events.get(event) != at}
        assert missing == {}, "acknowledged, but not in the journal at the receipt's position"
        assert not self.events.keys() & {event for posting in claims.refused for event in posting.events}
        assert totals(server) == self.total()

    def follow(self, server: Server, claims: Claims) -> None:
        """Read on to the head."""
        with closing(server.connect()) as connection:
            while lines := ask(connection, "GET", f"/v1/events?after={self.position}", "auditor").content.splitlines():
                for line in lines:
                    self._take(json.loads(line), claims)

    def _take(self, entry: Json, claims: Claims) -> None:
        self.position += 1
        event, data = entry["id"], entry["data"]
        assert int(entry["sequence"]) == self.position
        assert event not in self.events
        self.events[event] = self.position
        if not entry["type"].startswith("model_call."):
            return
        if data["app"] == APP:
            posted = {name: value for name, value in claims.contents[event].items() if value is not None}
            assert posted.items() <= data.items()
        if not entry["type"].startswith("model_call.started."):
            key = (f"{data['started_at'][:13]}:00:00.000000Z", data["app"], data["model"])
            self.cells.setdefault(key, Counter()).update(measured(data))

    def settle(self, server: Server, claims: Claims) -> None:
        """Check; then post again what had no answer: what is there is a duplicate, what is not is accepted now."""
        self.check(server, claims)
        client, again = Client(server, claims, "again"), set[str]()
        with closing(client.connection):
            for posting in claims.unanswered:
                for event, duplicate in client.post(posting).items():
                    assert duplicate == (event in self.events or event in again)
                    again.add(event)
        claims.unanswered.clear()

    def total(self) -> Json:
        return self.by()[()]

    def by(self, *parts: int) -> dict[tuple[str, ...], Json]:
        """The sums by some parts of a cell's key: 0 the hour, 1 the app, 2 the model."""
        found: dict[tuple[str, ...], Counter[str]] = {} if parts else {(): Counter()}
        for key, cell in self.cells.items():
            found.setdefault(tuple(key[part] for part in parts), Counter()).update(cell)
        return {key: picked(cell) for key, cell in found.items()}


def measured(call: Json) -> dict[str, int]:
    """What a finished call adds to the statistics."""
    usage: Json = call.get("usage") or {}
    ttfb = call.get("ttfb_ms")
    return {
        "calls": 1, "succeeded": call["status"] == "success", "failed": call["status"] != "success",
        "input_tokens": usage.get("input_tokens") or 0, "output_tokens": usage.get("output_tokens") or 0,
        "cache_read_tokens": usage.get("cache_read_tokens") or 0, "duration_ms_sum": call.get("duration_ms") or 0,
        "ttfb_ms_sum": ttfb or 0, "ttfb_calls": ttfb is not None,
    }  # fmt: skip


def picked(measures: Json) -> Json:
    return {name: measures[name] for name in MEASURES}


def totals(server: Server) -> Json:
    """The statistics' totals, over everything."""
    return picked(server.get("/v1/model-call-stats").json()["totals"])
