"""Every distribution of the workspace, built once per run: the sdist, and the wheel from it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT / "core", *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


@dataclass(frozen=True)
class Dist:
    """What a build made of one project."""

    project: Path
    metadata: dict[str, Any]
    wheel: Path
    sdist: Path


def run(argv: list[str | Path], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Its stdout; what it said is shown where it fails."""
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def bare(folder: Path) -> dict[str, str]:
    """The environment of a machine where nothing of this checkout, and no engine, can be found."""
    keep = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_"))}
    return {
        **keep,
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "DOCKER_HOST": "tcp://127.0.0.1:1",
        "UV_SYSTEM_CERTS": "true",
        "UV_CACHE_DIR": run([sys.executable, "-m", "uv", "cache", "dir"], cwd=folder).strip(),
    }


def environment(folder: Path, *what: str | Path) -> Path:
    """A new virtual environment with that in it; its python."""
    uv: list[str | Path] = [sys.executable, "-m", "uv", "--quiet"]
    run([*uv, "venv", "--python", sys.executable, folder / "venv"], cwd=folder, env=bare(folder))
    python = folder / "venv" / "bin" / "python"
    run([*uv, "pip", "install", "--python", python, *what], cwd=folder, env=bare(folder))
    return python


@pytest.fixture(scope="session")
def dists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dist]:
    """By distribution name."""
    built = {}
    for project in PROJECTS:
        out = tmp_path_factory.mktemp(project.name)
        run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, project], cwd=out)
        metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
        built[metadata["name"]] = Dist(project, metadata, wheel, sdist)
    return built
