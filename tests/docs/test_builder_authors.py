"""The guide for authors, from an empty folder to green: its commands, in order, as its reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.examples import commands, matches, walk
from tests.packaging.conftest import ROOT, bare, environment, run

LIVE = "imagesmith conformance mine"  # run in test_new_builder.py


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that is empty, beside the wheel of the core."""
    folder = tmp_path_factory.mktemp("reader")
    build: list[str | Path] = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    run([*build, ROOT / "core"], cwd=folder)
    return environment(folder, "hatchling", "editables")


def test_every_step_does_what_the_page_shows(python: Path, tmp_path: Path) -> None:
    (wheel,) = python.parents[2].glob("*.whl")
    told = [each for block in walk() for each in commands(block) if each.line != LIVE]
    programs = "pip imagesmith cd pip imagesmith imagesmith pytest sed imagesmith"
    assert [each.argv[0] for each in told] == programs.split()
    here = tmp_path
    env = bare(tmp_path) | {"PATH": f"{python.parent}{os.pathsep}/usr/bin:/bin", "NO_COLOR": "1"}
    for each in told:
        argv = each.argv
        if argv[0] == "cd":
            here /= argv[1]
            continue
        if argv[0] == "pip":
            assert argv[1] == "install"
            what = [word.replace("imagesmith[", f"{wheel}[") for word in argv[2:]]
            argv = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--python", str(python), *what]
        done = subprocess.run(argv, cwd=here, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == each.code, f"{each.line}\n{done.stdout}\n{done.stderr}"
        assert not each.shown or matches(each.shown, done.stdout + done.stderr), (
            f"{each.line}\nshown:\n{each.shown}\nprinted:\n{done.stdout}{done.stderr}"
        )
