"""Lock files in real images: what uv has locked is what python finds there, with each builder."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

from imagesmith import BuildFailed, ImageSpec
from tests.live.conftest import Build, Engine

pytestmark = pytest.mark.live

PROJECT = """\
[project]
name = "app"
version = "0.1"
requires-python = ">=3.10"
dependencies = [
    "six==1.16.0",
    "humanize<4.12",
    "tomli==2.0.1; python_version < '3.12'",
    "packaging==23.2; python_version >= '3.12'",
    "colorama; sys_platform == 'win32'",
]
[dependency-groups]
dev = ["iniconfig"]
"""
NAMES = ("six", "humanize", "tomli", "packaging", "colorama", "iniconfig", "member")
FIND = f"""\
import importlib.metadata as m, json
def version(name):
    try:
        __import__(name)
        return m.version(name)
    except ImportError:
        return None
print(json.dumps({{name: version(name) for name in {NAMES}}}))
"""
LOCKS = ("uv.lock", "pylock.app.toml")


@pytest.fixture(scope="module", params=["envd", "docker"])
def builder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def uv(folder: Path, *arguments: str) -> None:
    subprocess.run([find_uv_bin(), *arguments], cwd=folder, check=True, capture_output=True, timeout=120)


def lock(folder: Path, project: str) -> Path:
    folder.joinpath("pyproject.toml").write_text(project)
    uv(folder, "lock")
    uv(
        folder,
        "export",
        "--frozen",
        "--no-dev",
        "--format",
        "pylock.toml",
        "--output-file",
        "pylock.app.toml",
    )
    return folder


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project locked from the machine's own package index."""
    return lock(tmp_path_factory.mktemp("locked"), PROJECT)


def found(engine: Engine, reference: str) -> dict[str, str | None]:
    versions: dict[str, str | None] = json.loads(engine.run(reference, "python", "-c", FIND))
    return versions


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_pinned_versions_are_there_and_the_images_python_selects(
    make: Build, engine: Engine, locked: Path, builder: str, name: str, python: str
) -> None:
    spec = ImageSpec(name="locked", python_version=python, requirements=locked / name)
    versions = found(engine, make(spec, builder=builder, force=True).reference)
    assert versions["six"] == "1.16.0"
    assert (versions["humanize"] or "").startswith("4.11")
    assert versions["tomli"] == ("2.0.1" if python == "3.11" else None)
    assert versions["packaging"] == ("23.2" if python == "3.13" else None)
    assert versions["colorama"] is None
    assert versions["iniconfig"] is None


def test_a_file_that_is_not_the_locked_one_is_not_installed(
    make: Build, engine: Engine, builder: str, tmp_path: Path
) -> None:
    lock(tmp_path, PROJECT)
    text = (tmp_path / "uv.lock").read_text()
    before, name, six = text.partition('name = "six"\nversion')
    (tmp_path / "uv.lock").write_text(before + name + re.sub(r"sha256:\w{8}", "sha256:00000000", six))
    with pytest.raises(BuildFailed, match=r"(?i)hash"):
        make(
            ImageSpec(name="mislocked", python_version="3.11", requirements=tmp_path / "uv.lock"),
            builder=builder,
            force=True,
        )
    assert engine.tags("mislocked") == set()


def test_a_workspace_member_is_installed_from_its_files(
    make: Build, engine: Engine, builder: str, tmp_path: Path
) -> None:
    member = tmp_path / "member"
    (member / "member").mkdir(parents=True)
    (member / "member" / "__init__.py").write_text("")
    (member / "pyproject.toml").write_text(
        '[project]\nname = "member"\nversion = "0.7"\ndependencies = ["six"]\n'
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    )
    sources = "[tool.uv.workspace]\nmembers = ['member']\n[tool.uv.sources]\nmember = {workspace = true}\n"
    lock(tmp_path, PROJECT.replace('"six==1.16.0"', '"six==1.16.0", "member"') + sources)
    spec = ImageSpec(
        name="workspace",
        python_version="3.11",
        requirements="uv.lock",
        root=str(tmp_path),
        packages=["iniconfig"],
    )
    versions = found(engine, make(spec, builder=builder, force=True).reference)
    assert (versions["member"], versions["six"]) == ("0.7", "1.16.0")
    assert versions["iniconfig"] is not None, "where nothing is hashed, names beside the lock are allowed"
