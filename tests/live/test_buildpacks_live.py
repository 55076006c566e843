"""The buildpacks builder on a real lifecycle: what it makes, what it keeps, how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imagesmith import (
    BaseImageError,
    BuilderNotReady,
    BuildFailed,
    BuildResult,
    Event,
    FeatureUnsupported,
    ImageSpec,
    Phase,
    StepLog,
    StepStarted,
)
from imagesmith.stores import StoredImage
from imagesmith.stores.registry import open_repository
from tests.live.conftest import Build, Engine
from tests.rig.state import Cnb, Rig

pytestmark = pytest.mark.live

RUN = uuid.uuid4().hex[:8]
PACKAGES = ("humanize==4.9.0", "six==1.16.0")
LIFECYCLE = "io.buildpacks.lifecycle.metadata"
SAYS = "import humanize, os, six; print(six.__version__, os.environ['IMAGESMITH_ID'], os.environ['ASKED'])"


@dataclass
class Told:
    """What a build reports."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def lines(self) -> str:
        return "".join(f"{event.line}\n" for event in self.events if isinstance(event, StepLog))

    @property
    def steps(self) -> list[str]:
        return [event.name for event in self.events if isinstance(event, StepStarted)]


@pytest.fixture(scope="session")
def cnb(rig: Rig) -> Cnb:
    if rig.cnb is None:
        pytest.skip("the rig has no builder image: python3 -m tests.rig up --with cnb")
    return rig.cnb


@pytest.fixture(scope="session")
def ours(cnb: Cnb) -> Cnb:
    """The rig's own builder image, whose buildpack does what a test asks for."""
    if cnb.run is None:
        pytest.skip(f"a public builder image is used ({cnb.builder}): this is about the rig's own")
    return cnb


@pytest.fixture(scope="session")
def variables(cnb: Cnb) -> dict[str, str]:
    return {"IMAGESMITH_BUILDPACKS_BUILDER": cnb.builder, "IMAGESMITH_BASE_IMAGE": ""}


@pytest.fixture(scope="session")
def make(make: Build, variables: dict[str, str], engine: Engine) -> Iterator[Build]:
    """Build by this builder, always anew. The volumes that come into being meanwhile go at the end."""
    filters = ("--quiet", "--filter", "name=imagesmith-buildpacks")
    volumes: set[str] = set()

    def run(spec: ImageSpec, **options: Any) -> BuildResult:
        before = set(engine("volume", "ls", *filters).split())
        try:
            changed = {**variables, **options.pop("variables", {})}
            return make(spec, builder="buildpacks", variables=changed, **{"force": True, **options})
        finally:
            volumes.update(set(engine("volume", "ls", *filters).split()) - before)

    yield run
    for name in volumes:
        engine("volume", "rm", name, check=False)


@pytest.fixture(scope="session")
def registry(rig: Rig) -> str:
    return f"{rig.registry}/cnb-{RUN}"


def spec_of(name: str, registry: str | None, **changes: Any) -> ImageSpec:
    return ImageSpec(
        **{
            "name": name,
            "registry": registry,
            "python_version": "3.11",
            "packages": PACKAGES,
            "env": {"ASKED": "it's $HOME"},
            **changes,
        }
    )


@dataclass(frozen=True)
class Twice:
    spec: ImageSpec
    cold: BuildResult
    warm: BuildResult
    cold_told: Told
    warm_told: Told


@pytest.fixture(scope="module")
def twice(make: Build, registry: str) -> Twice:
    spec = spec_of("twice", registry)
    cold_told, warm_told = Told(), Told()
    cold = make(spec, report=cold_told)
    return Twice(spec, cold, make(spec, report=warm_told), cold_told, warm_told)


def stored(reference: str, environment: dict[str, str], config: Path | None = None) -> StoredImage:
    repository, _, tag = reference.rpartition(":")
    with open_repository(repository, environment, config) as store:
        image = store.read(tag, "linux/amd64")
    assert image is not None
    return image


def labels(image: StoredImage) -> dict[str, Any]:
    config: Any = image.config["config"]
    return dict(config["Labels"])


