"""Everything but the engine: what is planned, what is refused, how a failure reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pytest
from imagesmith_plain import imagesmith_builder
from imagesmith_plain.builder import PlainBuilder

from imagesmith import (
    BuildFailed,
    BuildPlan,
    Completed,
    Environment,
    Event,
    FeatureUnsupported,
    ImageSpec,
    Runner,
    StepDone,
    StepLog,
    StepStarted,
    SubprocessRunner,
    render,
    silent,
)
from imagesmith.plugins import Plugins

PLUGINS = Plugins(discover=False, entries=[imagesmith_builder()])


def plan(spec: ImageSpec) -> BuildPlan:
    (made,) = render(spec, builder="plain", plugins=PLUGINS)
    return made


def environment(runner: Runner, tmp_path: Path, **env: str) -> Environment:
    return Environment(runner=runner, env=env, cache_dir=tmp_path)


def test_the_plan_is_a_dockerfile_and_one_command(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('hi')\n")
    spec = ImageSpec(packages=["six>=1.16"], source_root=tmp_path, workdir="/my $app", python_version="3.11")
    made = plan(spec)
    assert made == plan(spec)
    lines = made.files["Dockerfile"].splitlines()
    assert lines[0].startswith("FROM ")
    assert "pip install --no-cache-dir -r imagesmith.txt" in lines[2]
    assert "'/my $app/'" in lines[3]
    assert made.commands[0].argv[:3] == ("docker", "buildx", "build")
    assert made.steps == ("install packages", "copy files to /my $app")


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(FeatureUnsupported) as caught:
        plan(ImageSpec(apt_packages=["git"], conda_packages=["numpy"]))
    assert set(caught.value.fields) == {"apt_packages", "conda_packages"}
    with pytest.raises(FeatureUnsupported, match="password"):
        plan(ImageSpec(packages=["six"], pip_index="https://me:secret@pypi.example/simple"))


def test_without_docker_it_says_so(tmp_path: Path) -> None:
    found = PlainBuilder(environment(SubprocessRunner(), tmp_path, PATH=str(tmp_path))).ready()
    assert not found.ok
    assert found.problem == "there is no docker client"


class FakeDocker:
    """Prints lines instead of building."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_line: Callable[..., None],
        redact: Collection[str] = (),
        timeout: float | None = None,
    ) -> Completed:
        for line in self.lines:
            on_line(line, "stderr")
        return Completed(1, self.lines, 0.1)


def test_a_failing_step_is_reported_and_named(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.touch(0o755)
    lines = ["#5 [2/4] RUN pip", "#5 0.412 no such package", '#5 ERROR: process "pip" exit code: 1', "----"]
    builder = PlainBuilder(
        environment(FakeDocker(*lines), tmp_path, PATH=str(tmp_path), DOCKER_HOST="tcp://127.0.0.1:1")
    )
    shown = plan(ImageSpec(packages=["nope"]))
    staged = dataclasses.replace(shown.request.staged, folder=tmp_path)
    ready = dataclasses.replace(shown, request=dataclasses.replace(shown.request, staged=staged))
    events: list[Event] = []
    with pytest.raises(BuildFailed) as caught:
        builder.build(ready, events.append)
    assert events == [
        StepStarted("5", "[2/4] RUN pip"),
        StepLog("5", "no such package"),
        StepDone("5", error='process "pip" exit code: 1'),
    ]
    assert caught.value.step == "[2/4] RUN pip"
    assert caught.value.tail == ("no such package",)
    with pytest.raises(BuildFailed):
        builder.build(ready, silent)
