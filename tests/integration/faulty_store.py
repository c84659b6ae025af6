"""A proxy before an S3 server that throttles, breaks off answers, or is down for a while, and counts what it was asked for.

By hand: `python -m tests.integration.faulty_store UPSTREAM_HOST:PORT PORT THROTTLE_EVERY`.
"""

import http.client
import itertools
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for, and how many bytes of answer went back."""

    method: str
    path: str
    size: int


@dataclass(kw_only=True)
class FaultyStore:
    """`throttle_every` and `reset_every` answer each n-th request with 503 SlowDown, or with half an answer and a reset; 0: none."""

    upstream: str
    port: int = 0
    throttle_every: int = 0
    reset_every: int = 0
    requests: list[Request] = field(default_factory=list)
    throttled: int = 0
    resets: int = 0

    def start(self) -> None:
        """Listen on `port`, or on a free one that stays the same from then on."""
        self._open: set[socket.socket] = set()
        self._numbers = itertools.count(1)
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and break those that are open."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            _reset(connection)

    def down_for(self, seconds: float) -> None:
        self.stop()
        time.sleep(seconds)
        self.start()

    def forget(self) -> None:
        """Faults off and counters to zero."""
        self.throttle_every = self.reset_every = self.throttled = self.resets = 0
        self.requests.clear()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self) -> str | None:
        number = next(self._numbers)
        if self.throttle_every and number % self.throttle_every == 0:
            self.throttled += 1
            return "throttle"
        if self.reset_every and number % self.reset_every == 0:
            self.resets += 1
            return "reset"
        return None


@contextmanager
def faulty_store(upstream: str) -> Iterator[FaultyStore]:
    """A proxy before `upstream` (HOST:PORT), without faults at first."""
    store = FaultyStore(upstream=upstream)
    store.start()
    try:
        yield store
    finally:
        store.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed break off; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    store: FaultyStore
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.store._open.add(self.connection)

    def finish(self) -> None:
        self.store._open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.store.fault()
        if fault == "throttle":
            self._answer(503, [("Content-Type", "application/xml")], _SLOW_DOWN, len(_SLOW_DOWN))
            return
        upstream = http.client.HTTPConnection(self.store.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
            upstream.request(self.command, self.path, body=body, headers=headers)
            answer = upstream.getresponse()
            data = answer.read()
            length = int(answer.headers.get("Content-Length") or len(data))
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
            status = answer.status
        except OSError:  # the server behind is gone: so is this connection
            _reset(self.connection)
            self.close_connection = True
            return
        finally:
            upstream.close()
        self.store.requests.append(Request(method=self.command, path=self.path, size=len(data)))
        if fault == "reset":
            with suppress(OSError):
                self._answer(status, kept, data[: len(data) // 2], length)
            _reset(self.connection)
            self.close_connection = True
            return
        self._answer(status, kept, data, length)

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815 — http.server looks for these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — as http.server names it
        """Quiet: the tests look at the counters."""


def _reset(connection: socket.socket) -> None:
    """Close with RST rather than FIN: what was sent may be lost, as when a machine dies."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()


if __name__ == "__main__":
    by_hand = FaultyStore(upstream=sys.argv[1], port=int(sys.argv[2]), throttle_every=int(sys.argv[3]))
    by_hand.start()
    while True:
        time.sleep(10)
        print(f"{len(by_hand.requests)} requests passed on, {by_hand.throttled} throttled", flush=True)
