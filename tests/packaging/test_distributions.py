"""What a user gets: the wheels and sdists, their contents, and what works once they are installed."""

from __future__ import annotations

import ast
import itertools
import json
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from imagesmith import ImageSpec, __version__
from tests.packaging.conftest import PROJECTS, Dist, bare, environment, run

SPEC = """\
from imagesmith import ImageSpec

image = ImageSpec(
    name="bare",
    python_version="3.12",
    packages=["six"],
    env={"GREETING": "it's $5"},
    commands=["echo hi"],
    entrypoint=["python", "-V"],
)
"""
NAMES = [project.name if project.name != "core" else "imagesmith" for project in PROJECTS]


def _dist(dists: dict[str, Dist], name: str) -> Dist:
    return dists[name if name == "imagesmith" else f"imagesmith-{name}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_wheel_holds_the_package_and_nothing_else(dists: dict[str, Dist], name: str) -> None:
    dist = _dist(dists, name)
    package = dist.metadata["name"].replace("-", "_")
    source = dist.project / "src" / package
    with zipfile.ZipFile(dist.wheel) as wheel:
        held = {Path(member) for member in wheel.namelist() if ".dist-info/" not in member}
        info = {Path(member).relative_to(Path(member).parts[0]) for member in wheel.namelist()}
        licence = next(member for member in wheel.namelist() if member.endswith("/LICENSE"))
        assert b"Apache License" in wheel.read(licence)
    expected = {
        path.relative_to(source.parent)
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == expected
    assert Path(package, "py.typed") in held
    tests = {path for path in held if path.name.startswith("test_") or path.parent.name == "tests"}
    assert {path.suffix for path in tests} <= {".txt"}  # the template of one
    assert Path("licenses/LICENSE") in info


@pytest.mark.parametrize("name", NAMES)
def test_an_sdist_builds_and_has_its_licence_and_readme(dists: dict[str, Dist], name: str) -> None:
    dist = _dist(dists, name)  # its wheel was built from it
    with tarfile.open(dist.sdist) as sdist:
        members = {member.split("/", 1)[-1] for member in sdist.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= members


@pytest.mark.parametrize("name", NAMES)
def test_the_metadata_is_that_of_one_release(dists: dict[str, Dist], name: str) -> None:
    dist = _dist(dists, name)
    with zipfile.ZipFile(dist.wheel) as wheel:
        member = next(member for member in wheel.namelist() if member.endswith("/METADATA"))
        metadata = Parser().parsestr(wheel.read(member).decode())
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert str(metadata.get_payload()).strip()


def _imported(path: Path) -> set[str]:
    """The top-level modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_imported_is_required(dists: dict[str, Dist], name: str) -> None:
    metadata = _dist(dists, name).metadata
    optional = itertools.chain.from_iterable(metadata.get("optional-dependencies", {}).values())
    required = {Requirement(line).name.lower() for line in [*metadata["dependencies"], *optional]}
    modules = {"pyyaml": "yaml", "py-rattler": "rattler"}  # where the two names differ
    known = {modules.get(name, name.replace("-", "_")) for name in [*required, metadata["name"]]}
    for path in (_dist(dists, name).project / "src").rglob("*.py"):
        foreign = _imported(path) - known - sys.stdlib_module_names
        assert not foreign, f"{path} imports what {metadata['name']} does not require"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "imagesmith"])
def test_a_plugin_wants_this_core_and_is_bounded(dists: dict[str, Dist], name: str) -> None:
    dist = _dist(dists, name)
    core = next(
        requirement
        for requirement in map(Requirement, dist.metadata["dependencies"])
        if requirement.name == "imagesmith"
    )
    assert core.specifier.contains(Version(__version__))
    assert any(part.operator == "<" for part in core.specifier)
    assert list(dist.metadata["entry-points"]["imagesmith"]) == [name]


def test_the_wheels_alone_plan_a_spec(dists: dict[str, Dist], tmp_path: Path) -> None:
    python = environment(tmp_path, *(dist.wheel for dist in dists.values()))
    project = tmp_path / "elsewhere"
    project.mkdir()
    (project / "app.py").write_text(SPEC, encoding="utf-8")
    imagesmith = python.parent / "imagesmith"
    env = bare(tmp_path)

    where = run([python, "-c", "import imagesmith; print(imagesmith.__file__)"], cwd=project, env=env)
    assert where.startswith(str(tmp_path))
    plan = json.loads(run([imagesmith, "render", "app.py:image", "--json"], cwd=project, env=env))
    assert plan["builder"] == "envd"
    assert plan["platform"] == "linux/amd64"
    assert plan["files"]
    assert plan["commands"]
    assert "six" in json.dumps(plan)
    assert "--- commands" in run([imagesmith, "render", "app.py:image"], cwd=project, env=env)
    builders = json.loads(run([imagesmith, "builders", "--json"], cwd=project, env=env))
    assert {(row["name"], row["version"], row["status"]) for row in builders} == {
        (name, __version__, "loaded") for name in NAMES if name != "imagesmith"
    }
    spec_id = run([imagesmith, "id", "app.py:image"], cwd=project, env=env).strip()
    assert spec_id == _spec().id


def _spec() -> ImageSpec:
    namespace: dict[str, ImageSpec] = {}
    exec(SPEC, namespace)
    return namespace["image"]


def test_the_core_alone_without_its_dependencies_tells_where_it_runs(
    dists: dict[str, Dist], tmp_path: Path
) -> None:
    python = environment(tmp_path, "--no-deps", dists["imagesmith"].wheel)
    (tmp_path / "app.py").write_text(
        f"{SPEC}\nprint(image.id, image.is_container(), image.with_packages('a').packages)\n",
        encoding="utf-8",
    )
    env = bare(tmp_path)
    expected = _spec().id
    assert run([python, "app.py"], cwd=tmp_path, env=env) == f"{expected} False ('six', 'a')\n"
    inside = run([python, "app.py"], cwd=tmp_path, env={**env, "IMAGESMITH_ID": expected})
    assert inside == f"{expected} True ('six', 'a')\n"
