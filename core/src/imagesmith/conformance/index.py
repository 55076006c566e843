"""A package index that the suite serves itself, from wheels it makes, with or without a login."""

from __future__ import annotations

import base64
import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from imagesmith.conformance.samples import wheel, wheel_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["serve"]


@contextlib.contextmanager
def serve(host: str, packages: Sequence[str], login: str | None = None) -> Iterator[str]:
    """``host:port`` of an index with version 1.0 of these; ``login`` is ``user:password``.

    Raises:
        OSError: this machine does not have that address.
    """
    wanted = f"Basic {base64.b64encode(login.encode()).decode()}" if login else None
    held: dict[str, bytes] = {}
    for name in packages:
        file = wheel_name(name)
        held[f"/files/{file}"] = wheel(name)
        held[f"/simple/{name}/"] = f'<!DOCTYPE html><a href="/files/{file}">{file}</a>'.encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = held.get(self.path, b"")
            status = 200 if found else 404
            if wanted and self.headers.get("Authorization") != wanted:
                status, found = 401, b""
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="conformance"')
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/zip")
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(found)

        do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing."""

    server = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
