"""HTTP to one registry: its scheme, logins, redirects, retries, and errors by kind."""

from __future__ import annotations

import contextlib
import json
import threading
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesmith.errors import AuthenticationFailed, RegistryError, RegistryUnreachable
from imagesmith.stores._auth import Authenticator, login_hint
from imagesmith.stores._connection import ConnectionDropped, Connections, Response, is_loopback, origin
from imagesmith.stores.reference import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from imagesmith.stores.credentials import RegistryAccess

__all__ = ["Transport"]

_HUB_API = "registry-1.docker.io"
_RETRIED = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_ATTEMPTS = 4
_MAX_WAIT = 60.0
"""the longest that a registry may ask to wait before another try, in seconds"""
_MAX_BODY = 16 << 20
"""of manifests, configurations and messages; nothing larger is read into memory"""


class Transport:
    """Sends requests to ``host[:port]``, from any thread; asks for a login only after the registry did."""

    def __init__(
        self,
        host: str,
        access: RegistryAccess,
        env: Mapping[str, str],
        *,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
        read_seconds: float,
    ) -> None:
        self.host = host
        self._netloc = _HUB_API if host == DOCKER_HUB else host
        self._connections = Connections(access, env)
        self._sleep = sleep
        self._clock = clock
        self._read_seconds = read_seconds
        self._auth = Authenticator(host, access.login, self._fetch, clock)
        loopback = is_loopback(urlsplit(f"//{self._netloc}").hostname or "")
        self._undecided = loopback and access.ca is None and access.cert is None and not access.use_http
        """plain HTTP is tried first on this machine, as engines do; a TLS server says so in its answer"""
        self._secure = not (access.use_http or self._undecided)
        self._deciding = threading.Lock()

    def request(
        self,
        method: str,
        target: str,
        *,
        doing: str,
        scopes: tuple[str, ...],
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        attempts: int = _ATTEMPTS,
        streaming: bool = False,
    ) -> Response:
        """Send until there is an answer worth keeping, and return it if its status is expected.

        Raises:
            AuthenticationFailed: 401 or 403.
            RegistryUnreachable: no answer.
            RegistryError: any other status. ``doing`` says in the message what was asked.
        """
        return self.persist(
            lambda: self.exchange(
                method, target, scopes=scopes, headers=headers, body=body, streaming=streaming
            ),
            doing,
            expect,
            attempts,
        )

    def exchange(
        self,
        method: str,
        target: str,
        *,
        scopes: tuple[str, ...],
        headers: Mapping[str, str] | None = None,
        body: bytes | Path | None = None,
        more_seconds: float = 0.0,
        streaming: bool = False,
    ) -> Response:
        """Send once, logged in if the registry asks for it.

        ``target``: a path, or an absolute address. ``more_seconds``: to wait longer than usual for an answer.
        """

        def send() -> tuple[Response, str | None]:
            url = f"{'https' if self._secure else 'http'}://{self._netloc}{target}" if relative else target
            authorization = self._auth.header(scopes) if origin(url) == self._origin() else None
            extra = {"Authorization": authorization} if authorization else {}
            sent = {**(headers or {}), **extra}
            return self._follow(method, url, sent, body, patience, streaming=streaming), authorization

        relative = target.startswith("/")
        patience = self._read_seconds + more_seconds
        with self._deciding if self._undecided else contextlib.nullcontext():
            response, sent = send()
            if self._undecided:
                if response.status == 400 and self._speaks_tls():
                    self._secure = True
                    response, sent = send()
                self._undecided = False
        if response.status != 401 or origin(response.url) != self._origin():
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        again = self._auth.answer(challenge, scopes, sent, secure=self._secure)
        return send()[0] if again else response

    def persist(
        self, action: Callable[[], Response], doing: str, expect: Collection[int], attempts: int = _ATTEMPTS
    ) -> Response:
        """Repeat an action until there is an answer worth keeping; raises as ``request`` does."""
        try:
            response = self.retry(action, attempts)
        except RegistryUnreachable as error:
            error.message = f"{error.message} ({doing})"
            raise
        return self.check(response, doing, expect)

    def retry(self, action: Callable[[], Response], attempts: int = _ATTEMPTS) -> Response:
        """Repeat an action that ends in a broken connection, a 429 or a 5xx; return its last answer."""
        for attempt in range(attempts - 1):
            try:
                response = action()
            except ConnectionDropped:
                wait = _backoff(attempt)
            else:
                if response.status not in _RETRIED:
                    return response
                wait = self._asked_wait(response, attempt)
                if wait > _MAX_WAIT:
                    return response
            self._sleep(wait)
        return action()

    def check(self, response: Response, doing: str, expect: Collection[int]) -> Response:
        """Return an answer whose status is expected; raise for any other, as ``request`` does."""
        if response.status in expect:
            return response
        raise self._refusal(response, doing)

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()

    def _origin(self) -> tuple[str, str, int]:
        return origin(f"{'https' if self._secure else 'http'}://{self._netloc}")

    def _speaks_tls(self) -> bool:
        """Whether the server says so to plain HTTP (asked apart: an answer to HEAD has no text)."""
        answer = self._follow("GET", f"http://{self._netloc}/v2/", {}, None, self._read_seconds)
        return answer.status == 400 and b"HTTPS" in answer.body

    def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Path | None,
        read_seconds: float,
        *,
        streaming: bool = False,
    ) -> Response:
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._connections.send(
                method, url, headers, body, read_seconds=read_seconds, limit=_MAX_BODY, streaming=streaming
            )
            if response.status not in _REDIRECTS or method not in {"GET", "HEAD"} or not response.location:
                return response
            if origin(response.location) != origin(url):
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = response.location
        raise RegistryError(
            f"{self.host} redirects more than {_MAX_REDIRECTS} times",
            registry=self.host,
            status=response.status,
        )

    def _fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        return self.retry(lambda: self._follow(method, url, headers, body, self._read_seconds))

    def _asked_wait(self, response: Response, attempt: int) -> float:
        asked = response.headers.get("Retry-After", "").strip()
        if asked.isdecimal():
            return float(asked)
        try:
            return max(0.0, parsedate_to_datetime(asked).timestamp() - self._clock())
        except ValueError:
            return _backoff(attempt)

    def _refusal(self, response: Response, doing: str) -> RegistryError:
        status, code = response.status, _code(response)
        detail = self._auth.redact(_detail(response))
        if origin(response.url) != self._origin():
            where = f"{urlsplit(response.url).netloc}, where {self.host} keeps its data,"
        else:
            where = self.host
        if status in {401, 403}:
            return AuthenticationFailed(
                f"{where} refuses {doing} {self._auth.who} (HTTP {status}{detail})",
                registry=self.host,
                status=status,
                code=code,
                hint=login_hint(self.host, has_login=self._auth.has_login),
            )
        hint = None
        if status in _RETRIED:
            asked = response.headers.get("Retry-After")
            hint = (
                f"it asks to wait: Retry-After {asked}" if asked else "the registry has a problem: try later"
            )
        text = f"{where} fails at {doing} (HTTP {status}{detail})"
        return RegistryError(text, registry=self.host, status=status, code=code, hint=hint)


def _backoff(attempt: int) -> float:
    return 0.5 * 2.0**attempt


def _code(response: Response) -> str | None:
    return next(iter(_said(response)), None) or None


def _detail(response: Response) -> str:
    """What the registry says, in one short line; nothing when it does not speak the registry's JSON."""
    text = ": ".join(part for part in _said(response) if part)
    return f", {' '.join(text.split())[:300]}" if text else ""


def _said(response: Response) -> tuple[str, ...]:
    """Code and message of the registry's first error."""
    try:
        error = json.loads(response.body)["errors"][0]
        return tuple(str(error.get(key) or "") for key in ("code", "message"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return ()
