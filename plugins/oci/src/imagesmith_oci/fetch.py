"""Wheels by address, into a cache, checked by their hash; logins are added by host and go nowhere else."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import ssl
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from imagesmith import BuildFailed, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from imagesmith_oci.lock import Package

__all__ = ["Fetcher", "VanishedError"]

NAME = "oci"
_ATTEMPTS = 5
_REDIRECTS = 10
_CHUNK = 1 << 18
_TIMEOUT = urllib3.Timeout(connect=10, read=60)
_LOCAL = {"localhost", "127.0.0.1", "[::1]", "::1"}


class VanishedError(Exception):
    """An address leads to nothing any more, or to something else."""


class _AgainError(Exception):
    """Worth another try; the text says what happened."""


class Fetcher:
    """One for a build; it may be used in several threads."""

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        logins: Mapping[str, tuple[str, str]],
        *,
        certificates: str | None = None,
        trusted: tuple[str, ...] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder
        self._env = env
        self._logins = logins
        self._certificates = certificates
        self._trusted = set(trusted)
        self._sleep = sleep
        self._stopped = threading.Event()
        self._pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}

    def stop(self) -> None:
        """Let no download go on: the build has failed."""
        self._stopped.set()

    def fetch(self, package: Package) -> tuple[Package, Path]:
        """The file, and the package with its hash.

        Raises:
            VanishedError: the address does not lead to it any more.
            StoreError: it cannot be reached.
            BuildFailed: what comes is not what was resolved.
        """
        if package.sha256 and (known := self._place(package)).exists():
            known.touch()
            return package, known
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".draft-", delete=False) as file:
            draft = Path(file.name)
        try:
            digest = self._load(package, draft)
            if package.sha256 and digest != package.sha256:
                raise BuildFailed(
                    f"{package.file} is damaged: its sha256 is {digest}, not {package.sha256}",
                    builder=NAME,
                    step="packages",
                    hint="the index, or something on the way to it, serves another file than it tells",
                )
            done = replace(package, sha256=digest)
            place = self._place(done)
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
        return done, place

    def _place(self, package: Package) -> Path:
        return self._folder / package.sha256[:2] / package.sha256 / package.file

    def _load(self, package: Package, draft: Path) -> str:
        if package.url.startswith("file:"):
            shutil.copyfile(unquote(urlsplit(package.url).path), draft)
            with draft.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        for attempt in range(_ATTEMPTS):
            try:
                return self._download(package.url, draft)
            except _AgainError as error:
                if attempt == _ATTEMPTS - 1:
                    raise StoreError(
                        f"{package.file} cannot be fetched: {error}",
                        hint="check the network, the proxy settings and the index, and build again",
                    ) from None
                self._sleep(0.3 * 2.0**attempt)
        raise AssertionError("unreachable")

    def _download(self, url: str, draft: Path) -> str:
        answer = self._answer(url)
        host = urlsplit(url).netloc
        hasher = hashlib.sha256()
        try:
            with draft.open("wb") as file:
                while data := answer.read(_CHUNK, decode_content=False):
                    if self._stopped.is_set():
                        raise StoreError("the download was stopped", hint="the build has failed: see why")
                    hasher.update(data)
                    file.write(data)
        except HTTPError as error:
            raise _AgainError(f"{host} broke the connection off ({type(error).__name__})") from None
        finally:
            answer.release_conn()
        return hasher.hexdigest()

    def _answer(self, url: str) -> urllib3.BaseHTTPResponse:
        login = self._login(url)
        host = urlsplit(url).netloc
        for _ in range(_REDIRECTS):
            parts = urlsplit(url)
            headers = {"Accept-Encoding": "identity"}
            if login and parts.netloc == host:
                headers |= urllib3.make_headers(basic_auth=f"{login[0]}:{login[1]}")
            try:
                answer = self._pool(url).request(
                    "GET", url, headers=headers, preload_content=False, redirect=False, retries=False,
                    timeout=_TIMEOUT,
                )  # fmt: skip
            except HTTPError as error:
                # its text may hold a proxy's password
                raise _AgainError(f"{parts.netloc} does not answer ({type(error).__name__})") from None
            status, location = answer.status, answer.headers.get("Location")
            if status == 200:
                return answer
            answer.release_conn()
            if status in {301, 302, 303, 307, 308} and location:
                url = urljoin(url, location)
                continue
            if status in {404, 410}:
                raise VanishedError(
                    f"{parts.netloc} has no {parts.path.rpartition('/')[2]} any more ({status})"
                )
            if status in {401, 403}:
                raise StoreError(
                    f"{parts.netloc} refuses {parts.path.rpartition('/')[2]} ({status})",
                    hint="name user and password in the address of the index, or in a netrc file",
                )
            raise _AgainError(f"{parts.netloc} answers {status}")
        raise _AgainError(f"{host} redirects in a circle")

    def _login(self, url: str) -> tuple[str, str] | None:
        parts = urlsplit(url)
        return self._logins.get(parts.netloc.lower()) or self._logins.get((parts.hostname or "").lower())

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self._proxy(parts.scheme, parts.netloc)
        trusted = bool({parts.netloc, parts.hostname} & self._trusted)
        if (proxy, trusted) not in self._pools:
            context = self._tls(trusted=trusted)
            self._pools[proxy, trusted] = (
                urllib3.ProxyManager(proxy, proxy_headers=_proxy_login(proxy), ssl_context=context, maxsize=8)
                if proxy
                else urllib3.PoolManager(ssl_context=context, maxsize=8)
            )
        return self._pools[proxy, trusted]

    def _proxy(self, scheme: str, netloc: str) -> str | None:
        names = (f"{scheme}_proxy", f"{scheme}_PROXY".upper(), "all_proxy", "ALL_PROXY")
        proxy = next((self._env[name] for name in names if self._env.get(name)), None)
        if proxy is None or urlsplit(f"//{netloc}").hostname in _LOCAL:
            return None
        from urllib.request import (  # type: ignore[attr-defined] # noqa: PLC0415 - seldom needed, slow to load
            proxy_bypass_environment,
        )

        exempt = self._env.get("no_proxy") or self._env.get("NO_PROXY") or ""
        if proxy_bypass_environment(netloc, {"no": exempt}):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"

    def _tls(self, *, trusted: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._certificates:
            with contextlib.suppress(OSError):
                context.load_verify_locations(self._certificates)
        if trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _proxy_login(proxy: str) -> dict[str, str] | None:
    parts = urlsplit(proxy)
    if parts.username is None:
        return None
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return dict(urllib3.make_headers(proxy_basic_auth=login))
