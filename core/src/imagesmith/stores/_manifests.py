"""The manifest of an image in the containerd store, which no call of the Docker Engine shows.

Two calls let it out. A push sends it to a registry once the layers are there, and a registry of our own
on loopback says that they all are: 0.02 s whatever the size. ``docker save`` sends it among the layers,
at the speed of those (about 75 MB/s): for engines that do not share our loopback, such as one in a virtual
machine, and for images without a name, which would be deleted with the name that a push needs.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import MSG_PEEK
from typing import TYPE_CHECKING, Any

from imagesmith.stores._documents import children, digest_of, is_index, same_platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["find_manifest", "pushed_manifest", "saved_manifest"]

_LARGEST_DOCUMENT = 4 * 1024 * 1024
"""Bytes; what is larger is no manifest (the limit that registries have)."""
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_CHUNK = 1024 * 1024
_TLS_HANDSHAKE = b"\x16"
_TAG = "manifest"


def pushed_manifest(client: Any, image_id: str, platform: str) -> bytes | None:
    """Let the engine push the image, which must have a name, to us; None where that does not work."""
    from docker.errors import APIError  # noqa: PLC0415 - costs 0.2 s

    if not client.base_url.startswith("http+docker:"):  # not by a socket: perhaps not this machine
        return None
    server = _Catcher()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    repository = f"127.0.0.1:{server.server_port}/imagesmith"
    try:
        client.tag(image_id, repository, _TAG)
        try:
            with contextlib.suppress(APIError):
                for _ in client.push(repository, tag=_TAG, stream=True, decode=True, auth_config={}):
                    pass  # it ends in the error that we answered, or in one of its own
        finally:
            client.remove_image(f"{repository}:{_TAG}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return _resolve(server.documents, image_id, platform)


class _Catcher(ThreadingHTTPServer):
    """A registry that has every layer, and keeps what manifests it is sent by their digests."""

    request_queue_size = 128
    """The engine asks for all layers at once; whom a short queue turns away comes back a second later."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.documents: dict[str, bytes] = {}


class _Answers(BaseHTTPRequestHandler):
    server: _Catcher

    def handle(self) -> None:
        # The engine tries TLS first; only from an answer in plain HTTP does it learn better.
        if self.connection.recv(1, MSG_PEEK) == _TLS_HANDSHAKE:
            self.connection.recv(_CHUNK)
            self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        else:
            super().handle()

    def do_HEAD(self) -> None:
        """Every blob is here, no manifest is."""
        if "/blobs/" in self.path:
            digest = self.path.rpartition("/")[2].partition("?")[0]
            self._answer(200, {"Docker-Content-Digest": digest})
        else:
            self._answer(404)

    def do_GET(self) -> None:
        """``/v2/`` alone."""
        self._answer(200)

    def do_PUT(self) -> None:
        """Take it. The last one, by tag, is refused: the engine then does not note us as a source."""
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(size, _LARGEST_DOCUMENT))
        digest = digest_of(body)
        self.server.documents[digest] = body
        if self.path.endswith(f"/{_TAG}"):
            self._answer(400)
        else:
            self._answer(201, {"Docker-Content-Digest": digest})

    def _answer(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


def saved_manifest(client: Any, image_id: str, platform: str) -> bytes | None:
    """From the engine's archive of the image, read no further than needed."""
    address = f"{client.base_url}/v{client.api_version}/images/{image_id}/get"
    with client.get(address, stream=True, timeout=client.timeout) as answer:
        answer.raise_for_status()
        return find_manifest(answer.iter_content(_CHUNK), image_id, platform)


def find_manifest(chunks: Iterable[bytes], digest: str, platform: str) -> bytes | None:
    """The manifest for ``platform`` under ``digest`` in an archive of the containerd store.

    The stream is read only as far as needed. Blobs stand in it in the order of their digests, so the
    manifest may come before the index that names it.
    """
    seen: dict[str, bytes] = {}
    with tarfile.open(fileobj=_Stream(iter(chunks)), mode="r|") as archive:
        for member in archive:
            named = _BLOB.fullmatch(member.name)
            content = archive.extractfile(member) if named and member.size <= _LARGEST_DOCUMENT else None
            if named is None or content is None:
                continue
            data = content.read()
            if data[:1] != b"{":
                continue
            seen[f"sha256:{named[1]}"] = data
            found = _resolve(seen, digest, platform)
            if found is not None:
                return found
    return None


def _resolve(seen: Mapping[str, bytes], digest: str, platform: str) -> bytes | None:
    data = seen.get(digest)
    if data is None:
        return None
    document = json.loads(data)
    if not is_index(document):
        return data
    for name, child in children(document):
        if not name or same_platform(name, platform):
            return _resolve(seen, str(child.get("digest")), platform)
    return None


class _Stream(io.RawIOBase):
    """Chunks of bytes as a readable file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        end = len(data) if size < 0 else size
        self._rest = data[end:]
        return data[:end]
