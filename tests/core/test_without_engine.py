"""Where no engine answers, builders that need none are named, and never chosen in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagesmith import (
    BuilderEntry,
    BuilderNotReady,
    BuildPlan,
    BuildRequest,
    Built,
    EngineError,
    ExistenceUnknown,
    Feature,
    ImagesmithError,
    ImageSpec,
    Readiness,
    Reporter,
    Support,
    build,
)
from imagesmith.plugins import Plugins
from imagesmith.settings import load_settings
from tests.core.fake_registry import FakeRegistry, running

NOT_READY = Readiness(False, problem="no engine", hint="start it")
FULL = dict.fromkeys(Feature, Support.FULL)
NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
WAY = "; or build without an engine: imagesmith build … --builder free"


@dataclass
class Some:
    """Not ready, or fails when it builds."""

    name: str
    features: Mapping[Feature, Support] = field(default_factory=lambda: FULL)
    readiness: Readiness = NOT_READY
    version: str = "1"

    def ready(self) -> Readiness:
        return self.readiness

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        return {}

    def plan(self, request: BuildRequest) -> BuildPlan:
        return BuildPlan(self.name, request, {}, ())

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        raise BuilderNotReady("the engine went away", builder=self.name, hint="start it again")


def entry(builder: Some, needs_engine: bool) -> BuilderEntry:
    return BuilderEntry(builder.name, "", lambda environment: builder, needs_engine=needs_engine)


def refused(folder: Path, spec: ImageSpec, *entries: BuilderEntry, **env: str) -> ImagesmithError:
    given = {"HOME": str(folder), "IMAGESMITH_CACHE_DIR": str(folder / "cache"), **NO_ENGINE, **env}
    settings = load_settings(folder, given)
    with pytest.raises(ImagesmithError) as caught:
        build(spec, settings=settings, plugins=Plugins(discover=False, entries=entries))
    return caught.value


BOUND, FREE = Some("bound"), Some("free")


def pushed(registry: FakeRegistry) -> ImageSpec:
    registry.add_image("base", "1", env="PYTHON_VERSION=3.12.1")
    return ImageSpec(
        "app", registry=f"{registry.host}/me", base_image=f"{registry.host}/base:1", builder="bound"
    )


def test_of_a_builder_that_is_not_ready(tmp_path: Path) -> None:
    with running() as registry:
        error = refused(tmp_path, pushed(registry), entry(BOUND, True), entry(FREE, False))
    assert isinstance(error, BuilderNotReady)
    assert error.hint == f"start it{WAY}"
    assert error.builder == "bound", "no other is taken instead"


def test_of_an_engine_that_goes_away(tmp_path: Path) -> None:
    bound = Some("bound", readiness=Readiness(True))
    with running() as registry:
        error = refused(tmp_path, pushed(registry), entry(bound, True), entry(FREE, False))
    assert error.message == "the engine went away"
    assert error.hint == f"start it again{WAY}"


@pytest.mark.parametrize("chosen", ["bound", "free"])
def test_of_an_image_for_the_local_engine(tmp_path: Path, chosen: str) -> None:
    error = refused(tmp_path, ImageSpec("app", builder=chosen), entry(BOUND, True), entry(FREE, False))
    assert isinstance(error, ExistenceUnknown)
    assert str(error.hint).endswith(f"{WAY} --output image.tar")


def test_only_those_are_named_that_can(tmp_path: Path) -> None:
    def crash(environment: object) -> Some:
        raise RuntimeError

    lesser = Some("lesser", {**FULL, Feature.APT_PACKAGES: Support.IMPOSSIBLE})
    entries = [
        entry(BOUND, True),
        entry(lesser, False),
        BuilderEntry("crashing", "", crash, needs_engine=False),
        BuilderEntry("broken", "", crash, api=99, needs_engine=False),
    ]
    spec = ImageSpec("app", builder="bound", apt_packages=["git"])
    assert str(refused(tmp_path, spec, *entries).hint).endswith("needs no engine (the guide lists them)")
    error = refused(tmp_path, spec, *entries, entry(FREE, False))
    assert str(error.hint).endswith(f"{WAY} --output image.tar")
    error = refused(tmp_path, spec.replace(apt_packages=()), *entries)
    assert str(error.hint).endswith(" --builder lesser --output image.tar")


def test_nothing_is_added_where_the_engine_is_not_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as registry:
        spec = pushed(registry)
        free = entry(Some("bound"), False)
        assert refused(tmp_path, spec, free).hint == "start it", (
            "it needs no engine: something else is missing"
        )
        answers: Callable[..., object] = lambda env: type("Probe", (), {"problem": None})()  # noqa: E731
        monkeypatch.setattr("imagesmith.engine.probe", answers)
        assert refused(tmp_path, spec, entry(BOUND, True), entry(FREE, False)).hint == "start it"


def test_an_engine_error_is_one_too(tmp_path: Path) -> None:
    lower = ImageSpec("lower", builder="bound")
    with running() as registry:
        spec = pushed(registry).replace(base_image=lower)
        bound = Some("bound", readiness=Readiness(True))
        error = refused(tmp_path, spec, entry(bound, True), entry(FREE, False))
    assert isinstance(error, (EngineError, ExistenceUnknown))
    assert str(error.hint).count("--builder free") == 1
