"""A request as what buildpacks are given: files of the application, variables, scripts, a command. Pure.

The application that buildpacks see is what packages are installed from, and nothing else: source files come
afterwards, as a layer of their own, so that a change of them installs nothing anew.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from imagesmith import BuildRequest, Contribution, install_arguments, install_environment, scripts
from imagesmith.configuration import search_path
from imagesmith.requirements import ENTRY_FILE
from imagesmith_buildpacks.pip_environment import pip_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith_buildpacks.options import Options

__all__ = [
    "APP",
    "LAYERS",
    "PLATFORM",
    "SCRIPTS",
    "Creator",
    "app_texts",
    "apt_script",
    "command_scripts",
    "contributed",
    "files",
    "platform_environment",
    "run_toml",
    "steps",
]

T = TypeVar("T", str, bytes)
APP = "/workspace"
"""The application's folder, where public buildpacks expect it."""
LAYERS = "/layers"
PLATFORM = "/platform"
SCRIPTS = "/dev/imagesmith"
"""Where steps of our own find their scripts: no file of an image is there, so no trace stays."""


def files(request: BuildRequest, options: Options) -> dict[str, str]:
    """All text that a build is made of, by path."""
    found = {"build.json": json.dumps(_facts(request, options), indent=2, ensure_ascii=False) + "\n"}
    found |= {f"app/{name}": text for name, text in app_texts(request.staged.texts).items()}
    for name, value in platform_environment(request, options).items():
        found[f"platform/env/{name}"] = value
    if request.spec.apt_packages:
        found["apt.sh"] = apt_script(request)
    for name, text in command_scripts(request, contributed(request)).items():
        found[f"commands/{name}"] = text
    return found


def _facts(request: BuildRequest, options: Options) -> dict[str, object]:
    """What the text of the other files does not show."""
    return {
        "builder": options.builder,
        "run image": request.base.pinned,
        "platform": request.platform,
        "python": request.spec.python_version,
        "conda": [f"{each.name} {each.version} {each.build}" for each in request.conda.packages]
        if request.conda
        else None,
        "conda specs": list(request.conda.specs) if request.conda else None,
        "conda channels": list(request.conda.channels) if request.conda else None,
        "pip arguments": list(install_arguments(request)),
        "buildpacks": list(options.buildpacks),
        "work directory": request.spec.workdir_or_default,
        "user": request.spec.user,
        "source": request.staged.has_source,
        "secret files": [target for _, target in request.spec.pip_secret_mounts],
    }


def app_texts(texts: Mapping[str, T]) -> dict[str, T | str]:
    """Name -> text of the application's files; always a ``requirements.txt``, for it makes python come."""
    found: dict[str, T | str] = {"requirements.txt": ""}
    for name, text in texts.items():
        plain = name.removeprefix("requirements/")
        found["requirements.txt" if plain == ENTRY_FILE else plain] = text
    return found


def platform_environment(request: BuildRequest, options: Options) -> dict[str, str]:
    """What every buildpack sees: the options' variables, ``build_env``, and pip's settings."""
    declared = install_environment(request, Contribution())
    found = {**options.env, **{key: declared[key] for key in request.spec.build_env}}
    if "PATH" in request.spec.build_env:  # lifecycles put it before the PATH there is
        found["PATH"] = found["PATH"].removesuffix(f":{search_path(request.base.config)}")
    return dict(sorted({**found, **pip_environment(request)}.items()))


def contributed(request: BuildRequest) -> Contribution:
    """What is known before the build of what the image's configuration needs."""
    return request.conda.contribution if request.conda is not None else Contribution()


@dataclass(frozen=True, slots=True)
class Creator:
    """One run of a lifecycle's creator, and what differs from one run to another."""

    image: str
    run_image: str
    daemon: bool = False
    exchange: str | None = None
    """the folder through which images are exchanged; unset: it reads and writes where they stand"""
    cache_image: str | None = None
    previous: str | None = None
    insecure: tuple[str, ...] = ()

    def argv(self) -> tuple[str, ...]:
        """Program and arguments; flags come before the image."""
        words = ["/cnb/lifecycle/creator", "-app", APP, "-layers", LAYERS, "-platform", PLATFORM]
        words += ["-order", f"{PLATFORM}/imagesmith/order.toml", "-run", f"{PLATFORM}/imagesmith/run.toml"]
        words += ["-run-image", self.run_image, "-report", f"{LAYERS}/report.toml", "-log-level", "info"]
        words += ["-cache-image", self.cache_image] if self.cache_image else ["-cache-dir", "/cache"]
        words += ["-previous-image", self.previous] if self.previous else []
        words += [word for host in self.insecure for word in ("-insecure-registry", host)]
        words += ["-daemon", "-launch-cache", "/launch-cache"] if self.daemon else []
        words += ["-layout", "-layout-dir", self.exchange] if self.exchange else []
        return (*words, self.image)


def run_toml(named: str, used: str) -> str:
    """``run.toml`` with one run image: the name a later rebase starts from, and the one that is used now.

    Without it a lifecycle records the builder's first run image, and a rebase would lose this one's files.
    """
    mirrors = f"mirrors = [{json.dumps(used)}]\n" if used != named else ""
    return f"[[images]]\nimage = {json.dumps(named)}\n{mirrors}"


def apt_script(request: BuildRequest) -> str:
    """Installs the apt packages; runs in the run image, and in the builder, where packages are compiled."""
    packages = shlex.join(sorted(set(request.spec.apt_packages)))
    return (
        "export DEBIAN_FRONTEND=noninteractive\n"
        "apt-get update\n"
        f"apt-get install -y --no-install-recommends -- {packages}\n"
        "apt-get clean\n"
        # logs hold the time of day
        "rm -rf /var/lib/apt/lists/* /var/log/apt/*.log* /var/log/dpkg.log /var/log/alternatives.log "
        "/var/cache/apt/*.bin /var/cache/ldconfig/aux-cache\n"
    )


def command_scripts(request: BuildRequest, found: Contribution) -> dict[str, str]:
    """File name -> text: one script for each command, and the one that gives them their environment.

    The PATH in it is complete only when the build has told what buildpacks made (``found``).
    """
    commands = request.spec.commands
    if not commands:
        return {}
    own = {f"{number:03d}.sh": f"{command}\n" for number, command in enumerate(commands)}
    return {"command.sh": scripts.for_commands(request, found), **own}


def steps(request: BuildRequest) -> tuple[str, ...]:
    """Names of the steps, in order."""
    spec = request.spec
    found = [f"apt: {' '.join(sorted(set(spec.apt_packages)))}"] if spec.apt_packages else []
    found += [f"conda files: {request.conda.PREFIX}"] if request.conda else []
    found += ["buildpacks", f"files: {spec.workdir_or_default}"]
    return (*found, *(f"command: {command}" for command in spec.commands))
