"""What is this builder's alone: what it starts, in which order, and what it takes away again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from imagesmith_buildah import imagesmith_builder
from imagesmith_buildah.builder import BuildahBuilder

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    BuildPlan,
    Environment,
    FeatureUnsupported,
    ImageSpec,
    SubprocessRunner,
    render,
    silent,
)
from imagesmith.plugins import Plugins
from imagesmith.testing import RecordingRunner

PLUGINS = Plugins(discover=False, entries=[imagesmith_builder()])


def plan(spec: ImageSpec, folder: Path | None = None) -> BuildPlan:
    """As ``render`` shows it, or one that can be built."""
    (made,) = render(spec, builder="buildah", plugins=PLUGINS)
    if folder is None:
        return made
    staged = dataclasses.replace(made.request.staged, folder=folder)
    return dataclasses.replace(made, request=dataclasses.replace(made.request, staged=staged))


def spec(**fields: object) -> ImageSpec:
    return ImageSpec(registry="registry.example/team", name="app", **fields)  # type: ignore[arg-type]


def builder(runner: RecordingRunner, folder: Path) -> BuildahBuilder:
    return BuildahBuilder(Environment(runner=runner, env={"PATH": "/bin", "SECRET": "x"}, cache_dir=folder))


def test_the_plan_runs_the_steps_between_a_base_and_a_push() -> None:
    argv = [" ".join(command.argv) for command in plan(spec(packages=["six"], commands=["true"])).commands]
    assert argv[0].startswith("buildah from --platform linux/amd64 ")
    assert [line.rpartition("/")[2] for line in argv[1:-1]] == [
        "python.sh", "packages.sh", "files.sh", "command-000.sh"]  # fmt: skip
    assert argv[-1] == "buildah push … docker://registry.example/team/app:imagesmith-staging"


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(FeatureUnsupported, match="local engine"):
        plan(ImageSpec(packages=["six"]))
    lower = ImageSpec(name="lower")
    with pytest.raises(FeatureUnsupported, match="give it a registry"):
        plan(spec(base_image=lower))


def test_without_buildah_it_says_what_to_install(tmp_path: Path) -> None:
    environment = Environment(runner=SubprocessRunner(), env={"PATH": str(tmp_path)}, cache_dir=tmp_path)
    found = BuildahBuilder(environment).ready()
    assert not found.ok
    assert "apt-get install buildah" in (found.hint or "")


def test_a_build_that_fails_removes_its_container(tmp_path: Path) -> None:
    runner = RecordingRunner(returncode=1, lines=["a reason", "subprocess exited with status 1"])
    with pytest.raises(BuildFailed, match="start from") as caught:
        builder(runner, tmp_path).build(plan(spec(), tmp_path), silent)
    assert caught.value.tail == ("a reason",)
    assert [call.argv[1] for call in runner.calls] == ["inspect", "from", "rm"]
    assert runner.calls[1].argv[3] == runner.calls[2].argv[2]
    assert all("SECRET" not in call.env for call in runner.calls)


def test_an_environment_that_is_kept_is_not_made_again(tmp_path: Path) -> None:
    runner = RecordingRunner()
    with pytest.raises(BuilderNotReady, match="no digest"):  # the recording one pushes nothing
        builder(runner, tmp_path).build(plan(spec(packages=["six"]), tmp_path), silent)
    words = [call.argv[1] for call in runner.calls]
    assert words == ["inspect", "from", "run", "run", "commit", "rm", "push", "rmi"]
    assert runner.calls[0].argv[-1] == runner.calls[1].argv[-1]
