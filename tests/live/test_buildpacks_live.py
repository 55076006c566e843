"""The buildpacks builder on a real lifecycle: what it makes, what it keeps, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imagesmith import (
    BaseImageError,
    BuilderNotReady,
    BuildFailed,
    BuildResult,
    FeatureUnsupported,
    ImageSpec,
    Message,
    Phase,
)
from imagesmith.stores.registry import open_repository
from tests.live.cnb import LIFECYCLE, PACKAGES, RUN, SAYS, Told, labels, layers, pack, spec_of, stored
from tests.live.conftest import Build, Engine
from tests.rig.state import Cnb, Rig

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def registry(rig: Rig) -> str:
    return f"{rig.registry}/cnb-{RUN}"


@dataclass(frozen=True)
class Twice:
    spec: ImageSpec
    cold: BuildResult
    warm: BuildResult
    cold_told: Told
    warm_told: Told


@pytest.fixture(scope="module")
def twice(by_buildpacks: Build, registry: str) -> Twice:
    spec = spec_of("twice", registry)
    cold_told, warm_told = Told(), Told()
    cold = by_buildpacks(spec, report=cold_told)
    return Twice(spec, cold, by_buildpacks(spec, report=warm_told), cold_told, warm_told)


def test_a_rebuild_reuses_every_layer(
    own_cnb: Cnb, twice: Twice, record_property: Callable[[str, object], None]
) -> None:
    record_property("cold seconds", twice.cold.seconds)
    record_property("warm seconds", twice.warm.seconds)
    print(f"two packages: cold {twice.cold.seconds:.1f} s, again {twice.warm.seconds:.1f} s")
    assert twice.warm.digest == twice.cold.digest
    assert "Collecting six" in twice.cold_told.lines
    assert "Collecting six" not in twice.warm_told.lines
    assert "Reusing layer 'imagesmith-rig/python:venv'" in twice.warm_told.lines
    assert "Adding layer '" not in twice.warm_told.lines


def test_phases_are_steps(twice: Twice) -> None:
    said = " ".join(twice.cold_told.steps).lower()
    places = [said.find(phase) for phase in ("analyzing", "detecting", "restoring", "building", "exporting")]
    assert -1 not in places
    assert places == sorted(places)


def test_the_bill_of_materials_is_kept_and_named(own_cnb: Cnb, twice: Twice) -> None:
    """Of the build that made the layers, and of the one that took them over."""
    for told in (twice.cold_told, twice.warm_told):
        (named,) = [each.text for each in told.events if isinstance(each, Message) and "SBOM" in each.text]
        folder = Path(named.partition(": ")[2])
        (file,) = folder.glob("launch/imagesmith-rig_python/venv/*.cdx.json")
        parts = json.loads(file.read_text())["components"]
        assert [f"{part['name']}=={part['version']}" for part in parts] == list(PACKAGES)


def test_nothing_is_left_in_the_engine(twice: Twice, engine: Engine) -> None:
    commands = engine("ps", "--all", "--format", "{{.Image}} {{.Command}}", "--no-trunc")
    assert f"cnb-{RUN}/twice" not in commands
    assert not engine("images", "--quiet", twice.cold.reference.rpartition(":")[0]).strip()


STARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "as it is": ((), ("python", "-c", SAYS)),
    "--entrypoint python": (("--entrypoint", "python"), ("-c", SAYS)),
    "sh -c": (("--entrypoint", "sh"), ("-c", f'python -c "{SAYS}"')),
    "no entrypoint": (("--entrypoint", ""), ("python", "-c", SAYS)),
    "any user": (("--user", "54321"), ("python", "-c", SAYS)),
    "any user, group 0": (("--user", "54321:0"), ("python", "-c", SAYS)),
    "read-only": (("--read-only",), ("python", "-c", SAYS)),
    "the launcher": (("--entrypoint", "/cnb/lifecycle/launcher"), ("--", "python", "-c", SAYS)),
}


@pytest.mark.parametrize("start", STARTS)
def test_marker_env_and_packages_are_there_however_it_starts(
    twice: Twice, engine: Engine, start: str
) -> None:
    options, command = STARTS[start]
    told = engine.run(twice.cold.reference, *command, options=options)
    assert told == f"1.16.0 {twice.spec.id} it's $HOME\n"


def test_configuration_is_the_cores_and_the_labels_of_buildpacks_are_kept(
    twice: Twice, environment: dict[str, str]
) -> None:
    image = stored(twice.cold.reference, environment)
    found = labels(image)
    assert found["io.imagesmith.id"] == twice.spec.id
    assert found["io.imagesmith.builder"] == twice.cold.builder
    metadata = json.loads(found[LIFECYCLE])
    assert metadata["buildpacks"]
    assert metadata["runImage"]["topLayer"] in image.config["rootfs"]["diff_ids"]  # type: ignore[index]
    assert "io.buildpacks.build.metadata" in found
    config: Any = image.config["config"]
    assert "launcher" not in str(config.get("Entrypoint"))


def test_source_files_cost_no_packages(
    own_cnb: Cnb,
    by_buildpacks: Build,
    registry: str,
    environment: dict[str, str],
    engine: Engine,
    tmp_path: Path,
) -> None:
    (tmp_path / "app.py").write_text("import six; print('one')\n")
    spec = spec_of("sourced", registry, source_root=tmp_path, entrypoint=["python", "app.py"])
    before = by_buildpacks(spec)
    (tmp_path / "app.py").write_text("import six; print('two')\n")
    told = Told()
    after = by_buildpacks(spec, report=told)
    assert "packages as they were" in told.lines
    one, two = (layers(stored(each.reference, environment)) for each in (before, after))
    assert len(set(two) - set(one)) == 1
    assert engine.run(after.reference) == "two\n"


def test_two_builds_of_one_spec_are_one_digest(
    own_cnb: Cnb, by_buildpacks: Build, registry: str, environment: dict[str, str], twice: Twice
) -> None:
    """Elsewhere, so from nothing: no cache, no earlier image."""
    told = Told()
    other = by_buildpacks(twice.spec.replace(registry=f"{registry}/elsewhere"), report=told)
    assert "packages into a new environment" in told.lines
    assert layers(stored(other.reference, environment)) == layers(stored(twice.cold.reference, environment))
    assert other.digest == twice.cold.digest


def test_layers_are_kept_under_a_reference(own_cnb: Cnb, by_buildpacks: Build, registry: str) -> None:
    """Both images are new in their repositories: only the cache image can know the packages."""
    options = {"cache_image": f"{registry}/cache:latest"}
    first, second = Told(), Told()
    by_buildpacks(spec_of("cached-one", registry, builder_options=options), report=first)
    by_buildpacks(spec_of("cached-two", registry, builder_options=options), report=second)
    assert "packages into a new environment" in first.lines
    assert "packages as they were" in second.lines


@pytest.fixture(params=["containerd", "classic"])
def own_engine(request: pytest.FixtureRequest, rig: Rig) -> Engine:
    host = rig.docker_host if request.param == "containerd" else rig.docker_host_classic
    if host is None:
        pytest.skip("no second engine here: the machine's own is used")
    return Engine(host)


def test_without_a_registry_it_stays_in_the_engine(
    own_cnb: Cnb, by_buildpacks: Build, own_engine: Engine
) -> None:
    spec = spec_of(f"local-{RUN}", None, entrypoint=["python", "-c", SAYS])
    made = by_buildpacks(spec, variables={"DOCKER_HOST": own_engine.host})
    try:
        assert own_engine.run(made.reference) == f"1.16.0 {spec.id} it's $HOME\n"
        told = Told()
        again = by_buildpacks(spec, variables={"DOCKER_HOST": own_engine.host}, report=told)
        assert "packages as they were" in told.lines
        assert again.digest == made.digest
    finally:
        own_engine("rmi", "--force", made.reference, check=False)


def test_registry_with_a_login(
    by_buildpacks: Build, rig: Rig, own_cnb: Cnb, engine: Engine, tmp_path: Path
) -> None:
    tls = rig.registry_tls
    login = tmp_path / "registries.json"
    auths = {tls.address: {"username": tls.username, "password": tls.password}}
    login.write_text(json.dumps({"auths": auths, "registries": [{"name": tls.address, "ca": tls.ca}]}))
    spec = spec_of("private", f"{tls.address}/cnb-{RUN}", registry_config=login)
    told = Told()
    made = by_buildpacks(spec, report=told)
    image = stored(made.reference, {}, login)
    assert labels(image)["io.imagesmith.id"] == spec.id
    seen = told.lines + json.dumps(dict(image.config)) + repr(told.events)
    assert tls.password not in seen
    assert made.log is None or tls.password not in made.log.read_text()


@pytest.mark.parametrize(
    ("changes", "code", "phase", "said"),
    [
        ({"build_env": {"RIG_DETECT": "100"}}, 20, "detect", ""),
        ({"build_env": {"RIG_DETECT": "1"}}, 21, "detect", ""),
        ({"packages": ["no-such-package-at-all==1"]}, 51, "build", "no-such-package-at-all"),
    ],
)
def test_a_failed_phase_is_a_typed_error(
    by_buildpacks: Build,
    own_cnb: Cnb,
    registry: str,
    environment: dict[str, str],
    changes: dict[str, Any],
    code: int,
    phase: str,
    said: str,
) -> None:
    spec = spec_of("failing", registry, **changes)
    with pytest.raises(BuildFailed) as caught:
        by_buildpacks(spec)
    error = caught.value
    assert error.returncode == code
    assert phase in str(error.step).lower()
    assert error.hint
    assert said in "\n".join(error.tail)
    _, _, tag = spec.image_name().rpartition(":")
    with open_repository(f"{registry}/failing", environment) as store:
        assert not store.exists(tag)


def test_a_failed_export_is_a_typed_error(
    by_buildpacks: Build, own_cnb: Cnb, registry: str, tmp_path: Path
) -> None:
    """A buildpack of the spec's own names a program as no program may be named."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "buildpack.toml").write_text(
        'api = "0.10"\n[buildpack]\nid = "own/processes"\nversion = "1"\n[[targets]]\nos = "linux"\n'
    )
    (tmp_path / "bin" / "detect").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "build").write_text(
        "#!/bin/sh\necho the own buildpack was here\n"
        'echo \'[[processes]]\ntype = "a/b"\ncommand = ["a"]\' > "$1/launch.toml"\n'
    )
    for script in ("detect", "build"):
        (tmp_path / "bin" / script).chmod(0o755)
    told = Told()
    with pytest.raises(BuildFailed) as caught:
        by_buildpacks(
            spec_of("misnamed", registry, builder_options={"buildpacks": [str(tmp_path)]}), report=told
        )
    assert "the own buildpack was here" in told.lines
    assert caught.value.returncode == 62
    assert "export" in str(caught.value.step).lower()


