"""A proxy before a registry on loopback that makes every request take longer, and counts them."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_CHUNK = 1 << 20
_HOP = {"connection", "keep-alive", "transfer-encoding", "host"}


class SlowProxy(ThreadingHTTPServer):
    """``address`` stands for the registry; ``requests`` is how many it was asked."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, registry: str, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry, self.delay, self.requests = registry, delay, 0
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: SlowProxy
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        import socket

        # Engines try TLS first, and take plain HTTP when they are answered in it.
        if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":
            self.connection.recv(_CHUNK)
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        else:
            with contextlib.suppress(ConnectionError):
                super().handle()

    def _forward(self) -> None:
        with self.server.lock:
            self.server.requests += 1
        time.sleep(self.server.delay)
        upstream = http.client.HTTPConnection(self.server.registry)
        names = {key.lower() for key in self.headers} - _HOP
        headers = {name: ", ".join(self.headers.get_all(name) or ()) for name in names}
        # so that the registry's answers name us, and not itself
        headers["Host"] = self.server.address
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        upstream.request(self.command, self.path, self._body(chunked), headers, encode_chunked=chunked)
        answer = upstream.getresponse()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _HOP:
                self.send_header(key, value)
        if answer.length is None and self.command != "HEAD":
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            while data := answer.read(_CHUNK):
                self.wfile.write(data)
        upstream.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815

    def _body(self, chunked: bool) -> Iterator[bytes] | None:
        if chunked:
            return self._chunks()
        size = int(self.headers.get("Content-Length") or 0)
        return self._counted(size) if size else None

    def _counted(self, left: int) -> Iterator[bytes]:
        while left and (data := self.rfile.read(min(left, _CHUNK))):
            left -= len(data)
            yield data

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield from self._counted(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def slow_proxy(registry: str, delay: float) -> Iterator[SlowProxy]:
    server = SlowProxy(registry, delay)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
