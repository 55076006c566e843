"""Our builders beside a hand-written Dockerfile, a plain ``pip install`` one, and flytekit's default builder.

    make rig && .venv/bin/python bench/builders.py [--rounds N] [--without-flytekit]

All on the rig's engine, in turns within one run, loaded into it. Every cold build starts after
``docker builder prune -af``: run it alone. flytekit is installed from the package index for the run.
Writes bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import uv
from tests.rig import state

from imagesmith import ImageSpec, build
from imagesmith.settings import load_settings

APT = ["curl", "git"]
PACKAGES = ["numpy", "pandas", "requests"]
CASES = ("cold", "nothing changed", "one source file", "only env", "one package more")


@dataclass
class Project:
    """What is built: changed from case to case."""

    folder: Path
    base: str
    packages: list[str] = field(default_factory=lambda: list(PACKAGES))
    env: dict[str, str] = field(default_factory=lambda: {"ONE": "1", "TWO": "two words"})

    @property
    def source(self) -> Path:
        return self.folder / "src"

    def fresh(self) -> None:
        shutil.rmtree(self.source, ignore_errors=True)
        for number in range(200):
            file = self.source / f"d{number % 10}" / f"m{number}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"VALUE = {number}\n")
        self.packages, self.env = list(PACKAGES), {"ONE": "1", "TWO": "two words"}

    def change(self, case: str) -> None:
        match case:
            case "one source file":
                (self.source / "d3" / "m3.py").write_text("VALUE = 'another'\n")
            case "only env":
                self.env = {**self.env, "ONE": "another"}
            case "one package more":
                self.packages = [*self.packages, "attrs"]


def docker(*arguments: str, cwd: Path | None = None) -> str:
    argv = ["docker", *arguments]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=True).stdout


Builds = Callable[[Project], str]


def ours(builder: str, env: Mapping[str, str]) -> Builds:
    def run(project: Project) -> str:
        spec = ImageSpec(
            name=f"bench-{builder}",
            python_version="3.11",
            packages=project.packages,
            apt_packages=APT,
            env=project.env,
            source_root=project.source,
        )
        return build(spec, builder=builder, settings=load_settings(project.folder, env)).reference

    return run


HAND = """FROM {base}
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \\
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \\
    rm -f /etc/apt/apt.conf.d/docker-clean; \\
    apt-get update -qq && apt-get install -y -qq --no-install-recommends {apt}
RUN --mount=type=cache,target=/root/.cache/uv,sharing=locked \\
    --mount=type=bind,from=uv,source=uv,target=/bin/uv \\
    --mount=type=bind,source=requirements.txt,target=/run/requirements.txt \\
    UV_LINK_MODE=copy SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \\
    uv pip install --system --break-system-packages -q -r /run/requirements.txt
WORKDIR /workspace
COPY --link src /workspace
ENV PYTHONPATH=/workspace {env}
"""
PIP = """FROM {base}
ENV {env}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends {apt}
WORKDIR /workspace
COPY . /workspace
RUN pip install -q --no-cache-dir -r requirements.txt
ENV PYTHONPATH=/workspace/src
"""


def dockerfile(name: str, text: str, uv_folder: Path) -> Builds:
    def run(project: Project) -> str:
        env = " ".join(f"{key}={json.dumps(value)}" for key, value in project.env.items())
        (project.folder / "requirements.txt").write_text("\n".join(project.packages) + "\n")
        filled = text.format(base=project.base, apt=" ".join(APT), env=env)
        (project.folder / "Dockerfile").write_text(filled)
        tag = f"bench-{name}:latest"
        docker(
            "buildx",
            "build",
            "-q",
            "--load",
            "-t",
            tag,
            "--build-context",
            f"uv={uv_folder}",
            ".",
            cwd=project.folder,
        )
        return tag

    return run


def flytekit(python: str, uv_folder: Path) -> Builds:
    def run(project: Project) -> str:
        told = {"base": project.base, "apt": APT, "packages": project.packages, "source": str(project.source)}
        told["env"] = {key: json.dumps(value) for key, value in project.env.items()}
        with tempfile.TemporaryDirectory() as folder:
            script = str(HERE / "support" / "flytekit_context.py")
            subprocess.run([python, script, folder, json.dumps(told)], check=True, capture_output=True)
            context = ["--build-context", f"uv={uv_folder}"]
            docker(
                "buildx",
                "build",
                "-q",
                "--load",
                "-t",
                "bench-flytekit:latest",
                *context,
                ".",
                cwd=Path(folder),
            )
        return "bench-flytekit:latest"

    return run


def python_with_flytekit(folder: Path) -> str:
    """An environment of its own: flytekit's dependencies are none of ours."""
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--python", sys.executable, folder], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([uv.find_uv_bin(), "pip", "install", "-q", "--python", python, "flytekit"], check=True)
    return python


