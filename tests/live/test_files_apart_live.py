"""Files that a builder leaves to the core: what stands in the image, and when the builder is started."""

from __future__ import annotations

import uuid
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from imagesmith import BuildResult, ImageSpec, Phase
from tests.live.conftest import Build, Engine
from tests.rig.state import Rig

pytestmark = pytest.mark.live

RUN = uuid.uuid4().hex[:8]
BUILDERS = ["docker", "envd"]
NOWHERE = {"BUILDX_BUILDER": "there-is-no-such-builder", "IMAGESMITH_ENVD_ADDRESS": "tcp://127.0.0.1:1"}
"""What builds nothing needs no tool that could build."""
LIST = "cd /; find {} | sort | xargs -d '\\n' stat -c '%n %a %u:%g %F'"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    write(folder, {"app.py": "print('old')\n", "inner/old.py": "", "inner/run": "#!/bin/sh\necho run\n"})
    (folder / "inner" / "run").chmod(0o755)
    (folder / "link").symlink_to("app.py")
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def changed(source: Path) -> None:
    """One file edited, one gone, one new in a new folder."""
    write(source, {"app.py": "print('new')\n", "new/file.py": ""})
    (source / "inner" / "old.py").unlink(missing_ok=True)


def built(make: Build, builder: str, spec: ImageSpec, **options: Any) -> tuple[BuildResult, bool, list[str]]:
    """The image, whether the builder was asked for it, and what was said."""
    events: list[object] = []
    result = make(spec, builder=builder, report=events.append, **options)
    asked = any(isinstance(each, Phase) and each.name == "building" for each in events)
    return result, asked, [str(each) for each in events]


def layers(engine: Engine, reference: str) -> list[str]:
    return engine("image", "inspect", "--format", '{{join .RootFS.Layers " "}}', reference).split()


AFTER = """\
srv/app 755 0:0 directory
srv/app/x 775 1000:0 directory
srv/app/x/app.py 644 0:0 regular file
srv/app/x/inner 755 0:0 directory
srv/app/x/inner/run 755 0:0 regular file
srv/app/x/link 777 0:0 symbolic link
srv/app/x/new 755 0:0 directory
srv/app/x/new/file.py 644 0:0 regular empty file
/opt/imagesmith/imagesmith/__init__.py
run
print('new')
"""
SHOWN = (
    f"{LIST.format('srv/app')}; cd /srv/app/x; "
    "python -c 'import imagesmith; print(imagesmith.__file__)'; inner/run; cat app.py"
)


@pytest.mark.parametrize(
    ("builder", "place"),
    [*product(BUILDERS, ("engine", "classic", "registry")), ("envd", "registry without an engine")],
)
def test_an_edit_starts_no_build(
    make: Build, engine: Engine, rig: Rig, source: Path, builder: str, place: str
) -> None:
    variables = {}
    if place == "classic":
        if rig.docker_host_classic is None:
            pytest.skip("this machine has no second engine with the classic image store")
        engine = Engine(rig.docker_host_classic)
        variables = {"DOCKER_HOST": rig.docker_host_classic}
    elif place == "registry without an engine":
        variables = {"IMAGESMITH_ENVD_ADDRESS": rig.buildkit.tcp, "DOCKER_HOST": "unix:///nonexistent"}
    spec = ImageSpec(
        name=f"apart-{builder}-{place.replace(' ', '-')}-{RUN}",
        python_version="3.11",
        packages=["six"],
        source_root=source,
        workdir="/srv/app/x",
        user="1000:1000",
        registry=f"{rig.registry}/apart-{builder}" if place.startswith("registry") else None,
    )
    made = []
    try:
        first, asked, _ = built(make, builder, spec, variables=variables)
        made.append(first.reference)
        assert asked
        changed(source)
        second, asked, _ = built(make, builder, spec, variables={**variables, **NOWHERE})
        made.append(second.reference)
        assert not asked
        assert engine.run(second.reference, "sh", "-c", SHOWN) == AFTER
        assert engine.run(first.reference, "sh", "-c", "python app.py; ls inner") == "old\nold.py\nrun\n"
        assert engine.run(second.reference, "sh", "-c", "touch here && id -u") == "1000\n"
        assert layers(engine, first.reference)[:-1] == layers(engine, second.reference)[:-1]
        third, asked, _ = built(make, builder, spec.with_env({"A": "1"}), variables={**variables, **NOWHERE})
        made.append(third.reference)
        assert not asked
        assert engine.run(third.reference, "sh", "-c", SHOWN) == AFTER
        assert layers(engine, third.reference) == layers(engine, second.reference)
    finally:
        if place == "classic":
            engine.discard(made)