def layers(image: StoredImage) -> list[str]:
    assert image.manifest is not None
    entries: Any = image.manifest["layers"]
    return [entry["digest"] for entry in entries]


def test_a_rebuild_reuses_every_layer(twice: Twice, record_property: Callable[[str, object], None]) -> None:
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


def test_nothing_is_left_in_the_engine(twice: Twice, engine: Engine) -> None:
    names = engine("ps", "--all", "--format", "{{.Image}} {{.Command}}", "--no-trunc")
    assert "/cnb/lifecycle/" not in names
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
    assert "imagesmith-rig/python" in [each["key"] for each in metadata["buildpacks"]]
    assert metadata["runImage"]["topLayer"] in image.config["rootfs"]["diff_ids"]  # type: ignore[index]
    assert "io.buildpacks.build.metadata" in found
    config: Any = image.config["config"]
    assert "launcher" not in str(config.get("Entrypoint"))


def test_source_files_cost_no_packages(
    make: Build, registry: str, environment: dict[str, str], engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("import six; print('one')\n")
    spec = spec_of("sourced", registry, source_root=tmp_path, entrypoint=["python", "app.py"])
    before = make(spec)
    (tmp_path / "app.py").write_text("import six; print('two')\n")
    told = Told()
    after = make(spec, report=told)
    assert "packages as they were" in told.lines
    one, two = (layers(stored(each.reference, environment)) for each in (before, after))
    assert len(set(two) - set(one)) == 1
    assert engine.run(after.reference) == "two\n"


def test_two_builds_of_one_spec_are_one_digest(
    make: Build, registry: str, environment: dict[str, str], twice: Twice
) -> None:
    """Elsewhere, so from nothing: no cache, no earlier image."""
    told = Told()
    other = make(twice.spec.replace(registry=f"{registry}/elsewhere"), report=told)
    assert "packages into a new environment" in told.lines
    assert layers(stored(other.reference, environment)) == layers(stored(twice.cold.reference, environment))
    assert other.digest == twice.cold.digest


def test_layers_are_kept_under_a_reference(make: Build, registry: str) -> None:
    """Both images are new in their repositories: only the cache image can know the packages."""
    options = {"cache_image": f"{registry}/cache:latest"}
    first, second = Told(), Told()
    make(spec_of("cached-one", registry, builder_options=options), report=first)
    make(spec_of("cached-two", registry, builder_options=options), report=second)
    assert "packages into a new environment" in first.lines
    assert "packages as they were" in second.lines


@pytest.fixture(params=["containerd", "classic"])
def own_engine(request: pytest.FixtureRequest, rig: Rig) -> Engine:
    host = rig.docker_host if request.param == "containerd" else rig.docker_host_classic
    if host is None:
        pytest.skip("no second engine here: the machine's own is used")
    return Engine(host)


def test_without_a_registry_it_stays_in_the_engine(make: Build, own_engine: Engine) -> None:
    spec = spec_of(f"local-{RUN}", None, entrypoint=["python", "-c", SAYS])
    made = make(spec, variables={"DOCKER_HOST": own_engine.host})
    try:
        assert own_engine.run(made.reference) == f"1.16.0 {spec.id} it's $HOME\n"
        told = Told()
        again = make(spec, variables={"DOCKER_HOST": own_engine.host}, report=told)
        assert "packages as they were" in told.lines
        assert again.digest == made.digest
    finally:
        own_engine("rmi", "--force", made.reference, check=False)


def test_registry_with_a_login(make: Build, rig: Rig, ours: Cnb, engine: Engine, tmp_path: Path) -> None:
    tls = rig.registry_tls
    login = tmp_path / "registries.json"
    auths = {tls.address: {"username": tls.username, "password": tls.password}}
    login.write_text(json.dumps({"auths": auths, "registries": [{"name": tls.address, "ca": tls.ca}]}))
    spec = spec_of("private", f"{tls.address}/cnb-{RUN}", registry_config=login)
    told = Told()
    made = make(spec, report=told)
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
    make: Build,
    ours: Cnb,
    registry: str,
    environment: dict[str, str],
    changes: dict[str, Any],
    code: int,
    phase: str,
    said: str,
) -> None:
    spec = spec_of("failing", registry, **changes)
    with pytest.raises(BuildFailed) as caught:
        make(spec)
    error = caught.value
    assert error.returncode == code
    assert phase in str(error.step).lower()
    assert error.hint
    assert said in "\n".join(error.tail)
    _, _, tag = spec.image_name().rpartition(":")
    with open_repository(f"{registry}/failing", environment) as store:
        assert not store.exists(tag)


