"""``imagesmith rebase``: a newer run image under images that buildpacks made; all else stays."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imagesmith import BuilderError, BuildFailed, ImagesmithError, ImageSpec
from imagesmith.rebasing import RebaseResult, rebase
from imagesmith.settings import load_settings
from tests.live.cnb import LIFECYCLE, RUN, SAYS, Told, labels, pack, spec_of, stored
from tests.live.conftest import Build, Engine
from tests.rig.state import Cnb, Rig

pytestmark = pytest.mark.live

BASE_DIGEST = "org.opencontainers.image.base.digest"
VERSION = ("cat", "/etc/run-image")
Rebase = Callable[..., RebaseResult]


@pytest.fixture(scope="module")
def registry(rig: Rig) -> str:
    return f"{rig.registry}/cnb-{RUN}"


@pytest.fixture
def ground(registry: str, own_cnb: Cnb, engine: Engine) -> Callable[[str | None], str]:
    """A run image whose name stands for what it is called with."""
    name = f"{registry}/ground:{uuid.uuid4().hex[:8]}"

    def moved(image: str | None) -> str:
        assert image is not None
        engine("pull", "--quiet", image)
        engine("tag", image, name)
        engine("push", "--quiet", name)
        engine("rmi", name)
        return name

    return moved


@pytest.fixture
def variables(environment: dict[str, str], cnb: Cnb) -> dict[str, str]:
    return {**environment, "IMAGESMITH_BUILDPACKS_BUILDER": cnb.builder}


@pytest.fixture
def put(variables: dict[str, str], tmp_path: Path) -> Rebase:
    """Rebase an image."""

    def run(image: str, host: str | None = None, **options: Any) -> RebaseResult:
        env = {**variables, **({"DOCKER_HOST": host} if host else {})}
        return rebase(image, settings=load_settings(tmp_path, env), **options)

    return run


def finished(image: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Its configuration without labels, and the labels that a rebase leaves alone."""
    config = dict(image.config["config"])
    found = config.pop("Labels")
    theirs = ("io.buildpacks.", "io.imagesmith.buildpacks", "org.opencontainers.image.base.")
    return config, {key: value for key, value in found.items() if not key.startswith(theirs)}


