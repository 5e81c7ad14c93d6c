"""A load generator that costs little: prepared requests over keep-alive connections, one outstanding on each.

It shares the machine with the server it measures, so it does no more than HTTP/1.1 asks of it; a general client would
use up the cores that are being measured.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence

from msgspec import Struct

HEADER_END = b"\r\n\r\n"
LENGTH = b"content-length:"


class Result(Struct):
    """What a run saw. Latencies are seconds, by request."""

    seconds: float
    latencies: list[float]
    statuses: dict[int, int]

    def quantile_ms(self, share: float) -> float:
        """A latency quantile in milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3


def request(host: str, port: int, path: str, body: bytes, key: str) -> bytes:
    """A prepared POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get_request(host: str, port: int, path: str, key: str) -> bytes:
    """A prepared GET."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


def run(host: str, port: int, requests: Sequence[bytes], connections: int) -> Result:
    """Send every request once, spread over the connections; returns when all are answered."""
    return asyncio.run(_run(host, port, requests, connections))


async def _run(host: str, port: int, requests: Sequence[bytes], connections: int) -> Result:
    result = Result(0.0, [], {})
    waiting = iter(requests)
    loop = asyncio.get_running_loop()
    clients = [_Client(waiting, result, loop.create_future()) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, host, port)
    start = time.perf_counter()
    for client in clients:
        client.send_next()
    await asyncio.gather(*(client.done for client in clients))
    result.seconds = time.perf_counter() - start
    return result


class _Client(asyncio.Protocol):
    def __init__(self, waiting: Iterator[bytes], result: Result, done: asyncio.Future[None]) -> None:
        self.waiting = waiting
        self.result = result
        self.done = done
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.needed = 0
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send_next(self) -> None:
        assert self.transport is not None
        following = next(self.waiting, None)
        if following is None:
            self.transport.close()
            self.done.set_result(None)
            return
        self.sent_at = time.perf_counter()
        self.transport.write(following)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.needed:
            end = self.buffer.find(HEADER_END)
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            at = head.find(LENGTH)
            length = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self.needed = end + len(HEADER_END) + length
        if len(self.buffer) < self.needed:
            return
        status = int(self.buffer[9:12])
        self.buffer.clear()
        self.needed = 0
        self.result.latencies.append(time.perf_counter() - self.sent_at)
        self.result.statuses[status] = self.result.statuses.get(status, 0) + 1
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))
