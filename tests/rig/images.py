"""The base images of the tests, in both registries: made of Debian packages, or of public images."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from . import bases, engine, registries
from .console import part, run
from .state import Images, TlsRegistry, cache

PYTHON311, PYTHON313, DEBIAN, BARE = "python:3.11", "python:3.13", "debian:bookworm", "bare:latest"
DEBIAN_NEWER = "debian:trixie"
PUBLIC = {
    PYTHON311: "FROM python:3.11-slim-bookworm\n",
    PYTHON313: "FROM python:3.13-slim-trixie\n",
    DEBIAN: "FROM debian:bookworm-slim\nRUN apt-get update && apt-get install -y --no-install-recommends "
    "ca-certificates python3 python3-pip python3-venv && rm -rf /var/lib/apt/lists/*\n",
    BARE: "FROM debian:bookworm-slim\n",
}


@dataclass(frozen=True, slots=True)
class Publisher:
    """Where images are made and where they go."""

    host: str  # address of the engine
    plain: str  # host:port
    tls: TlsRegistry

    def reference(self, name: str) -> str:
        """Return the full reference in the plain registry."""
        return f"{self.plain}/library/{name}"

    def images(self) -> Images:
        """Return the references of all."""
        return Images(*(self.reference(name) for name in (PYTHON311, PYTHON313, DEBIAN, BARE)))

    def done(self, name: str, key: str) -> bool:
        """Tell whether it was pushed, made from what ``key`` stands for."""
        repository, _, tag = name.partition(":")
        return self.made_from(name) == key and registries.has(self.plain, f"library/{repository}", tag)

    def made_from(self, name: str) -> str:
        """Return the key of what was last pushed under this name, "" where nothing was."""
        mark = _mark(name)
        return mark.read_text(encoding="utf-8") if mark.exists() else ""

    def push(self, name: str, key: str) -> None:
        """Push to both registries."""
        env = {"DOCKER_HOST": self.host}
        run(["docker", "push", "--quiet", self.reference(name)], env=env)
        copy = f"{self.tls.address}/library/{name}"
        run(["docker", "tag", self.reference(name), copy], env=env)
        run(["docker", "--config", registries.docker_config(self.tls), "push", "--quiet", copy], env=env)
        self.remember(name, key)

    def remember(self, name: str, key: str) -> None:
        """Note what the pushed image was made from, for ``done``."""
        _mark(name).parent.mkdir(parents=True, exist_ok=True)
        _mark(name).write_text(key, encoding="utf-8")


def start_debian(publisher: Publisher, pool: Executor) -> list[Future[None]]:
    """Make all images from Debian packages, side by side."""
    return [
        pool.submit(_python, publisher, bases.BOOKWORM, DEBIAN, PYTHON311),
        pool.submit(_python, publisher, bases.TRIXIE, DEBIAN_NEWER, PYTHON313),
        pool.submit(_bare, publisher),
    ]


def start_public(publisher: Publisher, pool: Executor) -> list[Future[None]]:
    """Make all images from public ones, side by side."""
    return [pool.submit(_public, publisher, name, text) for name, text in PUBLIC.items()]


def _python(publisher: Publisher, root: bases.RootFs, debian: str, python: str) -> None:
    key = bases.key(root)
    if publisher.done(debian, key) and publisher.done(python, key):
        return
    bases.tar(root)
    with part(f"images {debian} and {python}"):
        base = publisher.reference(debian)
        bases.debian_image(root, base, publisher.host)
        bases.python_image(root, base, publisher.reference(python), publisher.host)
        publisher.push(python, key)
        publisher.push(debian, key)


def _bare(publisher: Publisher) -> None:
    key = bases.key(bases.BARE)
    if publisher.done(BARE, key):
        return
    bases.tar(bases.BARE)
    with part(f"image {BARE}"):
        bases.debian_image(bases.BARE, publisher.reference(BARE), publisher.host)
        publisher.push(BARE, key)


def _public(publisher: Publisher, name: str, dockerfile: str) -> None:
    key = hashlib.sha256(dockerfile.encode()).hexdigest()[:16]
    if publisher.done(name, key):
        return
    with part(f"image {name}"):
        engine.build(publisher.host, dockerfile, publisher.reference(name))
        publisher.push(name, key)


def _mark(name: str) -> Path:
    return cache() / registries.PLAIN / "made" / name
