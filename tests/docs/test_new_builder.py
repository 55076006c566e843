"""What ``imagesmith new-builder`` writes, as its author has it: wheels in a bare environment, and green."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.rigged import environment as rigged
from tests.packaging.conftest import ROOT, bare, environment, run
from tests.rig.state import Rig

ON_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The written folder, and the python of an environment that holds its wheel and the core's."""
    folder = tmp_path_factory.mktemp("author")
    made = folder / "imagesmith-mine"
    run([Path(sys.executable).parent / "imagesmith", "new-builder", "mine", "--path", made], cwd=folder)
    build: list[str | Path] = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    for source in (ROOT / "core", made):
        run([*build, source], cwd=folder)
    core, own = next(folder.glob("imagesmith-*.whl")), next(folder.glob("imagesmith_mine-*.whl"))
    return made, environment(folder, f"{core}[conda]", f"{own}[test]")


def test_it_passes_the_plan_tier(project: tuple[Path, Path], tmp_path: Path) -> None:
    argv: list[str | Path] = [project[1].parent / "imagesmith", "conformance", "mine", "--json"]
    report = json.loads(run([*argv, "--tier", "plan", "--tier", "fake"], cwd=tmp_path, env=bare(tmp_path)))
    assert report["ok"]
    assert {each["status"] for each in report["checks"]} == {"passed"}


def test_its_own_tests_pass(project: tuple[Path, Path], tmp_path: Path) -> None:
    argv: list[str | Path] = [project[1], "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not live"]
    told = run([*argv, project[0]], cwd=tmp_path, env=bare(tmp_path))
    assert int(re.findall(r"(\d+) passed", told)[0]) > 20
    assert "skipped" not in told


def test_new_builder_is_in_the_wheel_of_the_core(project: tuple[Path, Path], tmp_path: Path) -> None:
    argv = [project[1].parent / "imagesmith", "new-builder", "other"]
    run(argv, cwd=tmp_path, env=bare(tmp_path))
    assert (tmp_path / "imagesmith-other" / "src" / "imagesmith_other" / "builder.py").is_file()
    refused = subprocess.run(
        [argv[0], "new-builder", "mine", "--path", "third"],
        cwd=tmp_path, env=bare(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "a builder named 'mine' is installed here" in refused.stderr


@pytest.mark.live
def test_what_it_says_it_can_do_it_does(project: tuple[Path, Path], tmp_path: Path, rig: Rig) -> None:
    told = {k: v for k, v in rigged(tmp_path).items() if k.startswith(("IMAGESMITH_", "DOCKER_"))}
    env = {**bare(tmp_path), **told, "PATH": ON_PATH}
    argv: list[str | Path] = [project[1].parent / "imagesmith", "conformance", "mine", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    checks = json.loads(done.stdout)["checks"]
    wrong = {each["id"]: each for each in checks if each["status"] not in ("passed", "skipped")}
    assert not wrong, json.dumps(wrong, indent=2)
    skipped = {each["id"].partition(".")[0] for each in checks if each["status"] == "skipped"}
    assert skipped == {"registry", "platform"}  # they are NOT_YET in its table
