"""One rich spec by every builder: what a program sees inside is equal, but for a listed few."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from imagesmith import ImageSpec, load
from tests.live import seen
from tests.live.conftest import Build, Engine

pytestmark = pytest.mark.live

FIRST = "envd"
OTHERS = ("docker",)
DIFFER: Mapping[str, Mapping[str, str]] = {
    "docker": {},
}
"""builder -> fact -> why it differs from what envd's image shows"""


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
    builder: str, spec: ImageSpec, make: Build, engine: Engine, first: seen.Facts
) -> None:
    result = make(spec, builder=builder, force=True)
    assert result.builder.startswith(f"{builder} ")
    found = seen.differences(first, seen.facts(engine, result.reference, spec))
    allowed = DIFFER[builder]
    unlisted = {fact: pair for fact, pair in found.items() if fact not in allowed}
    assert not unlisted
    assert set(allowed) == set(found), "a listed difference is none"
