"""A receiver of webhooks for tests: a real HTTP server that fails when told to, and keeps what it took, in order."""

import json
import random
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.payment import is_signed


class Receiver:
    """Takes each `webhook-id` once. `chance` is that of a failure: half of them after it was taken."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.secrets: list[str] = []
        self.lock = threading.Lock()
        self.events: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.attempts = 0
        self.duplicates = 0
        self.wrong: list[str] = []
        self.chance = 0.0
        self.failing: set[int] = set()  # positions that are never taken
        self.random = random.Random(11)
        self.at: dict[int, Callable[[], object]] = {}  # what is done when so many were taken, before that is answered

    @property
    def positions(self) -> list[int]:
        return [int(event["sequence"]) for event in self.events]

    def types(self) -> list[str]:
        return [str(event["type"]) for event in self.events]

    def take(self, headers: Any, body: bytes) -> int | None:  # noqa: ANN401 - the server's
        """The status to answer with; None: no answer."""
        with self.lock:
            self.attempts += 1
            id_, timestamp, signature = (headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
            if not all(is_signed(secret, id_, timestamp, body, signature) for secret in self.secrets):
                self.wrong.append(f"{id_} is not signed by all secrets")
            event = json.loads(body)
            fails = self.random.random() < self.chance
            if int(event["sequence"]) in self.failing or (fails and self.random.random() < 0.5):
                return 500
            if id_ in self.ids:
                self.duplicates += 1
            else:
                self.ids.append(id_)
                self.events.append(event)
            then = self.at.pop(len(self.events), None)
        if then is not None:
            then()
        return None if fails else 204


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def do_POST(self) -> None:
        status = self.receiver.take(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: clients are killed here."""


@contextmanager
def receiving() -> Generator[Receiver]:
    bound: Any = type("Bound", (Handler,), {})
    server = Server(("127.0.0.1", 0), bound)
    bound.receiver = receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
