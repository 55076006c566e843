"""How a registry asks who is there, and the answers: Basic, or a Bearer token from a token server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from imagesmith.errors import AuthenticationFailed, RegistryError

if TYPE_CHECKING:
    from imagesmith.stores._connection import Response
    from imagesmith.stores.credentials import Login

__all__ = ["Authenticator", "Challenge", "parse_challenges"]

_CHALLENGE = re.compile(
    r"""(?P<key>[\w-]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s,"]+)) | (?P<scheme>[\w-]+)""",
    re.VERBOSE,
)
_DEFAULT_LIFETIME = 60.0

Send = Callable[[str, str, Mapping[str, str], bytes | None], "Response"]


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a server offers; ``scheme`` in lower case."""

    scheme: str
    params: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read a WWW-Authenticate header (several joined by commas are fine)."""
    found: list[tuple[str, dict[str, str]]] = []
    for part in _CHALLENGE.finditer(header):
        if part["scheme"]:
            found.append((part["scheme"].lower(), {}))
        elif found:
            value = re.sub(r"\\(.)", r"\1", part["quoted"]) if part["bare"] is None else part["bare"]
            found[-1][1][part["key"].lower()] = value
    return tuple(Challenge(scheme, params) for scheme, params in found)


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires: float


class Authenticator:
    """Answers one registry's challenges and keeps what it was given. Says nothing before it is asked."""

    def __init__(
        self, host: str, login: Callable[[], Login | None], send: Send, clock: Callable[[], float]
    ) -> None:
        self._host = host
        self._look_up = login
        self._send = send
        self._clock = clock
        self._challenge: Challenge | None = None
        self._login: Login | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}

    def header(self, scopes: tuple[str, ...]) -> str | None:
        """The Authorization header for a request, as far as the registry has asked for one."""
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            return self._basic()
        token = self._tokens.get(scopes)
        if token is None or token.expires <= self._clock():
            token = self._tokens[scopes] = self._fetch(self._challenge, scopes)
        return f"Bearer {token.value}"

    def answer(self, header: str, scopes: tuple[str, ...], sent: str | None, *, secure: bool) -> bool:
        """Learn from a 401; whether another try makes sense. ``sent`` is the header it refused.

        Raises:
            AuthenticationFailed: the token server refuses the login.
            RegistryError: the challenge cannot be answered.
        """
        offered = {challenge.scheme: challenge for challenge in reversed(parse_challenges(header))}
        challenge = offered.get("bearer") or offered.get("basic")
        if challenge is None:
            return False
        if self._challenge is None:
            self._login = self._look_up()
        self._challenge = challenge
        if challenge.scheme == "basic":
            return sent is None and self._basic() is not None
        self._check_realm(challenge, secure=secure)
        self._tokens.pop(scopes, None)
        return True

    @property
    def who(self) -> str:
        """As whom requests are made, for messages."""
        if self._login is None:
            return "without credentials"
        name = f"as {self._login.username!r}" if self._login.username else "with an identity token"
        return f"{name} (from {self._login.source})" if self._login.source else name

    @property
    def has_login(self) -> bool:
        """Whether a login was asked for and found."""
        return self._login is not None

    def redact(self, text: str) -> str:
        """Cut every secret that is known here out of a text."""
        secrets = [token.value for token in self._tokens.values()]
        if self._login is not None:
            secrets += [self._login.password or "", self._login.token or ""]
            basic = self._basic()
            secrets += [basic.removeprefix("Basic ")] if basic else []
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "…")
        return text

    def _basic(self) -> str | None:
        if self._login is None or self._login.username is None:
            return None
        pair = f"{self._login.username}:{self._login.password or ''}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def _check_realm(self, challenge: Challenge, *, secure: bool) -> None:
        try:
            scheme = urlsplit(challenge.params.get("realm", "")).scheme
        except ValueError:
            scheme = ""
        if scheme == "https" or (scheme == "http" and not secure):
            return
        raise RegistryError(
            f"{self._host} wants the login sent to an address that is not https: refused",
            registry=self._host,
            hint="the registry's own configuration (the realm of its token server) is wrong",
        )

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Token:
        realm = challenge.params["realm"]
        query = [("service", challenge.params["service"])] if "service" in challenge.params else []
        asked = self._clock()
        if self._login is not None and self._login.token:
            form = [
                ("grant_type", "refresh_token"),
                *query,
                ("client_id", "imagesmith"),
                ("refresh_token", self._login.token),
                ("scope", " ".join(scopes)),
            ]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._send("POST", realm, headers, urlencode(form).encode())
        else:
            query += [("scope", scope) for scope in scopes]
            url = realm + ("&" if urlsplit(realm).query else "?") + urlencode(query)
            basic = self._basic()
            response = self._send("GET", url, {"Authorization": basic} if basic else {}, None)
        if response.status != 200:
            raise self._refused(response, realm)
        try:
            answer = json.loads(response.body)
            value = answer.get("token") or answer["access_token"]
            lifetime = float(answer.get("expires_in") or _DEFAULT_LIFETIME)
        except (ValueError, KeyError, AttributeError, TypeError):
            raise RegistryError(
                f"the token server of {self._host} ({urlsplit(realm).netloc}) answered without a token",
                registry=self._host,
                status=response.status,
            ) from None
        return _Token(str(value), asked + lifetime * 0.8)

    def _refused(self, response: Response, realm: str) -> RegistryError:
        server = f"the token server of {self._host} ({urlsplit(realm).netloc})"
        if response.status in {400, 401, 403, 404}:
            return AuthenticationFailed(
                f"{server} refuses a token {self.who} (HTTP {response.status})",
                registry=self._host,
                status=response.status,
                hint=login_hint(self._host, has_login=self.has_login),
            )
        return RegistryError(
            f"{server} answered HTTP {response.status}",
            registry=self._host,
            status=response.status,
            hint="try again later",
        )


def login_hint(host: str, *, has_login: bool) -> str:
    """What to do about a refused login."""
    if has_login:
        return f"check that this user may do it, or log in anew: docker login {host}"
    return f"run: docker login {host}, or name a file that holds the login as registry_config"
