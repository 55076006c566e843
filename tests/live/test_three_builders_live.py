"""One rich spec by every builder: what a program sees inside is equal, but for a listed few."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

import pytest

from imagesmith import ImageSpec, load
from tests.live import seen
from tests.live.conftest import Build, Engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live

FIRST = "envd"
OTHERS = ("docker", "buildpacks")
DIFFER: Mapping[str, Mapping[str, str]] = {
    "docker": {},
    "buildpacks": {
        "*.PATH": "packages are in a layer of a buildpack, whose programs come before those of the base",
        "*.VIRTUAL_ENV": "the buildpack says where its environment is",
        "*.CNB_*": "what those need who start programs by the launcher",
        "python.executable": "the python of that environment",
        "where.python*": "the same, as a shell finds it",
    },
}
"""builder -> facts (a pattern) -> why they differ from what envd's image shows"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ImageSpec:
    folder = seen.project(tmp_path_factory.mktemp("seen") / "project")
    return load(f"{folder / 'image.py'}:image")


@pytest.fixture(scope="module")
def first(spec: ImageSpec, make: Build, engine: Engine) -> seen.Facts:
    return seen.facts(engine, make(spec, builder=FIRST, force=True).reference, spec)


def test_what_a_program_sees_is_what_was_asked_for(first: seen.Facts, spec: ImageSpec) -> None:
    """Equal images may be equally wrong: a few facts by their values."""
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


@pytest.mark.parametrize("builder", OTHERS)
def test_it_sees_the_same_whoever_built(
    builder: str, spec: ImageSpec, make: Build, engine: Engine, rig: Rig, first: seen.Facts
) -> None:
    variables = {"IMAGESMITH_BUILDPACKS_BUILDER": rig.cnb.builder} if rig.cnb else {}
    if builder == "buildpacks" and not variables:
        pytest.skip("the rig has no builder image: python3 -m tests.rig up --with cnb")
    result = make(spec, builder=builder, force=True, variables=variables)
    assert result.builder.startswith(f"{builder} ")
    found = seen.differences(first, seen.facts(engine, result.reference, spec))
    lines = {fact: f"{fact}: {one!r}, {other!r}" for fact, (one, other) in found.items()}
    unlisted = [
        line
        for fact, line in lines.items()
        if not any(fnmatch.fnmatchcase(fact, each) for each in DIFFER[builder])
    ]
    assert not unlisted, "\n".join(unlisted)
    idle = [each for each in DIFFER[builder] if not fnmatch.filter(found, each)]
    assert not idle, "listed differences that are none"
    for fact, (one, other) in found.items():
        if fact.endswith(".PATH"):
            rest = [folder for folder in str(other).split(":") if not folder.startswith("/layers/")]
            assert rest == str(one).split(":"), fact
