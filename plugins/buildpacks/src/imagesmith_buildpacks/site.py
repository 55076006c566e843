"""Where one build happens: the engine, a folder, the machine, and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesmith import BuildRequest, LocalEngine, RegistryRepository, Reporter, engine
from imagesmith_buildpacks.exchange import can_exchange
from imagesmith_buildpacks.images import present

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imagesmith import RegistryFacts
    from imagesmith.runner import Redactor
    from imagesmith_buildpacks.containers import Engine
    from imagesmith_buildpacks.options import Options

__all__ = ["Site"]

_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class Site:
    """What every part of a build needs."""

    request: BuildRequest
    options: Options
    docker: Engine
    env: Mapping[str, str]
    """the user's environment"""
    cache: Path
    """a folder of the builder's own"""
    folder: Path
    """of this build, gone after it"""
    report: Reporter
    redactor: Redactor

    @property
    def repository(self) -> RegistryRepository | None:
        """Where the image is pushed; None where it stays in the engine."""
        there = self.request.destination
        return there if isinstance(there, RegistryRepository) else None

    @property
    def exchanges(self) -> bool:
        """Whether images go to and fro in a folder: the run image is one of a registry as it stands, and
        nothing is pushed."""
        request = self.request
        bare = not request.spec.apt_packages and request.conda is None
        return self.repository is None and bare and can_exchange(request.base)

    @property
    def local_name(self) -> str:
        """What the image is called in the engine while it is made."""
        there = self.request.destination
        if isinstance(there, LocalEngine):
            return there.reference
        return f"imagesmith-build:{self.folder.name.lower().replace('_', 'x')}"

    def facts(self, reference: str) -> RegistryFacts:
        """How to reach the registry of a reference. Raises ImagesmithError."""
        return engine.registry_facts(reference, self.env, self.request.spec.registry_config)

    def present(self, reference: str) -> None:
        """Let the engine have an image. Raises EngineError."""
        present(self.docker, reference, self.request.platform, self.env, self.request.spec.registry_config)

    def network(self, *hosts: str) -> str | None:
        """Of a container that talks to these registries, and of all others without any."""
        if self.options.network is not None:
            return self.options.network
        near = any(host.startswith(_LOOPBACK) for host in hosts)
        return "host" if near else None

    def socket(self) -> str:
        """The path of the engine's socket. Raises EngineError."""
        from imagesmith import EngineError  # noqa: PLC0415

        address = engine.docker_variables(self.env)["DOCKER_HOST"]
        parts = urlsplit(address)
        if parts.scheme != "unix":
            raise EngineError(
                f"a lifecycle can write into an engine only through its socket, and this one is at {address}",
                hint="set registry= in the spec: then the image goes there directly",
            )
        return parts.path
