"""The base images of the tests, in the plain registry (and one of them in the TLS one)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from . import bases, registries
from .console import part, run
from .state import Images, TlsRegistry, cache


@dataclass(frozen=True, slots=True)
class Publisher:
    """Where images are built and where they go."""

    host: str  # address of the engine
    plain: str  # host:port
    tls: TlsRegistry

    def start(self, pool: Executor) -> Callable[[], Images]:
        """Make all of them side by side; the function returned waits for them."""
        pending: list[Future[None]] = [
            pool.submit(self._python, bases.BOOKWORM, "debian:bookworm", "python:3.11"),
            pool.submit(self._python, bases.TRIXIE, "debian:trixie", "python:3.13"),
            pool.submit(self._bare),
        ]

        def wait() -> Images:
            for future in pending:
                future.result()
            return Images(
                python311=self._reference("python:3.11"),
                python313=self._reference("python:3.13"),
                debian=self._reference("debian:bookworm"),
                bare=self._reference("bare:latest"),
            )

        return wait

    def _python(self, root: bases.RootFs, debian: str, python: str) -> None:
        key = bases.key(root)
        if self._done(debian, key) and self._done(python, key):
            return
        bases.tar(root)
        with part(f"images {debian} and {python}"):
            bases.debian_image(root, self._reference(debian), self.host)
            bases.python_image(root, self._reference(debian), self._reference(python), self.host)
            self._push(python, key)
            self._push(debian, key)

    def _bare(self) -> None:
        key = bases.key(bases.BARE)
        if self._done("bare:latest", key):
            return
        bases.tar(bases.BARE)
        with part("image bare:latest"):
            bases.debian_image(bases.BARE, self._reference("bare:latest"), self.host)
            self._push("bare:latest", key)

    def _reference(self, name: str) -> str:
        return f"{self.plain}/library/{name}"

    def _done(self, name: str, key: str) -> bool:
        """Tell whether both registries got it, made from what it would be made from now."""
        mark = cache() / registries.PLAIN / "made" / name
        made = mark.read_text(encoding="utf-8") if mark.exists() else ""
        repository, _, tag = name.partition(":")
        return made == key and registries.has(self.plain, f"library/{repository}", tag)

    def _push(self, name: str, key: str) -> None:
        env = {"DOCKER_HOST": self.host}
        run(["docker", "push", "--quiet", self._reference(name)], env=env)
        copy = f"{self.tls.address}/library/{name}"
        run(["docker", "tag", self._reference(name), copy], env=env)
        run(["docker", "--config", registries.docker_config(self.tls), "push", "--quiet", copy], env=env)
        mark = cache() / registries.PLAIN / "made" / name
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(key, encoding="utf-8")
