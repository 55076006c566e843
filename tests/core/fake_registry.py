"""A registry on loopback, as strict as the real one, that fails on demand and keeps a log."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Message
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def error(status: int, code: str, message: str = "", **headers: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, {"Content-Type": "application/json", **named})


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


def hang_up_after(size: int) -> Action:
    """Take so many bytes of the request's body, then break the connection without an answer."""

    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(min(size, int(handler.headers.get("Content-Length", 0))))
        reset(handler)

    cut.before_the_body = True  # type: ignore[attr-defined]
    return cut


def send_a_part(data: bytes, of: int) -> Action:
    """Announce ``of`` bytes, send fewer, and break the connection."""

    def part(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(of))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    return part


def slow(handler: BaseHTTPRequestHandler) -> None:
    """Answer only after any patience of a test is at its end."""
    time.sleep(1.0)
    handler.close_connection = True


Action = Answer | Callable[[BaseHTTPRequestHandler], None]


class FakeRegistry:
    """``auth``: None, ``"basic"`` or ``"bearer"``. Users map to passwords; ``readers`` may only pull."""

    def __init__(self, auth: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.auth = auth
        self.users = {"alice": "s3cr3t-pässword", "bob": "reader-password"}
        self.readers = {"bob"}
        self.identity_tokens = {"identity-token-of-alice": "alice"}
        self.anonymous_pull = False
        self.lifetime = 300
        self.immutable = False
        self.can_delete_tags = True
        self.can_mount = True
        self.names_digests = True
        self.blobs_at: str | None = None
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.tokens: dict[str, set[str]] = {}
        self.requests: list[Request] = []
        self._script: list[tuple[re.Pattern[str], Action]] = []
        self._tls = tls
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def fail(self, pattern: str, *actions: Action) -> None:
        """The next requests ``METHOD path`` that match get these answers, one each."""
        self._script += [(re.compile(pattern), action) for action in actions]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def log(self) -> list[str]:
        return [str(request) for request in self.requests]

    # what an engine would have pushed

    def add_blob(self, repository: str, data: bytes) -> str:
        self.blobs[repository, sha(data)] = data
        return sha(data)

    def add_manifest(self, repository: str, media_type: str, document: object, *tags: str) -> str:
        raw = json.dumps(document, indent=3).encode()  # spaced as engines do it, unlike our own encoding
        for ref in (sha(raw), *tags):
            self.manifests[repository, ref] = (media_type, raw)
        return sha(raw)

    def add_image(
        self,
        repository: str,
        *tags: str,
        platform: str = "linux/amd64",
        docker: bool = False,
        env: str = "A=1",
    ) -> str:
        system, machine, *variant = platform.split("/")
        config = {
            "os": system,
            "architecture": machine,
            "config": {"Env": [env]},
            "rootfs": {"type": "layers"},
        }
        if variant:
            config["variant"] = variant[0]
        raw, layer = json.dumps(config).encode(), f"layer for {platform}".encode()
        document = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": {
                "mediaType": DOCKER_CONFIG if docker else OCI_CONFIG,
                "digest": self.add_blob(repository, raw),
                "size": len(raw),
            },
            "layers": [
                {"mediaType": OCI_LAYER, "digest": self.add_blob(repository, layer), "size": len(layer)}
            ],
            "annotations": {"org.example.kept": "yes"},
        }
        return self.add_manifest(repository, str(document["mediaType"]), document, *tags)

    # the API

    def answer(self, request: Request) -> Answer:
        url = urlsplit(request.path)
        query = parse_qs(url.query)
        if url.path == "/token":
            return self._token(request, query)
        if url.path.startswith("/elsewhere/"):
            repository, _, digest = url.path.removeprefix("/elsewhere/").rpartition("/")
            return Answer(200, self.blobs[repository, digest])
        match = re.fullmatch(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<rest>.*)", url.path)
        if match is None:
            return Answer(404, b"<html>404 page not found</html>", {"Content-Type": "text/html"})
        name, kind, rest = match["name"], match["kind"], match["rest"]
        action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(request.method, "push")
        refused = self._refuse(request, name, action)
        if refused:
            return refused
        if kind == "manifests":
            return self._manifest(request, name, rest)
        return self._blob(request, name, rest, query)

    def scripted(self, request: Request, *, before_the_body: bool = False) -> Action | None:
        for index, (pattern, action) in enumerate(self._script):
            if before_the_body and not hasattr(action, "before_the_body"):
                continue
            if pattern.search(str(request)):
                del self._script[index]
                return action
        return None

    def _manifest(self, request: Request, name: str, ref: str) -> Answer:
        if request.method in {"GET", "HEAD"}:
            media_type, raw = self.manifests.get((name, ref), ("", b""))
            if media_type not in request.headers.get("Accept", ""):
                return error(404, "MANIFEST_UNKNOWN", "accept header does not support this manifest")
            if not raw:
                return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
            named = {"Docker-Content-Digest": sha(raw)} if self.names_digests else {}
            return Answer(200, raw, {"Content-Type": media_type, **named})
        if request.method == "DELETE":
            if ":" not in ref and not self.can_delete_tags:
                return error(405, "UNSUPPORTED", "the operation is unsupported")
            return Answer(202) if self.manifests.pop((name, ref), None) else error(404, "MANIFEST_UNKNOWN")
        raw, media_type = request.body, request.headers["Content-Type"]
        if ref.startswith("sha256:") and ref != sha(raw):
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        document = json.loads(raw)
        if document.get("mediaType", media_type) != media_type:
            return error(400, "MANIFEST_INVALID", "mediaType in manifest does not match Content-Type")
        for entry in document.get("manifests", []):
            if (name, entry["digest"]) not in self.manifests:
                return error(400, "MANIFEST_BLOB_UNKNOWN", "manifest unknown to registry")
        for entry in [*document.get("layers", []), document.get("config")]:
            if entry and self.blobs.get((name, entry["digest"])) is None:
                return error(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry")
        if self.immutable and ":" not in ref and (name, ref) in self.manifests:
            return error(400, "TAG_INVALID", f"The image tag '{ref}' cannot be overwritten: it is immutable.")
        self.manifests[name, ref] = self.manifests[name, sha(raw)] = (media_type, raw)
        return Answer(201, headers={"Docker-Content-Digest": sha(raw)})

    def _blob(self, request: Request, name: str, rest: str, query: dict[str, list[str]]) -> Answer:
        if request.method == "POST":
            if self.can_mount and "mount" in query:
                data = self.blobs.get((query["from"][0], query["mount"][0]))
                if data is not None:
                    self.blobs[name, query["mount"][0]] = data
                    return Answer(201, headers={"Docker-Content-Digest": query["mount"][0]})
            return Answer(202, headers={"Location": f"/v2/{name}/blobs/uploads/1?_state=signed"})
        if request.method == "PUT":
            if query.get("_state") != ["signed"] or query["digest"] != [sha(request.body)]:
                return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
            self.blobs[name, query["digest"][0]] = request.body
            return Answer(201)
        if request.method == "DELETE":
            return Answer(204)
        data = self.blobs.get((name, rest))
        if data is None:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.blobs_at:
            return Answer(307, headers={"Location": f"{self.blobs_at}/elsewhere/{name}/{rest}"})
        return Answer(200, data)

    # logins

    def _refuse(self, request: Request, name: str, action: str) -> Answer | None:
        given = request.headers.get("Authorization", "")
        if self.auth == "basic":
            user = self._user(given)
            if user is None:
                return error(
                    401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="fake"'
                )
            return error(403, "DENIED", "no access") if user in self.readers and action != "pull" else None
        if self.auth == "bearer":
            granted = self.tokens.get(given.removeprefix("Bearer "))
            if granted is None or f"{name}:{action}" not in granted:
                scope = f"repository:{name}:{'pull' if action == 'pull' else 'pull,push'}"
                challenge = (
                    f'Bearer realm="http://{self.host}/token",service="fake, \\"quoted\\"",scope="{scope}"'
                )
                return error(401, "UNAUTHORIZED", f"bad {given}", WWW_Authenticate=challenge)
        return None

    def _user(self, authorization: str) -> str | None:
        if not authorization.startswith("Basic "):
            return None
        user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
        return user if self.users.get(user) == password else None

    def _token(self, request: Request, query: dict[str, list[str]]) -> Answer:
        authorization = request.headers.get("Authorization", "")
        if request.method == "POST":
            query = parse_qs(request.body.decode())
            query["scope"] = query["scope"][0].split()
            user = self.identity_tokens.get(query["refresh_token"][0])
        else:
            user = self._user(authorization)
        if query["service"] != ['fake, "quoted"']:
            return error(400, "BAD_SERVICE")
        if user is None and (authorization or request.method == "POST" or not self.anonymous_pull):
            return error(401, "UNAUTHORIZED", f"incorrect username or password {authorization}")
        granted = set()
        for scope in query["scope"]:
            _, name, actions = scope.split(":")
            may = {"pull"} if user is None or user in self.readers else {"pull", "push", "delete"}
            granted |= {f"{name}:{action}" for action in may & set(actions.split(","))}
        token = f"token-{len(self.tokens)}-{time.monotonic_ns()}"
        self.tokens[token] = granted
        key = "access_token" if request.method == "POST" else "token"
        return Answer(200, json.dumps({key: token, "expires_in": self.lifetime}).encode())


class _Server(ThreadingHTTPServer):
    fake: FakeRegistry
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        tls = self.server.fake._tls
        if tls is not None:
            if self.request.recv(1, socket.MSG_PEEK) != b"\x16":  # no TLS handshake: answer as Go servers do
                self.request.recv(65536)
                self.request.sendall(
                    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
                )
                raise ConnectionAbortedError
            self.request = tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the server closes the plain socket only

    def _serve(self) -> None:
        fake = self.server.fake
        url = urlsplit(self.path)  # whole when this is asked as a proxy
        path = url.path + (f"?{url.query}" if url.query else "")
        early = fake.scripted(Request(self.command, path, self.headers, b""), before_the_body=True)
        if callable(early):
            fake.requests.append(Request(self.command, path, self.headers, b""))
            early(self)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, path, self.headers, body)
        fake.requests.append(request)
        action = fake.scripted(request)
        if callable(action):
            action(self)
            return
        answer = action or fake.answer(request)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

    def log_message(self, *args: object) -> None:
        """Keep quiet; ``FakeRegistry.requests`` is the log."""


@contextlib.contextmanager
def running(auth: str | None = None, tls: ssl.SSLContext | None = None) -> Iterator[FakeRegistry]:
    fake = FakeRegistry(auth, tls)
    try:
        yield fake
    finally:
        fake.close()
