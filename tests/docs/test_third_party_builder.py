"""The example plugin as a stranger has it: a wheel, installed beside the core's in a bare environment."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from tests.conformance.rigged import environment as rigged
from tests.packaging.conftest import ROOT, bare, environment, run
from tests.rig import buildah
from tests.rig.state import Rig

EXAMPLE = ROOT / "examples" / "third-party-builder"
MODULES = sorted((EXAMPLE / "src").rglob("*.py"))
ON_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that holds the two wheels, and what the catalogue needs."""
    folder = tmp_path_factory.mktemp("stranger")
    build: list[str | Path] = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    for project in (ROOT / "core", EXAMPLE):
        run([*build, project], cwd=folder)
    core, example = next(folder.glob("imagesmith-*.whl")), next(folder.glob("imagesmith_buildah-*.whl"))
    return environment(folder, f"{core}[conformance,conda]", example)


def test_its_own_tests_pass_there(python: Path, tmp_path: Path) -> None:
    argv: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path]
    run([*argv, "-c", EXAMPLE / "pyproject.toml", EXAMPLE / "tests"], cwd=tmp_path, env=bare(tmp_path))


def test_it_is_listed_and_refuses_what_it_cannot_do(python: Path, tmp_path: Path) -> None:
    imagesmith, env = python.parent / "imagesmith", bare(tmp_path)
    (row,) = json.loads(run([imagesmith, "builders", "--json"], cwd=tmp_path, env=env))
    assert (row["name"], row["distribution"], row["status"]) == ("buildah", "imagesmith-buildah", "loaded")
    lacking = {name: support for name, support in row["features"].items() if support != "full"}
    assert lacking == {
        "builder_options": "impossible", "local-engine": "impossible", "oci-layout": "not yet"}  # fmt: skip
    # the only builder that is installed is taken without being named
    (tmp_path / "spec.toml").write_text('packages = ["six"]\nregistry = "registry.example/team"\n')
    shown = run([imagesmith, "render", "spec.toml"], cwd=tmp_path, env=env)
    assert "buildah push" in shown
    (tmp_path / "spec.toml").write_text('packages = ["six"]\n')
    done = subprocess.run(
        [imagesmith, "render", "spec.toml"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no registry is set" in done.stderr


def test_it_is_small_and_imports_public_names_only() -> None:
    import imagesmith

    lines = 0
    for module in MODULES:
        text = module.read_text(encoding="utf-8")
        lines += len(_lines_of_code(text))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "imagesmith":
                assert "._" not in str(node.module), f"{module.name}: {node.module}"
                names = {alias.name for alias in node.names}
                home = sys.modules.get(str(node.module)) or __import__(str(node.module), fromlist=["x"])
                public = set(home.__all__) | ({"engine", "scripts", "steps"} if home is imagesmith else set())
                assert names <= public, f"{module.name}: {names - public}"
    assert lines < 150


def _lines_of_code(text: str) -> set[int]:
    """Those that hold more than comments and docstrings."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in {*silent, tokenize.ENDMARKER}:
            found |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            docstring = node.body[0]
            found -= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    return found


@pytest.fixture
def live(tmp_path: Path, rig: Rig) -> dict[str, str]:
    """The environment of a stranger on the rig's machine, with a storage of its own for buildah."""
    if reason := buildah.missing():
        if os.environ.get("CI") and rig.docker_host_classic:
            pytest.fail(reason)
        pytest.skip(reason)
    told = {k: v for k, v in rigged(tmp_path).items() if k.startswith(("IMAGESMITH_", "DOCKER_"))}
    return {**bare(tmp_path), **told, **buildah.storage(tmp_path / "buildah"), "PATH": ON_PATH}


@pytest.mark.live
def test_it_passes_the_whole_catalogue_there(
    python: Path, tmp_path: Path, rig: Rig, live: dict[str, str]
) -> None:
    argv: list[str | Path] = [python.parent / "imagesmith", "conformance", "buildah", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, env=live, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    found = {each["id"]: each for each in report["checks"]}
    wrong = {name: each for name, each in found.items() if each["status"] not in ("passed", "skipped")}
    assert not wrong, json.dumps(wrong, indent=2)
    assert done.returncode == 0, done.stderr
    # they are about the Docker engine as the place of an image, which this builder has nothing to do with
    local = {"publish.clean", "publish.last", "fault.nothing-left", "fault.dead-engine"}
    several = set() if rig.images.python311_multi else {"platform.several"}
    assert {name for name, each in found.items() if each["status"] == "skipped"} == local | several
    assert not list((tmp_path / "buildah" / "graph" / "overlay-containers").glob("*/")), "containers are left"


@pytest.mark.live
def test_files_stay_where_the_base_has_a_volume(
    python: Path, tmp_path: Path, rig: Rig, live: dict[str, str]
) -> None:
    """buildah would throw away what steps write into a volume, and say nothing."""
    base = f"{rig.registry}/third-party/volume:1"
    docker: list[str | Path] = ["docker", "--host", rig.docker_host]
    (tmp_path / "Dockerfile").write_text(f"FROM {rig.images.python311}\nVOLUME /workspace\n")
    run(
        [*docker, "build", "--quiet", "--tag", base, "--file", tmp_path / "Dockerfile", tmp_path],
        cwd=tmp_path,
    )
    run([*docker, "push", "--quiet", base], cwd=tmp_path)
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "x.txt").write_text("x")
    (tmp_path / "spec.toml").write_text(
        f'name = "third-party/on-volume"\nregistry = "{rig.registry}"\nbase_image = "{base}"\n'
        'source_root = "app"\npackages = ["six"]\ncommands = ["echo made > made.txt"]\n'
    )
    reference = ""
    try:
        built = run([python.parent / "imagesmith", "build", "spec.toml", "--json"], cwd=tmp_path, env=live)
        reference = json.loads(built)["reference"]
        inside = run([*docker, "run", "--rm", reference, "ls", "/workspace"], cwd=tmp_path)
        assert inside.split() == ["made.txt", "x.txt"]
        config = json.loads(run([*docker, "image", "inspect", reference], cwd=tmp_path))[0]["Config"]
        assert config["Volumes"] == {"/workspace": {}}
    finally:
        for image in filter(None, (base, reference)):
            run([*docker, "rmi", "--force", image], cwd=tmp_path)
