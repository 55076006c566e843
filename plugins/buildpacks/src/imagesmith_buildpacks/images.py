"""The images a build stands on: the builder, and what of the run image must be known before any work."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, EngineError, FeatureUnsupported, StoreError, engine
from imagesmith_buildpacks import builder_info

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imagesmith_buildpacks.builder_info import BuilderInfo
    from imagesmith_buildpacks.containers import Engine

__all__ = ["Facts", "engine_auth", "facts_of", "find_builder", "present", "python_version", "refusal"]

_RELEASE = re.compile(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What an image's files say."""

    distro: tuple[str, str] | None
    """from its ``/etc/os-release``"""
    users: Mapping[str, int]
    """name -> uid"""

    def uid(self, user: str) -> int | None:
        """The number of a user, named or numbered; None where the image does not know it."""
        if user.isdecimal():
            return int(user)
        return 0 if user in ("", "root") else self.users.get(user)


def find_builder(
    docker: Engine, reference: str, platform: str, env: Mapping[str, str], registry_config: str | None
) -> BuilderInfo:
    """The builder image, fetched where the engine lacks it.

    Raises:
        BuilderNotReady: there is none, or it cannot be driven.
    """

    def fetched(name: str) -> Mapping[str, object] | None:
        docker.pull(name, platform, engine_auth(reference, env, registry_config))
        return docker.config(name)

    name, config = reference, docker.config(reference)
    try:
        config = config or fetched(name)
        if config is None or not _same_machine(config, platform):
            # engines keep one platform under a name, or show one of them: each has its digest
            name = _for_platform(reference, platform, env, registry_config)
            config = fetched(name)
    except StoreError as error:
        raise BuilderNotReady(
            f"the builder image {reference} cannot be fetched: {error.message}",
            builder="buildpacks",
            hint="check its name, or name another one (IMAGESMITH_BUILDPACKS_BUILDER)",
        ) from error
    if config is None or not _same_machine(config, platform):
        raise BuilderNotReady(
            f"the builder image {reference} is not there for {platform}",
            builder="buildpacks",
            hint="choose a builder that exists for this platform",
        )
    return builder_info.read(name, config)


def _for_platform(reference: str, platform: str, env: Mapping[str, str], registry_config: str | None) -> str:
    """``repository@digest`` of the image for a platform, or the name itself. Raises StoreError."""
    from imagesmith.stores.reference import parse  # noqa: PLC0415
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415

    name = parse(reference)
    with open_repository(name.repository_reference, env, registry_config, mirrored=True) as store:
        found = store.read(name.digest or name.tag or "latest", platform)
    return f"{name.repository_reference}@{found.digest}" if found else reference


def _same_machine(config: Mapping[str, object], platform: str) -> bool:
    return [config.get("os"), config.get("architecture")] == platform.split("/")[:2]


def present(
    docker: Engine, reference: str, platform: str, env: Mapping[str, str], registry_config: str | None
) -> None:
    """Let the engine have an image, by ``name:tag`` or ``name@digest``. Raises EngineError."""
    config = docker.config(reference)
    if config is None or not _same_machine(config, platform):
        docker.pull(reference, platform, engine_auth(reference, env, registry_config))


def facts_of(docker: Engine, reference: str, cache: Path) -> Facts:
    """What the files of an image that the engine has say; kept in ``cache`` under the image's id."""
    image = docker.inspect(reference)
    name = str(image["Id"]).removeprefix("sha256:") if image else ""
    file = cache / "facts" / f"{name}.json"
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        distro = told["distro"]
        return Facts(tuple(distro) if distro else None, told["users"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with docker.container(reference, ["true"]) as container:
        # the first is a link to the second, which an archive does not follow
        release = container.fetch("/usr/lib/os-release") or container.fetch("/etc/os-release") or {}
        passwd = container.fetch("/etc/passwd") or {}
    found = Facts(_distro(_text(release)), _users(_text(passwd)))
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps({"distro": found.distro, "users": found.users}), encoding="utf-8")
    draft.replace(file)
    return found


def python_version(docker: Engine, reference: str, program: str, cache: Path) -> str | None:
    """What the python at that path of an image says it is; None where it does not run there.

    The engine has the image; what it says is kept in ``cache``.
    """
    image = docker.inspect(reference)
    key = hashlib.sha256(f"{image['Id'] if image else ''} {program}".encode()).hexdigest()[:32]
    file = cache / "pythons" / key
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8") or None
    lines: list[str] = []
    argv = [program, "-B", "-I", "-c", "import platform; print(platform.python_version())"]
    code = 1
    with contextlib.suppress(EngineError), docker.container(reference, argv, network="none") as container:
        container.start()
        code = container.follow(lines.append)
    found = lines[-1].strip() if lines and code == 0 else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(found, encoding="utf-8")
    return found or None


def _text(files: Mapping[str, bytes]) -> str:
    return next(iter(files.values()), b"").decode(errors="replace")


def _distro(text: str) -> tuple[str, str] | None:
    told = dict(_RELEASE.findall(text))
    return (told["ID"], told["VERSION_ID"]) if told.get("ID") and told.get("VERSION_ID") else None


def _users(text: str) -> dict[str, int]:
    rows = (line.split(":") for line in text.splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdecimal()}


def engine_auth(reference: str, env: Mapping[str, str], registry_config: str | None) -> dict[str, str]:
    """The login that the engine needs to pull, in its own form."""
    return engine.registry_facts(reference, env, registry_config).engine_auth() or {}


def refusal(field: str, reason: str) -> FeatureUnsupported:
    """One field that cannot be honoured with this builder image."""
    return FeatureUnsupported(
        f"the buildpacks builder cannot honour '{field}':\n  {field}: {reason}",
        builder="buildpacks",
        fields={field: reason},
        hint="change it, or choose another builder image (builder_options={'builder': …}) or builder",
    )
