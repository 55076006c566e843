"""Files that the docker builder leaves to the core: what stands in the image, and when buildx is started."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from imagesmith import BuildResult, ImageSpec, Phase
from tests.live.conftest import Build, Engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live

RUN = uuid.uuid4().hex[:8]
LIST = "cd /; find workspace srv/a 2>/dev/null | sort | xargs -d '\\n' stat -c '%n %a %u:%g %F'"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    write(folder, {"app.py": f"print('{RUN}')\n", "inner/old.py": "", "inner/run": "#!/bin/sh\necho run\n"})
    (folder / "inner" / "run").chmod(0o755)
    (folder / "link").symlink_to("app.py")
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def changed(source: Path) -> None:
    """One file edited, one gone, one new in a new folder."""
    write(source, {"app.py": f"print('{RUN[::-1]}')\n", "new/file.py": ""})
    (source / "inner" / "old.py").unlink(missing_ok=True)


def built(make: Build, spec: ImageSpec, **options: Any) -> tuple[BuildResult, bool]:
    """The image, and whether the builder was asked for it."""
    events: list[object] = []
    result = make(spec, builder="docker", report=events.append, **options)
    return result, any(isinstance(each, Phase) and each.name == "building" for each in events)


AFTER = f"""\
workspace 775 1000:0 directory
workspace/app.py 644 0:0 regular file
workspace/inner 755 0:0 directory
workspace/inner/run 755 0:0 regular file
workspace/link 777 0:0 symbolic link
workspace/new 755 0:0 directory
workspace/new/file.py 644 0:0 regular empty file
{RUN[::-1]}
run
"""
SHOWN = f"{LIST}; cd /workspace; python app.py; inner/run"


def shown(engine: Engine, reference: str) -> str:
    return engine.run(reference, "sh", "-c", SHOWN)


@pytest.mark.parametrize("place", ["engine", "registry", "classic"])
def test_an_edit_starts_no_build(make: Build, engine: Engine, rig: Rig, source: Path, place: str) -> None:
    variables = {}
    if place == "classic":
        if rig.docker_host_classic is None:
            pytest.skip("this machine has no second engine with the classic image store")
        engine = Engine(rig.docker_host_classic)
        variables = {"DOCKER_HOST": rig.docker_host_classic}
    spec = ImageSpec(
        name=f"apart-{place}-{RUN}",
        python_version="3.11",
        source_root=source,
        user="1000",
        registry=f"{rig.registry}/apart" if place == "registry" else None,
    )
    first, asked = built(make, spec, variables=variables)
    assert asked
    changed(source)
    # what builds nothing needs no buildx
    second, asked = built(make, spec, variables={**variables, "BUILDX_BUILDER": "there-is-no-such-builder"})
    assert not asked
    try:
        assert shown(engine, second.reference) == AFTER
        assert "old.py" in engine.run(first.reference, "ls", "inner")
        third, asked = built(make, spec.with_env({"A": "1"}), variables=variables)
        assert not asked
        assert shown(engine, third.reference) == AFTER
        assert layers(engine, third.reference) == layers(engine, second.reference)
        assert layers(engine, first.reference)[:-1] == layers(engine, second.reference)[:-1]
    finally:
        if place == "classic":
            engine.discard(each.reference for each in (first, second, third))


def layers(engine: Engine, reference: str) -> list[str]:
    text = engine("image", "inspect", "--format", '{{join .RootFS.Layers " "}}', reference)
    return text.split()


def test_an_edit_of_a_layout(make: Build, engine: Engine, source: Path, tmp_path: Path) -> None:
    spec = ImageSpec(name=f"apart-{RUN}", python_version="3.11", source_root=source, user="1000")
    layout = tmp_path / "layout"
    built(make, spec, output=layout)
    changed(source)
    result, asked = built(make, spec, output=layout)
    assert not asked
    archive = tmp_path / "image.tar"
    built(make, spec, output=archive)
    loaded = engine("load", "--input", str(archive)).strip().removeprefix("Loaded image: ")
    try:
        assert shown(engine, loaded) == AFTER
    finally:
        engine.discard([loaded])
    assert result.digest


CROWDED = {
    "files": (
        "mkdir -p {0}/inner && echo base > {0}/base.txt && ln -s base.txt {0}/app.py",
        "",
    ),
    "a folder above": ("mkdir -p /srv/a && chmod 0750 /srv/a && chgrp 0 /srv/a", "srv/a 750 0:0 directory\n"),
    "a link above": ("mkdir -p /srv/real && ln -s real /srv/a", ""),
}


@pytest.mark.parametrize("what", CROWDED)
def test_a_work_directory_that_is_not_bare(make: Build, engine: Engine, source: Path, what: str) -> None:
    """Then the engine copies: what the base has there stays as it is."""
    place = "/workspace" if what == "files" else "/srv/a/work"
    command, above = CROWDED[what]
    base = ImageSpec(
        name=f"crowded-{RUN}", python_version="3.11", commands=[command.format(place)], workdir="/elsewhere"
    )
    spec = ImageSpec(name=f"on-crowded-{RUN}", base_image=base, source_root=source, workdir=place)
    for attempt in range(2):
        events: list[object] = []
        result = make(spec, builder="docker", report=events.append)
        tried = [each for each in events if "not bare" in str(each)]
        assert bool(tried) is (attempt == 0), "a base that is known to be crowded is not tried again"
        changed(source)
    found = engine.run(result.reference, "sh", "-c", f"python app.py; ls; {LIST}")
    if what == "files":
        assert "workspace/base.txt 644 0:0 regular file" in found
    assert above in found
    assert f"{RUN[::-1]}\n" in found
    assert "new\n" in found


def test_a_user_by_name_is_looked_up_by_the_engine(make: Build, engine: Engine, source: Path) -> None:
    spec = ImageSpec(name=f"named-{RUN}", python_version="3.11", source_root=source, user="daemon")
    built(make, spec)
    changed(source)
    result, asked = built(make, spec)
    assert asked
    assert "workspace 775 1:0 directory" in engine.run(result.reference, "sh", "-c", LIST)


def test_a_work_directory_below_a_volume_of_the_base(
    make: Build, engine: Engine, source: Path, rig: Rig
) -> None:
    folder = source.parent / "base"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {rig.images.python311}\nVOLUME /srv\n")
    name = f"{rig.registry}/with-volume-{RUN}:1"
    engine("buildx", "build", "-q", "--provenance=false", "--push", "-t", name, str(folder))
    spec = ImageSpec(
        name=f"below-volume-{RUN}",
        base_image=name,
        python_version="3.11",
        source_root=source,
        workdir="/srv/w",
    )
    for said in (RUN, RUN[::-1]):
        result, _ = built(make, spec)
        assert engine.run(result.reference, "python", "app.py") == f"{said}\n"
        changed(source)