def test_a_newer_run_image_comes_under_it_and_the_rest_stays(
    by_buildpacks: Build,
    registry: str,
    own_cnb: Cnb,
    ground: Callable[[str | None], str],
    variables: dict[str, str],
    engine: Engine,
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text(SAYS)
    spec = spec_of(
        "rebased",
        registry,
        base_image=ground(own_cnb.run),
        source_root=tmp_path,
        apt_packages=["hello"],
        commands=["echo made > /made-by-command"],
        entrypoint=["python", "app.py"],
        labels={"who": "it's me"},
        user="1234",
    )
    made = by_buildpacks(spec)
    before = stored(made.reference, variables)
    assert engine.run(made.reference, "/etc/run-image", options=("--entrypoint", "cat")) == "1\n"
    ground(own_cnb.run_next)

    argv = [str(Path(sys.executable).with_name("imagesmith")), "rebase", made.reference]
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    after = stored(made.reference, variables)
    assert done.stdout == f"{made.reference}@{after.digest}\n"
    assert after.digest != before.digest
    engine("pull", "--quiet", made.reference)
    told = engine.run(made.reference, "/etc/run-image", "/made-by-command", options=("--entrypoint", "cat"))
    assert told == "2\nmade\n"
    for options, command in (
        ((), ()),
        (("--entrypoint", "python"), ("app.py",)),
        (("--entrypoint", ""), ("python", "app.py")),
        (("--user", "54321:0", "--read-only"), ()),
    ):
        assert engine.run(made.reference, *command, options=options) == f"1.16.0 {spec.id} it's $HOME\n"
    assert engine.run(made.reference, options=("--entrypoint", "hello")) == "Hello, world!\n"
    assert finished(after) == finished(before)
    assert labels(after)[BASE_DIGEST] != labels(before)[BASE_DIGEST]
    assert (
        json.loads(labels(after)[LIFECYCLE])["runImage"] != json.loads(labels(before)[LIFECYCLE])["runImage"]
    )


def test_it_is_not_done_twice(
    by_buildpacks: Build, registry: str, own_cnb: Cnb, ground: Callable[[str | None], str], put: Rebase
) -> None:
    made = by_buildpacks(spec_of("once", registry, base_image=ground(own_cnb.run)))
    assert not put(made.reference).changed
    ground(own_cnb.run_next)
    first = put(made.reference)
    assert first.changed
    assert first.seconds < 30
    again = put(made.reference)
    assert not again.changed
    assert again.digest == first.digest


def test_the_image_may_stay_and_the_new_one_get_a_tag_of_its_own(
    by_buildpacks: Build,
    registry: str,
    own_cnb: Cnb,
    ground: Callable[[str | None], str],
    put: Rebase,
    variables: dict[str, str],
) -> None:
    made = by_buildpacks(spec_of("both", registry, base_image=ground(own_cnb.run)))
    ground(own_cnb.run_next)
    other = f"{made.reference.rpartition(':')[0]}:patched"
    result = put(made.reference, output=other)
    assert result.reference == other
    assert stored(made.reference, variables).digest == made.digest
    assert stored(other, variables).digest == result.digest != made.digest


def test_pack_rebases_it_to_the_same_layers(
    by_buildpacks: Build,
    registry: str,
    rig: Rig,
    own_cnb: Cnb,
    ground: Callable[[str | None], str],
    put: Rebase,
    variables: dict[str, str],
    tmp_path: Path,
) -> None:
    """What stands in the labels suffices for other tools; the configuration outlives them too."""
    name = ground(own_cnb.run)
    made = by_buildpacks(spec_of("by-pack", registry, base_image=name))
    before = stored(made.reference, variables)
    ground(own_cnb.run_next)
    ours = f"{made.reference.rpartition(':')[0]}:ours"
    put(made.reference, output=ours)
    pack(rig, tmp_path, "rebase", made.reference, "--publish", "--pull-policy", "always")
    theirs, mine = stored(made.reference, variables), stored(ours, variables)
    assert theirs.config["rootfs"] == mine.config["rootfs"]
    assert finished(theirs) == finished(mine) == finished(before)


def test_another_run_image_has_to_be_wanted(
    by_buildpacks: Build,
    registry: str,
    own_cnb: Cnb,
    ground: Callable[[str | None], str],
    put: Rebase,
    engine: Engine,
) -> None:
    """One of another name than the image was built on."""
    made = by_buildpacks(spec_of("elsewhere", registry, base_image=ground(own_cnb.run)))
    with pytest.raises(BuildFailed) as caught:
        put(made.reference, run_image=own_cnb.run_next)
    assert caught.value.returncode == 72
    assert "--force" in str(caught.value.hint)
    assert put(made.reference, run_image=own_cnb.run_next, force=True).changed
    engine("pull", "--quiet", made.reference)
    assert engine.run(made.reference, *VERSION) == "2\n"


def test_a_run_image_may_forbid_it(
    by_buildpacks: Build,
    registry: str,
    own_cnb: Cnb,
    ground: Callable[[str | None], str],
    put: Rebase,
    variables: dict[str, str],
) -> None:
    made = by_buildpacks(spec_of("pinned", registry, base_image=ground(own_cnb.run_pinned)))
    ground(own_cnb.run_next)
    with pytest.raises(BuildFailed, match="rebas") as caught:
        put(made.reference)
    assert caught.value.returncode == 72
    assert stored(made.reference, variables).digest == made.digest


def test_images_that_cannot_be_rebased_are_told_apart(
    make: Build, registry: str, rig: Rig, put: Rebase
) -> None:
    spec = ImageSpec(name="by-docker", registry=registry, python_version="3.11")
    by_docker = make(spec, builder="docker", force=True)
    with pytest.raises(BuilderError, match="docker builder, which cannot"):
        put(by_docker.reference)
    with pytest.raises(ImagesmithError, match="was not made by imagesmith"):
        put(rig.images.python311)
    with pytest.raises(ImagesmithError, match="no image"):
        put(f"{registry}/never:built")


@pytest.mark.parametrize("store", ["containerd", "classic"])
def test_in_the_local_engine(
    by_buildpacks: Build,
    rig: Rig,
    own_cnb: Cnb,
    ground: Callable[[str | None], str],
    put: Rebase,
    store: str,
) -> None:
    host = rig.docker_host if store == "containerd" else rig.docker_host_classic
    if host is None:
        pytest.skip("no second engine here: the machine's own is used")
    engine = Engine(host)
    spec = spec_of(f"rebased-{RUN}", None, base_image=ground(own_cnb.run), entrypoint=["python", "-c", SAYS])
    made, told = by_buildpacks(spec, variables={"DOCKER_HOST": host}), Told()
    try:
        ground(own_cnb.run_next)
        result = put(made.reference, host, report=told)
        assert result.changed
        assert result.digest != made.digest
        assert engine.run(made.reference) == f"1.16.0 {spec.id} it's $HOME\n"
        assert engine.run(made.reference, "/etc/run-image", options=("--entrypoint", "cat")) == "2\n"
    finally:
        engine("rmi", "--force", made.reference, check=False)
        engine("rmi", "--force", str(spec.base_image), check=False)
