"""What a builder needs of engines and registries: are they there, at what address, with which login."""

from __future__ import annotations

import contextlib
import itertools
import socket
import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesmith.builder import LocalEngine, RegistryRepository
from imagesmith.errors import EngineError
from imagesmith.stores import KEPT, KEPT_NAMES

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from imagesmith.builder import BaseImage, BuildRequest
    from imagesmith.stores.credentials import Login
    from imagesmith.stores.local import LocalStore

__all__ = [
    "Probe",
    "RegistryFacts",
    "docker_variables",
    "engine_address",
    "lent_name",
    "local_store",
    "planned_name",
    "probe",
    "pull",
    "push",
    "registry_facts",
    "unreachable",
]


@dataclass(frozen=True, slots=True)
class Probe:
    """An engine that answers (``detail``), or why not and what to do."""

    detail: str = ""
    problem: str | None = None
    hint: str | None = None


def probe(env: Mapping[str, str]) -> Probe:
    """Ask the engine for its version. Never raises."""
    try:
        with contextlib.closing(local_store(env)) as store:
            return Probe(f"{store.version()} at {engine_address(env)}")
    except EngineError as error:
        return Probe(problem=error.message, hint=error.hint)


def local_store(env: Mapping[str, str]) -> LocalStore:
    """The local engine as a store.

    Raises:
        EngineError: it cannot be reached.
    """
    from imagesmith.stores.local import LocalStore, connect  # noqa: PLC0415

    return LocalStore(connect(env))


def engine_address(env: Mapping[str, str]) -> str:
    """Where the engine is and why there, for messages. Raises EngineError for an unknown context."""
    from imagesmith.stores.local import endpoint  # noqa: PLC0415

    return str(endpoint(env))


def docker_variables(env: Mapping[str, str]) -> dict[str, str]:
    """``DOCKER_HOST`` and its TLS variables, for tools that do not know docker contexts."""
    from imagesmith.stores.local import endpoint  # noqa: PLC0415

    at = endpoint(env)
    variables = {"DOCKER_HOST": at.address}
    if at.certificates is not None:
        variables["DOCKER_CERT_PATH"] = str(at.certificates)
        if at.verify:
            variables["DOCKER_TLS_VERIFY"] = "1"
    return variables


@dataclass(frozen=True, slots=True)
class RegistryFacts:
    """What a tool must be told to reach one registry."""

    host: str
    """``host[:port]``"""
    insecure: bool
    """plain HTTP, or a certificate that need not be trusted: loopback, or configured so"""
    ca: Path | None = None
    login: Login | None = field(default=None, repr=False)

    @property
    def docker_key(self) -> str:
        """What the registry is called in Docker's ``config.json``."""
        return "https://index.docker.io/v1/" if self.host == "docker.io" else self.host

    def engine_auth(self) -> dict[str, str] | None:
        """The login, as the Docker Engine wants to hear it."""
        login = self.login
        if login is None:
            return None
        if login.token:
            return {"identitytoken": login.token, "serveraddress": self.host}
        return {
            "username": login.username or "",
            "password": login.password or "",
            "serveraddress": self.host,
        }


def registry_facts(
    reference: str, env: Mapping[str, str], registry_config: str | os.PathLike[str] | None
) -> RegistryFacts:
    """Of the registry that ``reference`` names, from ``registry_config`` and the machine's configuration.

    Raises:
        ImagesmithError: a file or a credential helper cannot be read.
    """
    from imagesmith.stores._connection import is_loopback  # noqa: PLC0415
    from imagesmith.stores.credentials import load_settings  # noqa: PLC0415
    from imagesmith.stores.reference import parse  # noqa: PLC0415

    host = parse(reference).registry
    access = load_settings(env, registry_config).access(host)
    insecure = access.use_http or is_loopback(urlsplit(f"//{host}").hostname or "")
    return RegistryFacts(host, insecure, access.ca, access.login())


def planned_name(request: BuildRequest) -> str:
    """What a plan says in place of ``lent_name``, which only a build is given."""
    there = request.destination
    return there.reference if isinstance(there, LocalEngine) else f"{KEPT}:…"


@contextlib.contextmanager
def lent_name(request: BuildRequest, cache: Path) -> Iterator[str]:
    """What the image is called in the engine until it stands where it should go. No other build is lent it.

    The engine pushes by name, and what it pushed it has to keep: with the last name of an image its layers
    go, and the next build would have to make and compress all of them again (1 s for 100 MB). So an image
    has one of a few names here, the same for each repository, which a build moves on to its own.
    Builds that run at the same time never have the same. ``cache``: a folder of the builder's own.
    """
    there = request.destination
    if not isinstance(there, RegistryRepository):
        yield planned_name(request)
        return
    from filelock import FileLock, Timeout  # noqa: PLC0415 - other destinations need none of it

    folder = cache / "names"
    folder.mkdir(parents=True, exist_ok=True)
    slot = zlib.crc32(f"{there.repository} {request.platform}".encode()) % KEPT_NAMES
    key = f"{_user(folder)}-{slot}"
    for number in itertools.count():
        lock = FileLock(folder / f"{key}-{number}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            yield f"{KEPT}:{key}-{number}"
        finally:
            lock.release()
        return


def _user(folder: Path) -> str:
    """Tells this cache from those of others who use the same engine."""
    file = folder / "id"
    with contextlib.suppress(FileExistsError), file.open("x", encoding="ascii") as new:
        new.write(uuid.uuid4().hex[:12])
    return file.read_text(encoding="ascii")


def push(store: LocalStore, name: str, to: RegistryRepository, facts: RegistryFacts, locks: Path) -> str:
    """Push the local image ``name`` under the repository's staging tag. Returns the manifest's digest.

    An engine pushes by name, and the staging tag is one for all builds on this machine: hence the lock.
    A name that was lent goes where the engine keeps no layers as they are pushed (the classic store).

    Raises:
        StoreError: the engine's or the registry's refusal.
    """
    from filelock import FileLock  # noqa: PLC0415

    auth = facts.engine_auth()
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / "push.lock"):
        store.publish(name, to.reference)
        try:
            return store.push(to.reference, auth)
        finally:
            store.discard(to.reference)
            if name.startswith(f"{KEPT}:") and not store.containerd:
                store.discard(name)


def pull(store: LocalStore, base: BaseImage, platform: str, facts: RegistryFacts) -> None:
    """See that the engine has the base, which a registry holds: under ``base.pinned``.

    Raises:
        StoreError: the engine's or the registry's refusal.
    """
    store.pull(base.pinned, platform, facts.engine_auth())


def unreachable(address: str, *, seconds: float = 3.0) -> str | None:
    """Why nothing accepts a connection at ``tcp://host:port`` or ``unix:///path``; None when it does."""
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                stream.settimeout(seconds)
                stream.connect(parts.path)
        else:
            if parts.hostname is None or parts.port is None:
                return "it names no host and port"
            socket.create_connection((parts.hostname, parts.port), timeout=seconds).close()
    except (OSError, ValueError) as error:
        return str(error)
    return None
