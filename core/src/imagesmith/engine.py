"""What a builder needs of the local engine, in one place: is it there, what address, push from it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesmith.errors import EngineError

if TYPE_CHECKING:
    from imagesmith.builder import RegistryRepository
    from imagesmith.stores.local import LocalStore

__all__ = ["Probe", "describe", "local_store", "probe", "push", "unreachable"]


@dataclass(frozen=True, slots=True)
class Probe:
    """An engine that answers (``detail``), or why not and what to do."""

    detail: str = ""
    problem: str | None = None
    hint: str | None = None


def probe(env: Mapping[str, str]) -> Probe:
    """Ask the engine for its version. Never raises."""
    try:
        store = local_store(env)
        return Probe(store.version())
    except EngineError as error:
        return Probe(problem=error.message, hint=error.hint)


def local_store(env: Mapping[str, str]) -> LocalStore:
    """The local engine as a store.

    Raises:
        EngineError: it cannot be reached.
    """
    from imagesmith.stores.local import LocalStore, connect  # noqa: PLC0415

    return LocalStore(connect(env))


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