def test_an_edit_of_a_layout(make: Build, engine: Engine, source: Path, tmp_path: Path) -> None:
    spec = ImageSpec(
        name=f"apart-{RUN}", python_version="3.11", source_root=source, user="1000", workdir="/srv/app/x"
    )
    layout = tmp_path / "layout"
    built(make, "docker", spec, output=layout)
    changed(source)
    result, asked, _ = built(make, "docker", spec, output=layout)
    assert not asked
    archive = tmp_path / "image.tar"
    built(make, "docker", spec, output=archive)
    loaded = engine("load", "--input", str(archive)).strip().removeprefix("Loaded image: ")
    try:
        assert engine.run(loaded, "sh", "-c", SHOWN) == AFTER
    finally:
        engine.discard([loaded])
    assert result.digest


THERE = "mkdir -p {0} && echo base > {0}/base.txt && chown 7:8 {0}/base.txt && chmod 0600 {0}/base.txt"
CROWDED = {
    "files": (
        f"{THERE.format('/srv/a/work')} && ln -s base.txt /srv/a/work/app.py",
        "srv/a 755 0:0 directory",
        "srv/a/work/base.txt 600 7:8 regular file",
        "base",
    ),
    "a folder above": ("mkdir -p /srv/a && chmod 0750 /srv/a && chgrp 5 /srv/a", "srv/a 750 0:5 directory"),
    "a link above": ("mkdir -p /srv/real && ln -s real /srv/a", "srv/a 777 0:0 symbolic link"),
}


@pytest.mark.parametrize("what", CROWDED)
@pytest.mark.parametrize("builder", BUILDERS)
def test_on_a_base_with_more_there_the_builder_copies(
    make: Build, engine: Engine, source: Path, builder: str, what: str
) -> None:
    """What the base has there stays as it is."""
    command, *kept = CROWDED[what]
    base = ImageSpec(
        name=f"crowded-{builder}-{RUN}",
        python_version="3.11",
        commands=[command],
        workdir="/elsewhere",
        builder=builder,
    )
    spec = ImageSpec(
        name=f"on-crowded-{builder}-{RUN}",
        base_image=base,
        source_root=source,
        workdir="/srv/a/work",
        user="1000",
    )
    for attempt in range(2):
        result, asked, said = built(make, builder, spec)
        assert asked
        tried = [each for each in said if "not bare" in each]
        assert bool(tried) is (attempt == 0), "a base that is known to be crowded is not tried again"
        changed(source)
    shown = f"cd /srv/a/work; cat app.py *.txt; inner/run; {LIST.format('srv')}"
    found = engine.run(result.reference, "sh", "-c", shown, options=("--user", "0")).splitlines()
    work = "srv/real/work" if what == "a link above" else "srv/a/work"
    ours = [" 775 1000:0 directory", "/app.py 644 0:0 regular file", "/inner/run 755 0:0 regular file"]
    ours += ["/inner 755 0:0 directory", "/new/file.py 644 0:0 regular empty file"]
    assert {*kept, "print('new')", "run", *(f"{work}{each}" for each in ours)} <= set(found)
    assert not [line for line in found if "old.py" in line]


@pytest.mark.parametrize("builder", BUILDERS)
def test_a_user_by_name_is_looked_up_in_the_image(
    make: Build, engine: Engine, source: Path, builder: str
) -> None:
    spec = ImageSpec(name=f"named-{builder}-{RUN}", python_version="3.11", source_root=source, user="daemon")
    built(make, builder, spec)
    changed(source)
    result, asked, said = built(make, builder, spec)
    assert asked
    assert not [each for each in said if "not bare" in each]
    found = engine.run(result.reference, "sh", "-c", LIST.format("workspace"))
    assert "workspace 775 1:0 directory\n" in found
    assert "workspace/new/file.py 644 0:0 " in found
    assert "old.py" not in found


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
    for said in ("old", "new"):
        result, _, _ = built(make, "docker", spec)
        assert engine.run(result.reference, "python", "app.py") == f"{said}\n"
        changed(source)
