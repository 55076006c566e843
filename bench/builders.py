"""Our builders beside a hand-written Dockerfile, a plain ``pip install`` one, and flytekit's default builder.

    make rig && .venv/bin/python bench/builders.py [--rounds N] [--without-flytekit] [--heavy MEGABYTES]

Whole processes, in turns on the rig's engine, loaded into it. Every cold build starts after
``docker builder prune -af``: run it alone. flytekit is installed from the package index for the run.
Writes bench/RESULTS.md, and bench/results.json for docs/builders.md.
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
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import uv
from support.contest import (
    HAND,
    HAND_APT,
    PIP,
    PIP_APT,
    Builds,
    Project,
    by_hand,
    docker,
    lent_uv,
    ours,
    run,
)
from tests.rig import state

CASES = ("cold", "nothing changed", "one source file", "only env", "one package more")
HEAVY = "one file of 2 GB"
HEAVY_FOR = ("imagesmith docker", "hand-written", "imagesmith envd", "flytekit default")


def change(project: Project, case: str) -> None:
    match case:
        case "one source file":
            project.edit()
        case "only env":
            project.env = {**project.env, "ONE": "another"}
        case "one package more":
            project.packages = [*project.packages, "attrs"]


def flytekit(name: str, python: str, uv_folder: Path) -> Builds:
    def build(project: Project) -> str:
        told = {"base": project.base, "apt": list(project.apt), "packages": project.packages}
        told |= {"source": str(project.source)}
        told["env"] = {key: json.dumps(value) for key, value in project.env.items()}
        with tempfile.TemporaryDirectory() as folder:
            script = str(HERE / "support" / "flytekit_context.py")
            run([python, script, folder, json.dumps(told)], HERE)
            context = ["--build-context", f"uv={uv_folder}"]
            docker("buildx", "build", "-q", "--load", "-t", name, *context, ".", cwd=Path(folder))
        return name

    return build


def python_with_flytekit(folder: Path) -> str:
    """An environment of its own: flytekit's dependencies are none of ours."""
    run([uv.find_uv_bin(), "venv", "-q", "--python", sys.executable, str(folder)], HERE)
    python = str(folder / "bin" / "python")
    run([uv.find_uv_bin(), "pip", "install", "-q", "--python", python, "flytekit"], HERE)
    return python


def megabytes(reference: str) -> float:
    """Of all files in the image."""
    counted = docker("run", "--rm", "--user=0", "--entrypoint=du", reference, "-sx", "--block-size=1", "/")
    return int(counted.split()[0]) / 1e6


def contestants(
    number: int, folder: Path, python: str | None, uv_folder: Path
) -> Iterator[tuple[str, Builds]]:
    rig = state.load()
    env = {
        **os.environ,
        "IMAGESMITH_BASE_IMAGE": rig.images.python311,
        "IMAGESMITH_CACHE_DIR": str(folder / f"cache-{number}"),
    }
    run_name = f"bench-{os.getpid()}-{number}"
    yield "imagesmith docker", ours("docker", f"{run_name}-docker", env)
    yield "hand-written", by_hand(f"{run_name}-hand:1", HAND, HAND_APT, uv_folder)
    yield "imagesmith envd", ours("envd", f"{run_name}-envd", env)
    yield "plain pip", by_hand(f"{run_name}-pip:1", PIP, PIP_APT, uv_folder)
    yield "imagesmith oci", ours("oci", f"{run_name}-oci", env)
    if rig.cnb:
        lifecycle = {**env, "IMAGESMITH_BUILDPACKS_BUILDER": rig.cnb.builder}
        yield "imagesmith buildpacks", ours("buildpacks", f"{run_name}-buildpacks", lifecycle)
    if python:
        yield "flytekit default", flytekit(f"{run_name}-flytekit:1", python, uv_folder)


def remove(reference: str) -> None:
    for image in docker("images", "-q", reference.rpartition(":")[0]).split():
        subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument(
        "--heavy", type=int, default=2000, help="megabytes of the large source tree; 0: none"
    )
    options.add_argument("--without-flytekit", action="store_true")
    options.add_argument("--keep-cache", action="store_true", help="cold builds then find downloads")
    chosen = options.parse_args()
    seconds: dict[str, dict[str, list[float]]] = {}
    sizes: dict[str, float] = {}

    def timed(who: str, case: str, builds: Builds, project: Project) -> str:
        started = time.perf_counter()
        reference = builds(project)
        taken = time.perf_counter() - started
        seconds.setdefault(who, {}).setdefault(case, []).append(taken)
        print(f"{who:22} {case:18} {taken:7.2f} s", flush=True)
        return reference

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uv_folder = lent_uv(folder / "uv")
        python = None if chosen.without_flytekit else python_with_flytekit(folder / "flytekit")
        for number in range(chosen.rounds):
            for who, builds in contestants(number, folder, python, uv_folder):
                project = Project(folder / f"project-{who.replace(' ', '-')}", state.load().images.python311)
                project.fresh()
                if not chosen.keep_cache:
                    docker("builder", "prune", "-af")
                reference = ""
                for case in CASES:
                    change(project, case)
                    reference = timed(who, case, builds, project)
                sizes[who] = megabytes(reference)
                if chosen.heavy and number == 0 and who in HEAVY_FOR:
                    project.grow(chosen.heavy)
                    builds(project)
                    (project.source / "data" / "7.txt").write_text("another\n")
                    timed(who, HEAVY, builds, project)
                    if not chosen.keep_cache:
                        docker("builder", "prune", "-af")
                remove(reference)
                shutil.rmtree(project.folder)
    cases = [*CASES, *([HEAVY] if chosen.heavy else [])]
    table = [f"| | {' | '.join(cases)} | sum | MB |", "|---" * (len(cases) + 3) + "|"]
    medians = {
        who: {case: statistics.median(found[case]) for case in cases if case in found}
        for who, found in seconds.items()
    }
    for who, found in medians.items():
        cells = [f"{found[case]:.2f}" if case in found else "-" for case in cases]
        total = sum(found[case] for case in CASES)
        table.append(f"| {who} | {' | '.join(cells)} | {total:.2f} | {sizes[who]:.0f} |")
    text = "\n".join(table) + "\n"
    print(text)
    head = (
        "# Builders, side by side\n\n"
        f"Made by `bench/builders.py`, {chosen.rounds} rounds on one engine; medians, seconds of wall time\n"
        "of whole processes. apt: curl, git; packages: numpy, pandas, requests; 200 source files. What is\n"
        "replaced for flytekit is said in `bench/support/flytekit_context.py`. MB: all files of the image.\n"
        f"The last case: {chosen.heavy} MB of source, of which one file changed; it is not in the sum.\n\n"
    )
    (HERE / "RESULTS.md").write_text(head + text)
    told = {
        who: {**{case: found[case] for case in CASES}, "MB": sizes[who]} for who, found in medians.items()
    }
    (HERE / "results.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
