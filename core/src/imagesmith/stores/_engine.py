"""Where the local Docker Engine listens, and what its errors mean."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesmith.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient
    from docker.tls import TLSConfig

__all__ = ["Endpoint", "connect", "endpoint", "speaking"]

_START = "start Docker, or set DOCKER_HOST or DOCKER_CONTEXT; docker version shows what it finds"
_CONNECT_TIMEOUT = 5.0
"""Seconds."""
_DEFAULT = "unix:///var/run/docker.sock"
_TIMEOUT = 120
"""Seconds of silence after which the engine counts as hanging."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The engine's address as the docker command would find it, and why it is that one."""

    address: str
    source: str
    """``DOCKER_HOST``, ``docker context NAME`` or ``the default``"""
    certificates: Path | None = None
    """folder with those of ``ca.pem``, ``cert.pem`` and ``key.pem`` that are wanted; None: no TLS"""
    verify: bool = True

    def __str__(self) -> str:
        return f"{self.address} ({self.source})"


def endpoint(env: Mapping[str, str]) -> Endpoint:
    """Resolve DOCKER_HOST, DOCKER_CONTEXT and the current context of ``config.json``, in this order.

    Raises:
        EngineError: the context does not exist or cannot be read.
    """
    config = Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME", "/nonexistent")) / ".docker")
    if host := env.get("DOCKER_HOST"):
        verify = bool(env.get("DOCKER_TLS_VERIFY"))
        tls = host.startswith("tcp://") and (verify or bool(env.get("DOCKER_TLS")))
        folder = Path(env.get("DOCKER_CERT_PATH") or config)
        return Endpoint(host, "DOCKER_HOST", folder if tls else None, verify)
    file = config / "config.json"
    name, origin = env.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name and file.exists():
        name, origin = str(_read(file).get("currentContext") or ""), str(file)
    if not name or name == "default":
        return Endpoint(_DEFAULT, "the default")
    return _context(config / "contexts", name, origin)


def _context(folder: Path, name: str, origin: str) -> Endpoint:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "meta" / key / "meta.json"
    if not meta.exists():
        raise EngineError(
            f"there is no docker context {name!r}, which {origin} names",
            hint="docker context ls shows those there are; or set DOCKER_HOST",
        )
    endpoints = _read(meta).get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, Mapping) else None
    host = docker.get("Host") if isinstance(docker, Mapping) else None
    if not isinstance(docker, Mapping) or not host:
        raise EngineError(f"the docker context {name!r} names no engine (in {meta})", hint="set DOCKER_HOST")
    verify = not docker.get("SkipTLSVerify")
    certificates = folder / "tls" / key / "docker"
    tls = str(host).startswith("tcp://") and (certificates.is_dir() or not verify)
    return Endpoint(str(host), f"docker context {name}", certificates if tls else None, verify)


def _read(file: Path) -> Mapping[str, object]:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot read {file}: {error}", hint="mend it, or set DOCKER_HOST") from error
    return document if isinstance(document, Mapping) else {}


def connect(env: Mapping[str, str]) -> APIClient:
    """A client of the engine that the docker command would use in this environment; the engine answered.

    Raises:
        EngineError: there is none, or it does not let us in.
    """
    at = endpoint(env)
    _knock(at)  # here, as the client library wraps the system's errors into text
    from docker.errors import DockerException  # noqa: PLC0415 - costs 0.2 s
    from requests import RequestException  # noqa: PLC0415

    try:
        tls = _tls(at)
        asking = _client(at, tls, None)
        with contextlib.closing(asking):
            version = str(asking.version(api_version=False)["ApiVersion"])
        return _client(at, tls, version)
    except (DockerException, RequestException, KeyError, ValueError) as error:
        raise EngineError(
            f"the Docker engine at {at} gives no sensible answer: {error}", hint=_START
        ) from error


def _tls(at: Endpoint) -> TLSConfig | bool:
    from docker.tls import TLSConfig  # noqa: PLC0415

    if at.certificates is None:
        return False
    ca, cert, key = (at.certificates / name for name in ("ca.pem", "cert.pem", "key.pem"))
    return TLSConfig(
        client_cert=(str(cert), str(key)) if cert.exists() else None,
        ca_cert=str(ca) if ca.exists() else None,
        verify=at.verify,
    )


def _client(at: Endpoint, tls: TLSConfig | bool, version: str | None) -> APIClient:
    """With a version it asks the engine nothing by itself."""
    from docker import APIClient  # noqa: PLC0415
    from docker.constants import DEFAULT_DOCKER_API_VERSION  # noqa: PLC0415

    client = APIClient(
        base_url=at.address, version=version or DEFAULT_DOCKER_API_VERSION, tls=tls, timeout=_TIMEOUT
    )
    if at.certificates is not None:
        client.trust_env = False  # else REQUESTS_CA_BUNDLE, which many machines set, wins over ca.pem
    return client


def _knock(at: Endpoint) -> None:
    """Raise EngineError where nothing accepts a connection."""
    try:
        parts = urlsplit(at.address)
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(_CONNECT_TIMEOUT)
                door.connect(parts.path)
        elif parts.scheme == "tcp":
            socket.create_connection((parts.hostname or "", parts.port or 2375), _CONNECT_TIMEOUT).close()
        elif parts.scheme == "ssh":
            raise EngineError(
                f"the Docker engine at {at} is reached over ssh, which imagesmith does not speak",
                hint="forward its socket (ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST) and set "
                "DOCKER_HOST=unix:///tmp/engine.sock",
            )
        else:
            raise EngineError(
                f"{at} is no address of a Docker engine", hint="unix:///path or tcp://host:port"
            )
    except FileNotFoundError as error:
        raise EngineError(f"there is no Docker engine at {at}: no such socket", hint=_START) from error
    except PermissionError as error:
        raise EngineError(
            f"this user may not use the Docker engine at {at}: permission denied",
            hint="add the user to the group docker and log in again, or use a rootless engine",
        ) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise EngineError(f"the Docker engine at {at} does not answer: {why}", hint=_START) from error


@contextlib.contextmanager
def speaking(doing: str) -> Iterator[None]:
    """Turn what the client library raises into EngineError: ``cannot <doing>: <why>``."""
    import requests  # noqa: PLC0415 - costs 0.2 s
    from docker.errors import APIError, DockerException  # noqa: PLC0415

    try:
        yield
    except APIError as error:
        raise refused(doing, str(error.explanation or error)) from error
    except (DockerException, requests.RequestException) as error:
        raise EngineError(
            f"cannot {doing}: the engine does not answer any more ({error})", hint="is it still running?"
        ) from error


def refused(doing: str, why: str) -> EngineError:
    """The engine answered, and said no."""
    full = "no space left on device" in why
    hint = "the engine's disk is full: docker system df, then docker system prune" if full else None
    return EngineError(f"cannot {doing}: the Docker engine says: {why}", hint=hint)