def test_a_missing_run_image_is_noticed_before_any_work(
    by_buildpacks: Build, own_cnb: Cnb, rig: Rig, registry: str
) -> None:
    missing = f"{rig.registry}/library/cnb-run:never"
    told = Told()
    with pytest.raises(BaseImageError, match="cnb-run:never"):
        by_buildpacks(spec_of("groundless", registry, builder_options={"run_image": missing}), report=told)
    assert not told.steps
    assert "building" not in [event.name for event in told.events if isinstance(event, Phase)]


def test_a_run_image_of_another_distro_is_refused(by_buildpacks: Build, own_cnb: Cnb, registry: str) -> None:
    told = Told()
    with pytest.raises(FeatureUnsupported, match=r"(?s)base_image.*debian 13.*debian 12") as caught:
        by_buildpacks(
            spec_of("mixed", registry, base_image=own_cnb.run_other, python_version=None),
            report=told,
        )
    assert list(caught.value.fields) == ["base_image"]
    assert not told.steps


@pytest.mark.parametrize(
    ("which", "reason"),
    [("builder_old", "platform API"), ("builder_extended", "extensions"), ("run", "no CNB builder")],
)
def test_builders_that_cannot_be_driven_are_named(
    by_buildpacks: Build, own_cnb: Cnb, registry: str, which: str, reason: str
) -> None:
    image = getattr(own_cnb, which)
    with pytest.raises(BuilderNotReady, match=reason) as caught:
        by_buildpacks(spec_of("undriven", registry, builder_options={"builder": image, "trust": True}))
    assert image in str(caught.value)