def test_a_failed_export_is_a_typed_error(make: Build, ours: Cnb, registry: str, tmp_path: Path) -> None:
    """A buildpack of the spec's own divides the application into slices by a pattern that is none."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "buildpack.toml").write_text(
        'api = "0.10"\n[buildpack]\nid = "own/slices"\nversion = "1"\n[[targets]]\nos = "linux"\n'
    )
    (tmp_path / "bin" / "detect").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "build").write_text(
        "#!/bin/sh\necho the own buildpack was here\n"
        'printf \'[[slices]]\\npaths = ["["]\\n\' > "$1/launch.toml"\n'
    )
    for script in ("detect", "build"):
        (tmp_path / "bin" / script).chmod(0o755)
    told = Told()
    with pytest.raises(BuildFailed) as caught:
        make(spec_of("sliced", registry, builder_options={"buildpacks": [str(tmp_path)]}), report=told)
    assert "the own buildpack was here" in told.lines
    assert caught.value.returncode == 62
    assert "export" in str(caught.value.step).lower()


def test_a_missing_run_image_is_noticed_before_any_work(
    make: Build, ours: Cnb, rig: Rig, registry: str
) -> None:
    missing = f"{rig.registry}/library/cnb-run:never"
    told = Told()
    with pytest.raises(BaseImageError, match="cnb-run:never"):
        make(spec_of("groundless", registry, builder_options={"run_image": missing}), report=told)
    assert not told.steps
    assert "building" not in [event.name for event in told.events if isinstance(event, Phase)]


def test_a_run_image_of_another_distribution_is_refused(make: Build, ours: Cnb, registry: str) -> None:
    told = Told()
    with pytest.raises(FeatureUnsupported, match=r"(?s)base_image.*debian 13.*debian 12") as caught:
        make(
            spec_of("mixed", registry, base_image=ours.run_other, python_version=None),
            report=told,
        )
    assert list(caught.value.fields) == ["base_image"]
    assert not told.steps


@pytest.mark.parametrize(
    ("which", "reason"),
    [("builder_old", "platform API"), ("builder_extended", "extensions"), ("run", "no CNB builder")],
)
def test_builders_that_cannot_be_driven_are_named(
    make: Build, ours: Cnb, registry: str, which: str, reason: str
) -> None:
    image = getattr(ours, which)
    with pytest.raises(BuilderNotReady, match=reason) as caught:
        make(spec_of("undriven", registry, builder_options={"builder": image, "trust": True}))
    assert image in str(caught.value)


def test_a_stranger_is_not_shown_the_login(make: Build, ours: Cnb, registry: str) -> None:
    """A builder image that only the spec names."""
    with pytest.raises(BuilderNotReady, match="IMAGESMITH_BUILDPACKS_TRUST"):
        make(spec_of("strange", registry, builder_options={"builder": ours.builder}))
    assert make(spec_of("strange", registry, builder_options={"builder": ours.builder, "trust": True})).digest


def test_pack_makes_the_same_layers(
    twice: Twice,
    ours: Cnb,
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
            *("build", name, "--path", app, "--builder", ours.builder, "--trust-builder", "--publish"),
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


def pack(rig: Rig, folder: Path, *arguments: str | Path) -> str:
    """Run it; ``folder`` holds all that it keeps."""
    assert rig.cnb is not None
    assert rig.cnb.pack is not None
    env = {
        **os.environ,
        "DOCKER_HOST": rig.docker_host,
        "PACK_HOME": str(folder / "pack"),
        "DOCKER_CONFIG": str(folder / "docker"),
    }
    argv = [rig.cnb.pack, *map(str, arguments)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
