"""The recipe: what decides its key, what its scripts say, and one of them really run."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imagesmith import BaseImage, BuildRequest, Feature, ImageSpec, SpecError, sources
from imagesmith._frozen import FrozenMap
from imagesmith.builder import CondaPackage, CondaTree
from imagesmith.recipe import FEATURES, MOUNT, Recipe, lay_out, recipe
from imagesmith.testing import request_for

OFFICIAL = BaseImage(
    "registry.example/python:3.11",
    "sha256:" + "1" * 64,
    FrozenMap({"config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHON_VERSION=3.11.7"]}}),
)


def made(spec: ImageSpec, **changes: object) -> Recipe:
    return recipe(request_for(spec, **{"base": OFFICIAL, **changes}))


def staged(spec: ImageSpec, folder: Path) -> BuildRequest:
    files = sources.stage(spec, folder / "staged")
    return dataclasses.replace(request_for(spec, base=OFFICIAL), staged=files, secrets=files.secrets)


def test_the_steps_come_in_the_order_of_the_contract() -> None:
    spec = ImageSpec(apt_packages=["git", "curl"], packages=["six"], commands=["one", "two"])
    assert [step.name for step in made(spec).steps] == [
        "apt: curl git", "packages: 1 requirement", "files: /workspace",
        "command: one", "command: two",
    ]  # fmt: skip
    unstated = made(spec, base=dataclasses.replace(OFFICIAL, config={}))
    assert [step.argv[-1] for step in unstated.environment] == [
        f"{MOUNT}/{name}.sh" for name in ("apt", "python", "packages")]  # fmt: skip
    assert unstated.contributed.path == ("/opt/venv/bin",)
    assert not made(ImageSpec()).environment


def test_the_key_is_of_the_environment_alone() -> None:
    spec = ImageSpec(packages=["six"], build_env={"A": "b"})
    key = made(spec).key
    for same in (
        {"commands": ["true"]}, {"env": {"X": "y"}}, {"workdir": "/srv"}, {"entrypoint": ["x"]},
        {"labels": {"x": "y"}}, {"user": "1"},
    ):  # fmt: skip
        assert made(spec.replace(**same)).key == key, same
    for other in (
        {"packages": ["six>1"]}, {"apt_packages": ["git"]}, {"build_env": {"A": "c"}},
        {"pip_extra_args": ["--pre"]}, {"pip_index": "https://a.example/simple"},
    ):  # fmt: skip
        assert made(spec.replace(**other)).key != key, other
    assert made(spec, platform="linux/arm64").key != key
    assert made(spec, base=dataclasses.replace(OFFICIAL, digest="sha256:" + "2" * 64)).key != key


def test_another_login_is_no_other_package_but_another_index_is() -> None:
    with_login = "https://{}:secret@{}.example/simple"
    keys = [
        made(ImageSpec(packages=["six"], pip_index=with_login.format(*told))).key
        for told in (("me", "a"), ("you", "a"), ("me", "b"))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_scripts_name_what_they_read(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    spec = ImageSpec(source_root="app", root=tmp_path, packages=["./w-1.0-py3-none-any.whl"])
    texts = []
    for number, (source, wheel) in enumerate([("1", "1"), ("2", "1"), ("2", "2")]):
        (tmp_path / "app" / "x.py").write_text(source)
        (tmp_path / "w-1.0-py3-none-any.whl").write_text(wheel)
        files = recipe(staged(spec, tmp_path / str(number))).files
        texts.append((files["packages.sh"], files["files.sh"]))
    assert texts[0][0] == texts[1][0] != texts[2][0]
    assert texts[0][1] != texts[1][1] == texts[2][1]


def test_a_conda_environment_is_copied_and_its_packages_decide_the_key() -> None:
    def tree(build: str) -> CondaTree:
        packages = [CondaPackage("python", "3.13.1", build, "https://c.example/p.conda", "0" * 64, 1)]
        return CondaTree(("python",), ("https://c.example",), tuple(packages))

    first, second = (made(ImageSpec(), conda=tree(build)) for build in ("h1", "h2"))
    assert first.key != second.key
    assert first.contributed.path == ("/opt/conda/bin",)
    assert first.steps[0].name == "conda: 1 packages in /opt/conda"
    assert f"{MOUNT}/conda/." in first.files["conda.sh"]


def test_it_says_what_it_can_do() -> None:
    assert {feature.value for feature in set(Feature) - FEATURES} == {
        "builder_options", "platform", "registry", "registry_config", "local-engine", "multi-platform",
        "oci-layout",
    }  # fmt: skip


def test_lay_out_writes_secrets_for_the_steps_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2")
    spec = ImageSpec(
        packages=["six"],
        pip_index="https://me:hunter3@a.example/simple",
        pip_secret_mounts=[("token", "/run/x")],
        root=tmp_path,
    )
    request = staged(spec, tmp_path)
    made = recipe(request)
    assert not any("hunter" in text for text in made.files.values())
    folder = tmp_path / "shown"
    folder.mkdir()
    assert lay_out(request, made.files, folder) == (
        (folder, MOUNT), (request.staged.folder, f"{MOUNT}/staged"))  # fmt: skip
    assert (folder / "secrets" / "pip_secret_mounts[0]").read_text() == "hunter2"
    assert "hunter3" in (folder / "secrets" / "pip.conf").read_text()
    assert (folder / "packages.sh").read_text() == made.files["packages.sh"]
    assert (folder / "staged").is_dir()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20))
def test_scripts_are_shell_whatever_stands_in_them(text: str) -> None:
    line = "".join(char for char in text if char not in "\r\n") or "x"
    try:
        spec = ImageSpec(
            workdir=f"/srv/{line}x", env={"A": text}, build_env={"B": text}, packages=["six"],
            pip_extra_args=[f"--x={line}"], commands=["true"], apt_packages=["git"],
        )  # fmt: skip
    except SpecError:  # the spec's own rules are tested elsewhere
        assume(False)
    for name, script in made(spec, base=dataclasses.replace(OFFICIAL, config={})).files.items():
        done = subprocess.run(["/bin/sh", "-n"], input=script.encode(), capture_output=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr.decode()}"


@pytest.mark.parametrize("status", [0, 7])
def test_secret_files_are_there_for_the_time_of_the_step(tmp_path: Path, status: int) -> None:
    """The script of the packages, run here: in other places, by a python that looks and does not install."""
    (tmp_path / "one").write_text("first")
    (tmp_path / "two").write_text("second")
    there = tmp_path / "image" / "kept"
    there.parent.mkdir()
    there.write_text("the image's own")
    absent = tmp_path / "image" / "made" / "for it" / "token"
    spec = ImageSpec(
        packages=["six"],
        root=tmp_path,
        pip_secret_mounts=[("one", str(absent)), ("two", str(there))],
    )
    request = staged(spec, tmp_path)
    folder = tmp_path / "mount"
    folder.mkdir()
    lay_out(request, recipe(request).files, folder)
    (folder / "staged").rmdir()
    (folder / "staged").symlink_to(tmp_path / "staged")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    look = f"cat '{absent}' '{there}'; ls; exit {status}"
    python.write_text(f'#!/bin/sh\nif [ "$3" = --version ]; then exit 0; fi\n{look}\n')
    python.chmod(0o755)
    script = (folder / "packages.sh").read_text().replace(MOUNT, str(folder))
    script = script.replace("/tmp/imagesmith-requirements", str(tmp_path / "work"))
    done = subprocess.run(
        ["/bin/sh", "-eu"],
        input=script,
        env={"PATH": f"{python.parent}{os.pathsep}/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert done.stdout == "firstsecondimagesmith.txt\n"
    assert there.read_text() == "the image's own"
    assert not absent.parent.parent.exists()
    assert not (tmp_path / "work").exists()