def megabytes(reference: str) -> float:
    """Of the image's own layers, unpacked, as the engine stores them."""
    # an engine unpacks some images only when a container is made of them
    docker("rm", docker("create", reference, "true").strip())
    return (
        sum(
            int(size)
            for size in docker("history", "--human=false", "--format", "{{.Size}}", reference).split()
        )
        / 1e6
    )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--without-flytekit", action="store_true")
    options.add_argument("--keep-cache", action="store_true", help="cold builds then find downloads")
    chosen = options.parse_args()
    rig = state.load()
    os.environ["DOCKER_HOST"] = rig.docker_host
    seconds: dict[str, dict[str, list[float]]] = {}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uv_folder = folder / "uv"
        uv_folder.mkdir()
        shutil.copy2(uv.find_uv_bin(), uv_folder / "uv")
        python = None if chosen.without_flytekit else python_with_flytekit(folder / "flytekit")
        base_env = {
            **os.environ,
            "IMAGESMITH_BASE_IMAGE": f"{rig.registry}/library/python:{{python_version}}",
        }
        for number in range(chosen.rounds):
            env = {**base_env, "IMAGESMITH_CACHE_DIR": str(folder / f"cache-{number}")}
            contestants: dict[str, Builds] = {
                "imagesmith docker": ours("docker", env),
                "imagesmith envd": ours("envd", env),
                "hand-written": dockerfile("hand", HAND, uv_folder),
                "plain pip": dockerfile("pip", PIP, uv_folder),
            }
            if python:
                contestants["flytekit default"] = flytekit(python, uv_folder)
            for who, run in contestants.items():
                project = Project(folder / who.replace(" ", "-"), rig.images.python311)
                project.folder.mkdir(exist_ok=True)
                project.fresh()
                if not chosen.keep_cache:
                    docker("builder", "prune", "-af")
                for case in CASES:
                    project.change(case)
                    started = time.perf_counter()
                    reference = run(project)
                    taken = time.perf_counter() - started
                    seconds.setdefault(who, {}).setdefault(case, []).append(taken)
                    print(f"{number} {who:18} {case:18} {taken:7.2f} s", flush=True)
                sizes[who] = megabytes(reference)
                for image in docker("images", "-q", f"{reference.rpartition(':')[0]}").split():
                    subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False)
    table = [f"| | {' | '.join(CASES)} | sum | MB |", "|---" * (len(CASES) + 3) + "|"]
    for who, found in seconds.items():
        medians = [statistics.median(found[case]) for case in CASES]
        cells = [*(f"{value:.2f}" for value in medians), f"{sum(medians):.2f}", f"{sizes[who]:.0f}"]
        table.append(f"| {who} | {' | '.join(cells)} |")
    text = "\n".join(table) + "\n"
    print(text)
    head = (
        "# Builders, side by side\n\n"
        f"Made by `bench/builders.py`, {chosen.rounds} rounds on one engine; medians, seconds of wall time.\n"
        f"apt: {', '.join(APT)}; packages: {', '.join(PACKAGES)}; 200 source files. What is replaced for\n"
        "flytekit is said in `bench/support/`. MB: layers as the engine holds them, base included.\n\n"
    )
    (HERE / "RESULTS.md").write_text(head + text)


if __name__ == "__main__":
    main()