def test_a_stranger_is_not_shown_the_login(by_buildpacks: Build, own_cnb: Cnb, registry: str) -> None:
    """A builder image that only the spec names."""
    with pytest.raises(BuilderNotReady, match="IMAGESMITH_BUILDPACKS_TRUST"):
        by_buildpacks(spec_of("strange", registry, builder_options={"builder": own_cnb.builder}))
    assert by_buildpacks(
        spec_of("strange", registry, builder_options={"builder": own_cnb.builder, "trust": True})
    ).digest


def test_pack_makes_the_same_layers(
    twice: Twice,
    own_cnb: Cnb,
    rig: Rig,
    registry: str,
    environment: dict[str, str],
    engine: Engine,
    tmp_path: Path,
) -> None:
    """The same application and builder image by the other platform, pack."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "requirements.txt").write_text("\n".join(PACKAGES) + "\n")
    name = f"{registry}/by-pack:latest"
    volumes = {kind: f"imagesmith-pack-{RUN}-{kind}" for kind in ("build", "launch")}
    try:
        pack(
            rig,
            tmp_path,
            *("build", name, "--path", app, "--builder", own_cnb.builder, "--trust-builder", "--publish"),
            *("--network", "host", "--docker-host", "inherit", "--pull-policy", "if-not-present"),
            *(f"--cache=type={kind};format=volume;name={volume}" for kind, volume in volumes.items()),
        )
    finally:
        for volume in volumes.values():
            engine("volume", "rm", volume, check=False)
    theirs, mine = stored(name, environment), stored(twice.cold.reference, environment)
    told, known = (json.loads(labels(image)[LIFECYCLE]) for image in (theirs, mine))
    for key in ("topLayer", "reference", "image"):  # not the mirrors: ours is the digest that was used
        assert known["runImage"][key] == told["runImage"][key]
    assert known["launcher"] == told["launcher"]
    python = [
        next(each for each in metadata["buildpacks"] if each["key"] == "imagesmith-rig/python")["layers"]
        for metadata in (told, known)
    ]
    assert python[0]["venv"]["sha"] == python[1]["venv"]["sha"]
    of_theirs, of_mine = (list(image.config["rootfs"]["diff_ids"]) for image in (theirs, mine))  # type: ignore[index]
    below = of_theirs.index(told["runImage"]["topLayer"]) + 1
    assert of_mine[:below] == of_theirs[:below]
    assert python[0]["venv"]["sha"] in of_mine
    # of the platform API 0.15, which only pack speaks
    assert {key for key in labels(theirs) if key.startswith("io.buildpacks.")} - set(labels(mine)) <= {
        "io.buildpacks.exec-env"
    }


def test_several_platforms_under_one_tag(
    by_buildpacks: Build, own_cnb: Cnb, registry: str, engine: Engine
) -> None:
    """Each is built by the lifecycle of its own platform, emulated where it has to be."""
    if own_cnb.builder_multi is None:
        pytest.skip("no builder image for arm64: python3 -m tests.rig up --with arm64 --with cnb")
    spec = spec_of("both", registry, packages=["six==1.16.0"], platform=["linux/amd64", "linux/arm64"])
    made = by_buildpacks(spec, variables={"IMAGESMITH_BUILDPACKS_BUILDER": own_cnb.builder_multi})
    assert made.platforms == ("linux/amd64", "linux/arm64")
    code = "import os, platform, six; print(platform.machine(), six.__version__, os.environ['IMAGESMITH_ID'])"
    for platform, machine in (("linux/amd64", "x86_64"), ("linux/arm64", "aarch64")):
        options = ("--platform", platform, "--pull", "always", "--quiet")
        told = engine.run(made.reference, "python", "-c", code, options=options)
        assert told == f"{machine} 1.16.0 {spec.id}\n"


def test_a_base_without_their_python_is_refused(by_buildpacks: Build, own_cnb: Cnb, rig: Rig) -> None:
    """The rig's buildpack makes an environment of the python that its build image has."""
    with pytest.raises(BuildFailed, match="no python there that runs"):
        by_buildpacks(spec_of("bare", None, base_image=rig.images.bare))
