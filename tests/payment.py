"""A payment system for tests: a real HTTP server that drops replies, delays, refuses, and counts each id once."""

import base64
import hashlib
import hmac
import json
import random
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, urlsplit

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
Fault = Literal["drop", "lost", "late", "refuse", "busy"]


def is_signed(secret: str, id_: str, timestamp: str, body: bytes, header: str) -> bool:
    """Standard Webhooks, written down once more."""
    key = base64.b64decode(secret[len("whsec_") :])
    message = b".".join([id_.encode(), timestamp.encode(), body])
    mine = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
    return any(given == f"v1,{mine}" for given in header.split(" "))


class Payment:
    """What it took, by id. `fault` of a request: `drop` neither takes nor answers, `lost` takes and does not answer,
    `late` takes and answers after a while, `refuse` is a 400, `busy` a 503.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()
        self.taken: dict[str, dict[str, object]] = {}
        self.received = 0
        self.duplicates = 0
        self.wrong: list[str] = []  # what must never be
        self.faults: list[Fault] = []  # of the next requests, in order
        self.chance = 0.0  # of a fault by itself
        self.random = random.Random(7)
        self.forgets = False

    def fault(self) -> Fault | None:
        with self.lock:
            self.received += 1
            if self.faults:
                return self.faults.pop(0)
            if self.random.random() < self.chance:
                return self.random.choice(("drop", "lost", "late", "busy"))
            return None

    def take(self, batch: dict[str, object]) -> bool:
        """Whether it is new; the same id with other content is a fault of who sends."""
        with self.lock:
            id_ = str(batch["id"])
            if id_ not in self.taken:
                self.taken[id_] = batch
                return True
            self.duplicates += 1
            if self.taken[id_] != batch:
                self.wrong.append(f"{id_} has other content")
            return False

    def totals(self) -> dict[tuple[str, str], int]:
        """Units taken by app and customer."""
        with self.lock:
            found: dict[tuple[str, str], int] = {}
            for batch in self.taken.values():
                key = str(batch["app"]), str(batch["customer"])
                found[key] = found.get(key, 0) + int(str(batch["value"]))
            return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    system: Payment

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        batch = json.loads(body)
        if not self.signed(body) or self.headers["webhook-id"] != batch["id"]:
            self.system.wrong.append(f"{batch['id']} is not signed")
        fault = self.system.fault()
        if fault == "drop":
            self.close_connection = True
            return
        if fault in {"refuse", "busy"}:
            self.answer(400 if fault == "refuse" else 503, {})
            return
        is_new = self.system.take(batch)
        if fault == "lost":
            self.close_connection = True
            return
        if fault == "late":
            time.sleep(0.3)
        self.answer(200 if is_new else 409, {})

    def do_GET(self) -> None:
        query = urlsplit(self.path).query
        if not self.signed(query.encode()):
            self.system.wrong.append(f"{query} is not signed")
        asked = parse_qs(query)
        total = self.system.totals().get((asked["app"][0], asked["customer"][0]), 0)
        self.answer(200, {"value": str(total), "decimals": 10})

    def signed(self, body: bytes) -> bool:
        timestamp = self.headers["webhook-timestamp"]
        return is_signed(SECRET, self.headers["webhook-id"], timestamp, body, self.headers["webhook-signature"])

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # who asked was killed
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: clients are killed here."""


@contextmanager
def payment() -> Generator[Payment]:
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {}))
    system = Payment(f"http://127.0.0.1:{server.server_address[1]}/usage")
    server.RequestHandlerClass.system = system  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield system
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
