"""One spec by every builder: what a program sees inside is equal, but for a listed few."""

from __future__ import annotations

import fnmatch
import uuid
from collections.abc import Callable, Mapping

import pytest

from imagesmith import ImageSpec, load
from tests.live import seen
from tests.live.conftest import Build, Engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live

FIRST = "envd"
CASES = (
    ("rich", "docker"),
    ("rich", "buildpacks"),
    ("rich", "oci"),
    ("plain", "docker"),
    ("plain", "buildpacks"),
    ("plain", "oci"),
)
DIFFER: Mapping[str, Mapping[str, str]] = {
    "docker": {},
    "buildpacks": {
        "*.PATH": "packages are in a layer of a buildpack, whose programs come before those of the base",
        "*.VIRTUAL_ENV": "the buildpack says where its environment is",
        "*.CNB_*": "what those need who start programs by the launcher",
        "python.executable": "the python of that environment",
        "where.python*": "the same, as a shell finds it",
    },
    "oci": {
        "*.PATH": "packages are in an environment of their own: the base's python is not changed",
        "python.executable": "the python of that environment",
        "where.python*": "the same, as a shell finds it",
    },
}
"""builder -> facts (a pattern) -> why they differ from what envd's image shows"""
OWN_FOLDERS = {"buildpacks": "/layers/", "oci": "/opt/venv/"}
"""builder -> what the folders begin with that it puts first on PATH"""


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    """All that can be said, for the local engine."""
    folder = seen.project(tmp_path_factory.mktemp("seen") / "project")
    return load(f"{folder / 'image.py'}:image")


@pytest.fixture(scope="module")
def specs(rich: ImageSpec, rig: Rig) -> Mapping[str, ImageSpec]:
    """The other one goes to a registry, and runs nothing in its build."""
    registry = f"{rig.registry}/seen-{uuid.uuid4().hex[:8]}"
    return {"rich": rich, "plain": rich.replace(apt_packages=(), commands=(), registry=registry)}


@pytest.fixture(scope="module")
def looked_at(
    specs: Mapping[str, ImageSpec], make: Build, engine: Engine, rig: Rig
) -> Callable[..., seen.Facts]:
    """What is seen in the image of that spec by that builder."""
    variables = {"IMAGESMITH_BUILDPACKS_BUILDER": rig.cnb.builder} if rig.cnb else {}
    known: dict[tuple[str, str], seen.Facts] = {}

    def look(which: str, builder: str) -> seen.Facts:
        if builder == "buildpacks" and not variables:
            pytest.skip("the rig has no builder image: python3 -m tests.rig up --with cnb")
        if (which, builder) not in known:
            result = make(specs[which], builder=builder, force=True, variables=variables)
            assert result.builder.startswith(f"{builder} ")
            if specs[which].registry:
                engine("pull", "--quiet", result.reference)
            known[which, builder] = seen.facts(engine, result.reference, specs[which])
        return known[which, builder]

    return look


def test_what_a_program_sees_is_what_was_asked_for(
    rich: ImageSpec, looked_at: Callable[..., seen.Facts]
) -> None:
    """Equal images may be equally wrong: a few facts by their values."""
    spec, first = rich, looked_at("rich", FIRST)
    path = "/srv/app/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    for key, value in {**seen.ENV, "PATH": path, "IMAGESMITH_ID": spec.id}.items():
        assert first[f"python.env.{key}"] == value
        if key != "IMAGESMITH_ID":
            assert first[f"python.commands.{key}"] == value
    assert "python.commands.IMAGESMITH_ID" not in first
    assert first["default entrypoint"] == [True, "1.0 million", ["a b", "$HOME"]]
    assert first["python.cwd"] == "/srv/app"
    assert first["python.uid"] == 1234
    assert first["python.packages.six"] == "1.16.0"
    assert first["python.tree.beside/deep/file.txt"] == ["0o644", 0, 0, "copied\n"]
    assert first["python.tree.bin/tool"] == ["0o755", 0, 0, "#!/bin/sh\necho tool\n"]


@pytest.mark.parametrize(("which", "builder"), CASES)
def test_it_sees_the_same_whoever_built(
    which: str, builder: str, looked_at: Callable[..., seen.Facts]
) -> None:
    found = seen.differences(looked_at(which, FIRST), looked_at(which, builder))
    reasons = DIFFER[builder]
    unlisted = [
        f"{fact}: {one!r}, {other!r}"
        for fact, (one, other) in found.items()
        if not any(fnmatch.fnmatchcase(fact, each) for each in reasons)
    ]
    assert not unlisted, "\n".join(unlisted)
    assert not [each for each in reasons if not fnmatch.filter(found, each)], "listed, but equal"
    for fact, (one, other) in found.items():
        if fact.endswith(".PATH"):
            folders = str(other).split(":")
            assert [each for each in folders if not each.startswith(OWN_FOLDERS[builder])] == str(one).split(
                ":"
            )
