"""The base as envd is told of it: by a registry of ours on loopback, for the time of one build.

envd reads a base's configuration straight from a registry, never from the engine; the engine then finds
the layers among its own. So a base that only the engine has can be built on. And of the base's variables
envd is told only PATH: it puts all that it knows of into the key of every step in random order, so that
with five of them most steps run again without a reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from imagesmith import base_environment

__all__ = ["serve"]

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@contextlib.contextmanager
def serve(config: Mapping[str, object]) -> Iterator[str]:
    """A registry for one image with this configuration document; yields its ``host:port``."""
    body = json.dumps(_told(config)).encode()
    rootfs = config.get("rootfs")
    layers = rootfs.get("diff_ids", ()) if isinstance(rootfs, Mapping) else ()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": _digest(body), "size": len(body)},
            "layers": [{"mediaType": _LAYER, "digest": layer, "size": 1} for layer in layers],
        }
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/manifests/" in self.path:
                self._answer(manifest, _MANIFEST)
            elif self.path.endswith(f"/blobs/{_digest(body)}"):
                self._answer(body, "application/octet-stream")
            elif self.path in ("/v2", "/v2/"):
                self._answer(b"{}", "application/json")
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

        def _answer(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Content-Digest", _digest(data))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _told(config: Mapping[str, object]) -> Mapping[str, object]:
    path = {key: value for key, value in base_environment(config).items() if key == "PATH"}
    inner = config.get("config")
    known = inner if isinstance(inner, Mapping) else {}
    return {**config, "config": {**known, "Env": [f"{key}={value}" for key, value in path.items()]}}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
