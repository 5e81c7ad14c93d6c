"""A vendor for tests: an HTTP server whose answers are scripted by key."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Vendor:
    """Answers `GET /models` by key: with the status that was set for it, 200 where none was.

    What it lists are `models`; what is wrong it tells with the key in its mouth. `raw` replaces any body.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.statuses: dict[str, int] = {}
        self.asked: list[str] = []
        self.models: list[str] = []
        self.raw: bytes | None = None
        self.location: str | None = None

    def status_of(self, key: str) -> int:
        self.asked.append(key)
        return self.statuses.get(key, 200)

    def body(self, status: int, key: str) -> bytes:
        if self.raw is not None:
            return self.raw
        if status == 200:
            return json.dumps({"object": "list", "data": [{"id": name} for name in self.models]}).encode()
        return json.dumps({"error": {"message": f"Incorrect API key provided: {key}.", "code": "no"}}).encode()


@contextmanager
def vendor() -> Generator[Vendor]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status = scripted.status_of(key) if self.path == "/models" else 404
            body = scripted.body(status, key)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if scripted.location is not None:
                self.send_header("Location", scripted.location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted = Vendor(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
