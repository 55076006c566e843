"""Wheels of source: made on this machine, and taken only where they hold nothing that was compiled."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imagesmith import BuildFailed
from imagesmith_oci.resolve import uv_program

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from imagesmith import Runner
    from imagesmith_oci.lock import Package

__all__ = ["Workbench", "is_pure"]

NAME = "oci"
SOURCE_DATE_EPOCH = "315619200"
"""what a build backend may write into files instead of the time of day"""


def is_pure(file: str) -> bool:
    """Whether a wheel of that name fits every machine."""
    parts = file.removesuffix(".whl").split("-")
    return len(parts) >= 5 and parts[-1] == "any" and "none" in parts[-2].split(".")


class Workbench:
    """Builds wheels with uv, each source in an environment of its own."""

    def __init__(
        self,
        runner: Runner,
        env: Mapping[str, str],
        build_env: Mapping[str, str],
        scratch: Path,
        say: Callable[[str], None],
        redact: tuple[str, ...],
        *,
        indexes: tuple[str | None, tuple[str, ...]] = (None, ()),
        logins: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self._runner = runner
        self._env = env
        self._build_env = build_env
        self._scratch = scratch
        self._say = say
        self._redact = redact
        self._indexes = indexes
        self._logins = logins or {}
        self._made = 0

    def wheel(self, package: Package, source: Path) -> Path:
        """The wheel of a source distribution, a project's folder or a repository.

        Args:
            package: what it is.
            source: where it lies; for a repository a folder that does not exist yet.

        Raises:
            BuildFailed: there is none, or it is not pure.
        """
        if package.commit:
            self._clone(package, source)
        where = source / package.subdirectory if package.subdirectory else source
        if package.subdirectory and source.is_file():
            where = self._unpacked(source) / package.subdirectory
        self._made += 1
        out = self._scratch / f"built-{self._made}"
        argv = [uv_program(), "build", "--wheel", "--no-sources", "--out-dir", str(out)]
        argv += ["--python", sys.executable, *self._settings(), str(where)]
        self._run(argv, self._backend_env(), f"{package.name}: no wheel can be built of its source", package)
        found = sorted(out.glob("*.whl"))
        if len(found) != 1:
            raise self._failed(package, f"{package.name}: building it gave {len(found)} wheels", ())
        if not is_pure(found[0].name):
            raise BuildFailed(
                f"{package.name} has to be compiled: a build gave {found[0].name}, which is for this machine "
                "and not for the image",
                builder=NAME,
                step="packages",
                hint="choose a version with a wheel, name a wheel that you built, or use another builder",
            )
        return found[0]

    def _backend_env(self) -> dict[str, str]:
        """That of the user without what imagesmith, uv and pip are told (indexes may hold credentials)."""
        own = ("IMAGESMITH_", "UV_", "PIP_", "DOCKER_")
        kept = {key: value for key, value in self._env.items() if not key.startswith(own)}
        cache = self._env["UV_CACHE_DIR"]
        uv = {"UV_CACHE_DIR": cache, "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
        return {**kept, **uv, "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, **self._build_env}

    def _settings(self) -> list[str]:
        """The indexes as a file: a build backend sees the environment, and may keep it."""
        main, extra = self._indexes
        if not main and not extra:
            return []
        file = self._scratch / "uv.toml"
        entries = [f"[[index]]\nurl = {json.dumps(url)}\n" for url in extra]
        entries += [f"[[index]]\nurl = {json.dumps(main)}\ndefault = true\n"] if main else []
        file.touch(mode=0o600)
        file.write_text("".join(entries), encoding="utf-8")
        return ["--config-file", str(file)]

    def _clone(self, package: Package, folder: Path) -> None:
        url = package.url.removeprefix("git+")
        env = {**self._env, "GIT_TERMINAL_PROMPT": "0"}
        if login := self._logins.get(urlsplit(url).netloc.lower()):
            token = base64.b64encode(":".join(login).encode()).decode()
            parts = urlsplit(url)
            env |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {token}",
            }
        what = f"{package.name}: the repository cannot be fetched"
        for argv in (
            ["git", "clone", "--quiet", "--no-checkout", "--", url, str(folder)],
            ["git", "-C", str(folder), "checkout", "--quiet", "--detach", package.commit],
            ["git", "-C", str(folder), "submodule", "--quiet", "update", "--init", "--recursive"],
        ):
            self._run(argv, env, what, package)

    def _unpacked(self, archive: Path) -> Path:
        folder = self._scratch / f"unpacked-{hashlib.sha256(str(archive).encode()).hexdigest()[:12]}"
        folder.mkdir(exist_ok=True)
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folder)  # noqa: S202 - zipfile lets nothing out
        else:
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
        inner = list(folder.iterdir())
        return inner[0] if len(inner) == 1 and inner[0].is_dir() else folder

    def _run(self, argv: list[str], env: Mapping[str, str], what: str, package: Package) -> None:
        done = self._runner.run(
            argv,
            env=env,
            cwd=self._scratch,
            on_line=lambda line, _: self._say(f"{package.name}: {line}"),
            redact=self._redact,
        )
        if done.returncode:
            raise self._failed(package, what, done.tail, done.returncode)

    def _failed(
        self, package: Package, message: str, tail: tuple[str, ...], returncode: int | None = None
    ) -> BuildFailed:
        return BuildFailed(
            message,
            builder=NAME,
            step="packages",
            returncode=returncode,
            tail=tail[-20:],
            hint=f"what its build needs has to be on this machine; or name a wheel of {package.name}",
        )
