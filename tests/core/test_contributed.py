"""What a builder finds out while it builds: its base where the spec leaves one to it, labels, variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from imagesmith import BuilderEntry, BuildPlan, Built, Contribution, ImageSpec, Reporter, build, render
from imagesmith.plugins import Plugins
from imagesmith.settings import Settings, load_settings
from imagesmith.stores.registry import open_repository
from tests.core.fake_registry import FakeRegistry, running
from tests.core.test_pipeline import Pushing


@dataclass
class Finding(Pushing):
    """Knows only after the build what its files need; stands on a base of its own choice."""

    asked: list[tuple[str | None, bool]] = field(default_factory=list)
    base: str | None = None

    def default_base(self, spec: ImageSpec, configured: str | None, *, ask: bool) -> str | None:
        self.asked.append((configured, ask))
        return self.base

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        found = Contribution(("/layers/bin",), {"FOUND": "1"}, {"tool.metadata": "{}", "mine": "tool's"})
        return replace(super().build(plan, report), contributed=found)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with running() as found:
        yield found


def made(registry: FakeRegistry, folder: Path, builder: Finding, **env: str) -> tuple[Settings, Plugins]:
    settings = load_settings(folder, {"IMAGESMITH_CACHE_DIR": str(folder / "cache"), **env})
    entry = BuilderEntry("pushing", "a test's", lambda _: builder)
    return settings, Plugins(discover=False, entries=[entry])


def config_of(reference: str) -> dict[str, object]:
    repository, _, tag = reference.rpartition(":")
    with open_repository(repository, {}, None) as store:
        image = store.read(tag)
    assert image is not None
    config = image.config["config"]
    assert isinstance(config, dict)
    return config


def test_what_was_found_is_remembered_with_the_files(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.add_image("base", "latest", env="A=1")
    builder = Finding({})
    settings, plugins = made(registry, tmp_path, builder)
    spec = ImageSpec(
        name="app",
        registry=f"{registry.host}/me",
        base_image=f"{registry.host}/base:latest",
        labels={"mine": "the spec's"},
    )
    for each in (spec, spec.with_env({"B": "2"})):
        config = config_of(
            build(each, builder="pushing", settings=settings, plugins=plugins, report=print).reference
        )
        labels, env = config["Labels"], config["Env"]
        assert isinstance(labels, dict)
        assert isinstance(env, list)
        assert labels["tool.metadata"] == "{}"
        assert labels["mine"] == "the spec's"
        assert "FOUND=1" in env
        assert any(pair.startswith("PATH=/layers/bin:") for pair in env)
    assert len(builder.built) == 1


def test_a_builder_says_what_an_unset_base_stands_for(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.add_image("own", "latest", env="A=own")
    registry.add_image("base", "latest", env="A=base")
    builder = Finding({}, base=f"{registry.host}/own:latest")
    settings, plugins = made(
        registry, tmp_path, builder, IMAGESMITH_BASE_IMAGE=f"{registry.host}/machine:{{python_version}}"
    )
    spec = ImageSpec(name="app", registry=f"{registry.host}/me", python_version="3.12")
    result = build(spec, builder="pushing", settings=settings, plugins=plugins)
    env = config_of(result.reference)["Env"]
    assert isinstance(env, list)
    assert "A=own" in env
    assert builder.asked == [(f"{registry.host}/machine:3.12", True)]
    told = spec.replace(base_image=f"{registry.host}/base:latest")
    env = config_of(build(told, builder="pushing", settings=settings, plugins=plugins).reference)["Env"]
    assert isinstance(env, list)
    assert "A=base" in env
    assert len(builder.asked) == 1, "a base that the spec names is not the builder's to choose"


def test_for_showing_nothing_is_asked(registry: FakeRegistry, tmp_path: Path) -> None:
    builder = Finding({})
    settings, plugins = made(registry, tmp_path, builder)
    (plan,) = render(ImageSpec(name="app"), builder="pushing", settings=settings, plugins=plugins)
    assert builder.asked == [(None, False)]
    assert plan.request.base.reference.startswith("docker.io/library/python:")
