"""The docker client and its buildx plugin: are they there, which builder is meant, with which logins."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, RegistryFacts, Runner, ToolMissing, ToolTimeout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["BuilderFacts", "buildx_version", "inspect", "lent_tools", "load", "private_config"]

OLDEST_BUILDX = (0, 13)
"""The first one that tells its progress as JSON."""
_INSTALL = (
    "install Docker's client and its plugin (Debian: docker-cli docker-buildx; Docker: docker-buildx-plugin)"
)


@dataclass(frozen=True, slots=True)
class BuilderFacts:
    """What ``docker buildx inspect`` says of a builder."""

    name: str
    driver: str
    """``docker`` (the engine's own), ``docker-container``, ``remote``, ``kubernetes`` …"""
    platforms: tuple[str, ...] = ()
    """empty where the builder does not say"""
    told: str = ""
    """all that was said, less what changes from one question to the next"""

    @property
    def in_engine(self) -> bool:
        """Whether it is the local engine's own: it sees the engine's images, and leaves its own there."""
        return self.driver == "docker"

    def can_run(self, platform: str) -> bool:
        """Whether steps for that platform can run there. ``linux/arm64`` and ``linux/arm64/v8`` are one."""
        known = {each.removesuffix("/v8") for each in self.platforms}
        return not known or platform.removesuffix("/v8") in known


def buildx_version(runner: Runner, env: Mapping[str, str], cwd: Path) -> str:
    """The version of buildx.

    Raises:
        BuilderNotReady: there is no docker, no buildx, or one that is too old.
    """
    code, lines = _ask(runner, env, cwd, "version")
    if code != 0:
        raise BuilderNotReady(
            f"docker has no buildx plugin: {lines[-1] if lines else 'no answer'}",
            builder="docker",
            hint=_INSTALL,
        )
    found = re.search(r"\bv?(\d+)\.(\d+)\.\d+\S*", " ".join(lines))
    if found is not None and (int(found[1]), int(found[2])) < OLDEST_BUILDX:
        raise BuilderNotReady(
            f"buildx {found[0]} is too old: {'.'.join(map(str, OLDEST_BUILDX))} or newer is needed",
            builder="docker",
            hint=_INSTALL,
        )
    return found[0] if found else "unknown"


def inspect(
    runner: Runner, env: Mapping[str, str], cwd: Path, name: str | None, redact: Sequence[str] = ()
) -> BuilderFacts:
    """What is known of that builder, or of the current one.

    Raises:
        BuilderNotReady: there is no such builder, or it does not answer.
    """
    code, lines = _ask(runner, env, cwd, "inspect", *([name] if name else []), redact=redact)
    text = "\n".join(lines)
    # the first Name is the builder's, those that follow are its nodes'
    told = dict(reversed(re.findall(r"^ *([A-Z][\w ]*):[ \t]+(.+)$", text, re.MULTILINE)))
    problem = told.get("Error") or (
        "" if code == 0 and "Driver" in told else lines[-1] if lines else "no answer"
    )
    if problem:
        meant = f"the buildx builder {name or told.get('Name') or env.get('BUILDX_BUILDER') or 'in use'}"
        raise BuilderNotReady(
            f"{meant} does not answer: {problem.removeprefix('ERROR: ')}",
            builder="docker",
            hint="start the engine, or choose a builder that docker buildx ls shows as running",
        )
    platforms = [each.strip().rstrip("*") for each in told.get("Platforms", "").split(",")]
    steady = "\n".join(line for line in lines if not line.startswith("Last Activity:"))
    return BuilderFacts(told["Name"], told["Driver"], tuple(filter(None, platforms)), steady)


def load(runner: Runner, env: Mapping[str, str], cwd: Path, archive: Path) -> None:
    """Let the engine take in an image from an archive.

    Raises:
        BuilderNotReady: it does not.
    """
    code, lines = _run(runner, env, cwd, ["docker", "load", "--quiet", "--input", str(archive)], seconds=None)
    if code != 0:
        raise BuilderNotReady(
            f"the engine does not load the image: {lines[-1] if lines else 'no answer'}",
            builder="docker",
            hint="is it running, and is there room on its disk? docker system df",
        )


def _ask(
    runner: Runner, env: Mapping[str, str], cwd: Path, *arguments: str, redact: Sequence[str] = ()
) -> tuple[int, tuple[str, ...]]:
    return _run(runner, env, cwd, ["docker", "buildx", *arguments], redact)


def _run(
    runner: Runner,
    env: Mapping[str, str],
    cwd: Path,
    argv: list[str],
    redact: Sequence[str] = (),
    seconds: float | None = 60,
) -> tuple[int, tuple[str, ...]]:
    def ignore(line: str, stream: str) -> None:
        """Its tail is enough."""

    try:
        done = runner.run(argv, env=env, cwd=cwd, on_line=ignore, redact=redact, timeout=seconds)
    except (ToolMissing, OSError) as error:
        raise BuilderNotReady("there is no docker client", builder="docker", hint=_INSTALL) from error
    except ToolTimeout as error:
        raise BuilderNotReady(str(error), builder="docker", hint="is the engine running?") from error
    return done.returncode, done.tail


def private_config(
    folder: Path, env: Mapping[str, str], registries: Sequence[RegistryFacts]
) -> dict[str, str]:
    """Write a Docker configuration with these logins into ``folder``; returns the variables that name it.

    The user's own stays as it is and is what the rest comes from: plugins, contexts, builders, other logins.
    """
    own = Path(env.get("DOCKER_CONFIG") or Path(env.get("HOME") or Path.home()) / ".docker")
    folder.mkdir(mode=0o700)
    try:
        config = json.loads((own / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    if not isinstance(config, dict):
        config = {}
    auths, helpers = dict(config.get("auths") or {}), dict(config.get("credHelpers") or {})
    for facts in registries:
        if facts.login is None:
            continue
        helpers[facts.docker_key] = ""  # not the store of all others
        auths[facts.docker_key] = facts.login.entry()
    config |= {"auths": auths, "credHelpers": helpers}
    file = folder / "config.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(config), encoding="utf-8")
    for name in ("cli-plugins", "contexts"):
        if (own / name).is_dir():
            (folder / name).symlink_to((own / name).absolute())
    return {
        "DOCKER_CONFIG": str(folder),
        "BUILDX_CONFIG": env.get("BUILDX_CONFIG") or str((own / "buildx").absolute()),
    }


def lent_tools(cache: Path) -> Path:
    """A folder that holds the uv of this installation, where it can run in a linux image, and else nothing.

    It is made once and stays where it is: engines then know it, and need not be sent it again.
    """
    import importlib.metadata  # noqa: PLC0415
    import platform  # noqa: PLC0415

    if platform.system() != "Linux":
        folder = cache / "no-tools"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = cache / f"tools-uv-{importlib.metadata.version('uv')}-{platform.machine()}"
    if not folder.is_dir():
        import uv  # noqa: PLC0415

        cache.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix="tools-", dir=cache))
        half.chmod(0o755)
        shutil.copy2(uv.find_uv_bin(), half / "uv")
        try:
            half.rename(folder)
        except OSError:  # another build was quicker
            shutil.rmtree(half)
    return folder
