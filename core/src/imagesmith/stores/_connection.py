"""One HTTP exchange: connections, TLS, proxies, and what a failed one means. urllib3 is loaded here only."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from imagesmith.errors import RegistryError, RegistryUnreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith.stores.credentials import RegistryAccess

__all__ = ["Body", "ConnectionDropped", "Connections", "Response", "is_loopback", "origin"]

CONNECT_SECONDS = 5.0
_THREADS = 8
"""as many connections to one host are kept for later requests"""
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


class ConnectionDropped(RegistryUnreachable):
    """The connection broke in the middle; another try may succeed."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer, body included."""

    url: str
    """where it came from, after redirects"""
    status: int
    headers: Mapping[str, str]
    """found in any case"""
    body: bytes
    """empty where ``rest`` is not None"""
    rest: Body | None = None
    """what is still to be read, where that was asked for and the answer is 200"""

    @property
    def location(self) -> str | None:
        """The absolute address that the Location header names, if it is one."""
        value = self.headers.get("Location")
        try:
            address = urljoin(self.url, value or "")
            origin(address)
        except ValueError:
            return None
        return address if value else None


class Body:
    """The rest of an answer, read as it arrives. It holds its connection until it is closed."""

    def __init__(self, answer: urllib3.BaseHTTPResponse, url: str, read_seconds: float) -> None:
        self._answer = answer
        self._url = url
        self._read_seconds = read_seconds

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end. Raises RegistryUnreachable when the connection breaks."""
        try:
            return self._answer.read(size, decode_content=False)
        except HTTPError as error:
            raise _no_answer(error, urlsplit(self._url), self._read_seconds) from None

    def close(self, *, whole: bool) -> None:
        """Let the connection be used again where it was read ``whole``, else drop it."""
        if not whole:
            self._answer.close()
        self._answer.release_conn()


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a credential is good for."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def is_loopback(hostname: str) -> bool:
    """Whether a host name (without port) means this machine."""
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname.strip("[]")).is_loopback
    except ValueError:
        return False


class Connections:
    """Connections kept alive between exchanges, to any host; certificates and proxies as configured."""

    def __init__(self, access: RegistryAccess, env: Mapping[str, str]) -> None:
        self._access = access
        self._env = env
        self._pools: dict[tuple[bool, str | None], urllib3.PoolManager] = {}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Path | None,
        *,
        read_seconds: float,
        limit: int,
        streaming: bool = False,
    ) -> Response:
        """Send one request and read the whole answer; if ``streaming``, leave what comes with a 200 unread.

        Follows no redirect, tries once.

        Raises:
            ConnectionDropped: the connection broke in the middle.
            RegistryUnreachable: there was no answer.
            RegistryError: the answer is longer than ``limit`` bytes.
        """
        parts = urlsplit(url)
        with contextlib.ExitStack() as stack:
            content: bytes | BinaryIO | None
            if isinstance(body, Path):
                headers = {**headers, "Content-Length": str(body.stat().st_size)}
                content = stack.enter_context(body.open("rb"))
            else:
                content = body
            try:
                answer = self._pool(parts).request(
                    method,
                    url,
                    body=content,
                    headers=headers,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                )
                if streaming and answer.status == 200:
                    rest = Body(answer, url, read_seconds)
                    return Response(url, answer.status, answer.headers, b"", rest)
                stack.callback(answer.release_conn)
                received = answer.read(limit + 1, decode_content=False)
                if len(received) > limit:
                    answer.close()
                    raise RegistryError(
                        f"{parts.netloc} sent more than {limit} bytes",
                        registry=parts.netloc,
                        status=answer.status,
                    )
                answer.read(decode_content=False)  # to the end, so that a short answer is seen as one
            except (HTTPError, LocationValueError) as error:
                # its text is not shown: it may hold a signed address or a proxy's password
                raise _no_answer(error, parts, read_seconds) from None
        return Response(url, answer.status, answer.headers, received)

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()

    def _pool(self, parts: SplitResult) -> urllib3.PoolManager:
        secure = parts.scheme == "https"
        proxy = self._proxy(parts)
        if (secure, proxy) not in self._pools:
            context = self._tls() if secure else None
            self._pools[secure, proxy] = _pool(proxy, context)
        return self._pools[secure, proxy]

    def _proxy(self, parts: SplitResult) -> str | None:
        """The proxy for a URL, by the usual variables; as for curl and Go, never for this machine."""
        name = f"{parts.scheme}_proxy"
        proxy = self._env.get(name) or self._env.get(name.upper())
        if not proxy or is_loopback(parts.hostname or ""):
            return None
        from urllib.request import (  # type: ignore[attr-defined] # noqa: PLC0415 - seldom needed, slow to load
            proxy_bypass_environment,
        )

        exempt = self._env.get("no_proxy") or self._env.get("NO_PROXY") or ""
        if proxy_bypass_environment(parts.netloc, {"no": exempt}):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    def _tls(self) -> ssl.SSLContext:
        access = self._access
        variable = next((name for name in _BUNDLES if self._env.get(name)), None)
        source = f"the certificates that {variable} names" if variable else "the system's certificates"
        try:
            bundle = Path(self._env[variable]) if variable else None
            if bundle is not None and bundle.is_dir():
                context = ssl.create_default_context(capath=bundle)
            else:
                context = ssl.create_default_context(cafile=bundle)
            if access.ca is not None:
                source = f"the certificates in {access.ca}"
                context.load_verify_locations(access.ca)
            if access.cert is not None:
                source = f"the client certificate {access.cert} and its key {access.key}"
                context.load_cert_chain(access.cert, access.key)
        except OSError as error:  # ssl.SSLError is one
            raise UsageError(
                f"cannot load {source}: {error.strerror}", hint="they must be PEM files"
            ) from None
        return context


def _pool(proxy: str | None, context: ssl.SSLContext | None) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(ssl_context=context, maxsize=_THREADS)
    parts = urlsplit(proxy)
    headers = None
    if parts.username is not None:
        headers = urllib3.make_headers(proxy_basic_auth=f"{parts.username}:{parts.password or ''}")
        proxy = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return urllib3.ProxyManager(proxy, proxy_headers=headers, ssl_context=context, maxsize=_THREADS)


def _no_answer(error: Exception, parts: SplitResult, read_seconds: float) -> RegistryUnreachable:
    host = parts.netloc
    hint: str | None = f"check the address, the network and the proxy settings for {host}"
    kind: type[RegistryUnreachable] = RegistryUnreachable
    match error:
        case ProxyError():
            why = "the proxy does not answer"
            hint = f"check {parts.scheme.upper()}_PROXY and NO_PROXY"
        case NameResolutionError():
            why = "there is no such host"
        case NewConnectionError():
            cause = error.__cause__
            why = (cause.strerror if isinstance(cause, OSError) else None) or "no connection"
        case ConnectTimeoutError():
            why = f"no connection within {CONNECT_SECONDS:.0f} s"
        case ReadTimeoutError():
            why = f"no answer within {read_seconds:.0f} s"
        case SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            why = "its certificate is not trusted"
            hint = "name its authority as ca in registry_config (envd's format), or set SSL_CERT_FILE"
        case SSLError() if "EOF" in str(error):
            why = "it broke the TLS connection off"
            hint = (
                f"try again later; or {host} does not speak TLS: use_http in registry_config (envd's format)"
            )
            kind = ConnectionDropped
        case SSLError():
            why = "it does not speak TLS, or refuses ours"
            hint = "a registry without TLS needs use_http in registry_config (envd's format)"
        case ProtocolError():
            why = "it broke the connection off"
            kind = ConnectionDropped
        case _:
            why = f"the request failed ({type(error).__name__})"
    return kind(f"{host} cannot be reached: {why}", registry=host, hint=hint)
