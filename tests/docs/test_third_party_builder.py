"""The example plugin as a stranger has it: a wheel, installed beside the core's in a bare environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, bare, environment, run
from tests.rig.state import Rig

EXAMPLE = ROOT / "examples" / "third-party-builder"
SPEC = """\
from imagesmith import ImageSpec

image = ImageSpec(
    name="imagesmith-third-party",
    python_version="3.11",
    packages=["six"],
    source_root="src",
    env={"GREETING": "it's $5"},
    workdir="/some where",
    labels={"made.by": "a stranger"},
    entrypoint=["python", "main.py"],
)
"""
MAIN = """\
import os, six, spec
print(spec.image.is_container(), os.environ["GREETING"], os.getcwd(), bool(six.PY3))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that holds the two wheels and pytest."""
    folder = tmp_path_factory.mktemp("stranger")
    build: list[str | Path] = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    for project in (ROOT / "core", EXAMPLE):
        run([*build, project], cwd=folder)
    return environment(folder, *folder.glob("*.whl"), "pytest")


def test_its_own_tests_pass_there(python: Path, tmp_path: Path) -> None:
    argv: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    run([*argv, "-c", EXAMPLE / "pyproject.toml", EXAMPLE / "tests"], cwd=tmp_path, env=bare(tmp_path))


def test_it_is_listed_and_refuses_what_it_cannot_do(python: Path, tmp_path: Path) -> None:
    imagesmith, env = python.parent / "imagesmith", bare(tmp_path)
    (row,) = json.loads(run([imagesmith, "builders", "--json"], cwd=tmp_path, env=env))
    assert (row["name"], row["distribution"], row["status"]) == ("plain", "imagesmith-plain", "loaded")
    assert row["features"]["packages"] == "full"
    assert row["features"]["commands"] == "not yet"
    assert row["features"]["conda_packages"] == "impossible"
    # the only builder that is installed is taken without being named
    (tmp_path / "spec.toml").write_text('packages = ["six"]\n')
    assert "FROM docker.io/library/python" in run([imagesmith, "render", "spec.toml"], cwd=tmp_path, env=env)


@pytest.mark.live
def test_it_builds_on_a_real_engine(python: Path, tmp_path: Path, rig: Rig) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "spec.py").write_text(SPEC)
    (tmp_path / "src" / "main.py").write_text(MAIN)
    env = {
        **bare(tmp_path),
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "DOCKER_HOST": rig.docker_host,
        "IMAGESMITH_BASE_IMAGE": f"{rig.registry}/library/python:{{python_version}}",
    }
    build: list[str | Path] = ["imagesmith", "build", "--builder", "plain", "--json", "src/spec.py"]
    built = json.loads(run(build, cwd=tmp_path, env=env))
    docker: list[str | Path] = ["docker", "--host", rig.docker_host]
    try:
        assert built["builder"] == "plain 1.0.0"
        inside = run([*docker, "run", "--rm", built["reference"]], cwd=tmp_path)
        assert inside == "True it's $5 /some where True\n"
        inspected = run([*docker, "image", "inspect", built["reference"]], cwd=tmp_path)
        labels = json.loads(inspected)[0]["Config"]["Labels"]
        assert labels["made.by"] == "a stranger"
        assert labels["io.imagesmith.builder"] == "plain 1.0.0"
        assert json.loads(run(build, cwd=tmp_path, env=env))["reused"] is True
    finally:
        run([*docker, "rmi", "--force", built["reference"]], cwd=tmp_path)
