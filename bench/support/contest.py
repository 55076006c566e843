"""What the benches of builders share: the project that is built, and who builds it by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

APT = ("curl", "git")
PACKAGES = ("numpy", "pandas", "requests")
ENV = {"ONE": "1", "TWO": "two words"}
HERE = Path(__file__).parent

Builds = Callable[["Project"], str]
"""Builds the project in a process of its own, and returns the image's reference."""


@dataclass
class Project:
    """What is built: changed from case to case."""

    folder: Path
    base: str
    apt: Sequence[str] = APT
    packages: list[str] = field(default_factory=lambda: list(PACKAGES))
    env: dict[str, str] = field(default_factory=lambda: dict(ENV))
    platforms: Sequence[str] = ("linux/amd64",)

    @property
    def source(self) -> Path:
        return self.folder / "src"

    def fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for number in range(200):
            file = self.source / f"d{number % 10}" / f"m{number}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"VALUE = {number}\n")
        # where packages of one's own may lie
        (self.folder / "large").mkdir()
        self.packages, self.env = list(PACKAGES), dict(ENV)

    def grow(self, megabytes: int) -> None:
        """Files of 1 MB that shrink by half: random digits."""
        folder = self.source / "data"
        folder.mkdir()
        for number in range(megabytes):
            (folder / f"{number}.txt").write_text(os.urandom(500_000).hex())

    def edit(self) -> None:
        (self.source / "d3" / "m3.py").write_text("VALUE = 'another'\n")


def run(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout.strip()


def docker(*arguments: str, cwd: Path = HERE) -> str:
    return run(["docker", *arguments], cwd)


def ours(builder: str, name: str, env: Mapping[str, str], registry: str | None = None) -> Builds:
    """``imagesmith build``."""

    def build(project: Project) -> str:
        told = {
            "name": name,
            "registry": registry,
            "python_version": "3.11",
            "packages": project.packages,
            "apt_packages": list(project.apt),
            "env": project.env,
            "source_root": "src",
            "platform": list(project.platforms),
        }
        (project.folder / "spec.json").write_text(json.dumps(told))
        command = [str(Path(sys.executable).with_name("imagesmith")), "build", "spec.json"]
        return run([*command, "--builder", builder, "--progress", "quiet"], project.folder, env)

    return build


HAND = """FROM {base}
ENV BUILT_BY={name}
{apt}
RUN --mount=type=cache,target=/root/.cache/uv,sharing=locked \\
    --mount=type=bind,from=uv,source=uv,target=/bin/uv \\
    --mount=type=bind,source=requirements.txt,target=/run/requirements.txt \\
    --mount=type=bind,source=large,target=/large \\
    UV_LINK_MODE=copy SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \\
    uv pip install --system --break-system-packages -q -r /run/requirements.txt
WORKDIR /workspace
COPY --link src /workspace
ENV PYTHONPATH=/workspace {env}
"""
# This machine's uv knows only its own platform.
HAND_PIP = """FROM {base}
ENV BUILT_BY={name}
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \\
    --mount=type=bind,source=requirements.txt,target=/run/requirements.txt \\
    pip install -q -r /run/requirements.txt
WORKDIR /workspace
COPY --link src /workspace
ENV PYTHONPATH=/workspace {env}
"""
HAND_APT = """RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \\
    rm -f /etc/apt/apt.conf.d/docker-clean; \\
    apt-get update -qq && apt-get install -y -qq --no-install-recommends {packages}"""
PIP = """FROM {base}
ENV BUILT_BY={name}
ENV {env}
{apt}
WORKDIR /workspace
COPY . /workspace
RUN pip install -q --no-cache-dir -r requirements.txt
ENV PYTHONPATH=/workspace/src
"""
PIP_APT = "RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends {packages}"


def write_dockerfile(project: Project, name: str, text: str, apt: str) -> None:
    """For a Dockerfile that a person wrote; ``name`` keeps it from taking another's layers."""
    env = " ".join(f"{key}={json.dumps(value)}" for key, value in project.env.items())
    listed = [package.replace("./large/", "/large/") for package in project.packages]
    (project.folder / "requirements.txt").write_text("\n".join(listed) + "\n")
    (project.folder / ".dockerignore").write_text("Dockerfile\nspec.json\n")
    packages = " ".join(project.apt)
    filled = text.format(
        base=project.base, name=name, apt=apt.format(packages=packages) if packages else "", env=env
    )
    (project.folder / "Dockerfile").write_text(filled)


def by_hand(name: str, text: str, apt: str, uv_folder: Path, output: str = "") -> Builds:
    """``docker buildx build``; ``output`` as for ``--output``, unset: into the engine."""

    def build(project: Project) -> str:
        several = len(project.platforms) > 1
        write_dockerfile(project, name, HAND_PIP if several else text, apt)
        argv = ["buildx", "build", "-q", "--provenance=false", "--platform", ",".join(project.platforms)]
        argv += ["--output", f"name={name},{output}"] if output else ["--load", "-t", name]
        docker(*argv, "--build-context", f"uv={uv_folder}", ".", cwd=project.folder)
        return name

    return build


def lent_uv(folder: Path) -> Path:
    """A build context that holds uv."""
    import uv

    folder.mkdir()
    shutil.copy2(uv.find_uv_bin(), folder / "uv")
    return folder
