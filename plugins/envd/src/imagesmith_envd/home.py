"""A private HOME for envd.

envd keeps its contexts, a key pair and a start-up script that runs before every build in ``$HOME/.config``
and reads the registries that speak plain HTTP from there. A HOME of our own, seeded once for each engine
address and copied for each build, keeps the user's untouched and unread.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

from filelock import FileLock

from imagesmith import BuilderNotReady, RegistryFacts, Runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Seed", "docker_config", "registries_conf"]


class Seed:
    """Makes the seed HOME for one address (None: the Docker engine) when it is first needed."""

    def __init__(self, cache_dir: Path, runner: Runner, envd: str, address: str | None) -> None:
        self._folder = cache_dir / ("home-" + hashlib.sha256(f"{envd}\0{address}".encode()).hexdigest()[:16])
        self._runner = runner
        self._envd = envd
        self._address = address

    def copy_to(self, target: Path, env: Mapping[str, str]) -> None:
        """A fresh HOME at ``target``, with envd's context set to the address."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder.with_suffix(".lock")):
            if not self._folder.is_dir():
                half = self._folder.with_suffix(".half")
                shutil.rmtree(half, ignore_errors=True)
                half.mkdir(mode=0o700)
                self._make(half, env)
                half.rename(self._folder)
            shutil.copytree(self._folder, target, symlinks=True)

    def _make(self, home: Path, env: Mapping[str, str]) -> None:
        argv = [self._envd, "context", "create", "--name", "imagesmith", "--use"]
        if self._address is None:
            argv += ["--builder", "moby-worker"]
        else:
            scheme, _, rest = self._address.partition("://")
            argv += ["--builder", scheme, "--builder-address", rest]
        done = self._runner.run(argv, env={**env, "HOME": str(home)}, cwd=home, on_line=_ignore)
        if done.returncode != 0:
            raise BuilderNotReady(
                "envd could not set up its context: " + " ".join(done.tail[-3:]),
                builder="envd",
                hint="check IMAGESMITH_ENVD_ADDRESS (tcp://host:port or unix:///path)",
            )


def _ignore(line: str, stream: str) -> None:
    """Its tail is enough."""


def registries_conf(insecure: Sequence[str]) -> str:
    """Registries that envd may ask over plain HTTP, or whose certificate it need not trust (loopback)."""
    return "".join(f"[[registry]]\nlocation = {json.dumps(host)}\ninsecure = true\n\n" for host in insecure)


def docker_config(registries: Sequence[RegistryFacts]) -> str:
    """A Docker ``config.json`` that holds just these logins."""
    auths = {facts.docker_key: facts.login.entry() for facts in registries if facts.login is not None}
    return json.dumps({"auths": auths})
