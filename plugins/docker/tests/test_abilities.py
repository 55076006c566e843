"""What an engine can do is told by a trial build, and said before any work."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plugins.docker.tests.cases import request

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    Environment,
    FeatureUnsupported,
    ImageSpec,
    LayoutFolder,
    RegistryRepository,
)
from imagesmith.runner import Completed
from imagesmith_docker.abilities import Abilities, abilities
from imagesmith_docker.builder import DockerBuilder
from imagesmith_docker.client import BuilderFacts

OLD = "failed to solve: rpc error: unsupported frontend capability moby.buildkit.frontend.contexts"
CLASSIC = "Attestation is not supported for the docker driver."
AWAY = 'listing workers for Build: failed to list workers: Unavailable: connection error: desc = "transport: \
Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"'
LOST = 'failed to solve: failed to prepare extraction snapshot "extract-1": parent snapshot does not exist'
FACTS = BuilderFacts("farm", "remote", told="Name: farm")
INSPECT = ["Name: farm", "Driver: remote"]


class Engine:
    """A docker client before an engine. ``whole`` and ``plain``: what a trial build ends in; None: well."""

    def __init__(
        self, whole: str | None = None, plain: str | None = None, time: int = 1, losses: int = 0
    ) -> None:
        self.whole, self.plain, self.time, self.losses = whole, plain, time, losses
        self.calls: list[tuple[str, ...]] = []

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        on_line: Any,
        redact: Collection[str] = (),
        timeout: float | None = None,
        line_limit: int = 0,
    ) -> Completed:
        self.calls.append(tuple(argv))
        if argv[2] == "version":
            return Completed(0, ("github.com/docker/buildx v0.13.1",), 0.0)
        if argv[2] == "inspect":
            return Completed(0, (*INSPECT, "Platforms: linux/amd64*"), 0.0)
        if self.losses:
            self.losses -= 1
            on_line(f"ERROR: {LOST}", "stderr")
            return Completed(1, (f"ERROR: {LOST}",), 0.0)
        output = argv[argv.index("--output") + 1]
        error = self.plain if output == "type=cacheonly" else self.whole
        if error:
            return Completed(1, ("#1 ERROR", f"ERROR: {error}", "see the manual"), 0.0)
        if "--metadata-file" in argv:
            told = {"containerimage.digest": f"sha256:{'0' * 64}"}
            Path(argv[argv.index("--metadata-file") + 1]).write_text(json.dumps(told))
        elif output != "type=cacheonly":
            self.write(Path(output.partition("dest=")[2].partition(",")[0]))
        return Completed(0, (), 0.0)

    def write(self, layout: Path) -> None:
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        (blobs / "a").write_text(json.dumps({"a manifest": 1}))
        with tarfile.open(blobs / "b", "w") as layer:
            member = tarfile.TarInfo("x/file")
            member.mtime = self.time
            layer.addfile(member, io.BytesIO())


@pytest.mark.parametrize(
    ("engine", "found"),
    [
        (Engine(), Abilities()),
        (Engine(time=1700000000), Abilities(dates=False)),
        (Engine(whole=CLASSIC), Abilities(exports=False, dates=False)),
        (Engine(whole=OLD, plain=OLD), Abilities(OLD, exports=False, dates=False)),
    ],
)
def test_what_a_trial_tells(engine: Engine, found: Abilities, tmp_path: Path) -> None:
    assert abilities(engine, {}, tmp_path, FACTS) == found


def test_an_engine_that_does_not_answer_is_asked_once(tmp_path: Path) -> None:
    engine = Engine(whole=AWAY)
    assert abilities(engine, {}, tmp_path, FACTS).problem == AWAY
    assert len(engine.calls) == 1


def test_an_answer_is_kept_for_a_day_and_for_this_engine(tmp_path: Path) -> None:
    engine = Engine(whole=CLASSIC)

    def ask(now: float, facts: BuilderFacts = FACTS, **env: str) -> int:
        before = len(engine.calls)
        assert not abilities(engine, env, tmp_path, facts, now).exports
        return len(engine.calls) - before

    assert ask(1000.0) == 2
    assert ask(1001.0) == 0
    assert ask(1002.0, replace(FACTS, told="newer")) == 2
    assert ask(1003.0, DOCKER_HOST="tcp://other") == 2
    assert ask(1000.0 + 90000) == 2
    for file in tmp_path.glob("abilities-*"):
        file.write_text("{")
    assert ask(1004.0) == 2


def test_a_trial_that_failed_is_made_again(tmp_path: Path) -> None:
    assert abilities(Engine(whole=OLD, plain=OLD), {}, tmp_path, FACTS).problem == OLD
    assert abilities(Engine(), {}, tmp_path, FACTS) == Abilities()


def test_a_trial_under_which_a_layer_went_is_made_again_at_once(tmp_path: Path) -> None:
    assert abilities(Engine(losses=1), {}, tmp_path, FACTS) == Abilities()


@pytest.mark.parametrize("losses", [1, 9])
def test_a_build_under_which_a_layer_went_is_made_once_more(tmp_path: Path, losses: int) -> None:
    engine, events = Engine(), []
    docker = DockerBuilder(Environment(engine, {}, tmp_path / "cache"))
    assert docker.ready().ok
    before, engine.losses = len(engine.calls), losses
    failing = pytest.raises(BuildFailed, match="extraction snapshot")
    with failing if losses > 1 else contextlib.nullcontext():
        docker.build(docker.plan(staged_request(tmp_path, ImageSpec())), events.append)
    assert sum("rawjson" in call for call in engine.calls[before:]) == 2
    assert "once more" in repr(events)


def test_doctor_says_what_an_engine_lacks(tmp_path: Path) -> None:
    ready = DockerBuilder(Environment(Engine(whole=OLD, plain=OLD), {}, tmp_path)).ready()
    assert not ready.ok
    assert "the engine of the builder farm cannot build" in (ready.problem or "")
    assert "frontend.contexts" in (ready.problem or "")
    assert "Docker Engine 23" in (ready.hint or "")
    ready = DockerBuilder(Environment(Engine(whole=CLASSIC), {}, tmp_path)).ready()
    assert ready.ok
    assert "all but image layouts, attestations, exported caches, reproducible layers" in ready.details[-1]
    ready = DockerBuilder(Environment(Engine(), {}, tmp_path / "2")).ready()
    assert "can build all" in ready.details[-1]


def staged_request(tmp_path: Path, spec: ImageSpec, **more: Any) -> Any:
    folder = tmp_path / "staged"
    folder.mkdir()
    there = RegistryRepository("r.example/x")
    asked = replace(request(spec), destination=there, **more)
    return replace(asked, staged=replace(asked.staged, folder=folder))


def test_the_build_says_so_too(tmp_path: Path) -> None:
    engine = Engine(whole=OLD, plain=OLD)
    builder = DockerBuilder(Environment(engine, {}, tmp_path / "cache"))
    plan = builder.plan(staged_request(tmp_path, ImageSpec()))
    with pytest.raises(BuilderNotReady, match=r"cannot build: .*frontend\.contexts") as caught:
        builder.build(plan, lambda event: None)
    assert "Docker Engine 23" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("options", "more", "named"),
    [
        ({"provenance": True}, {}, "provenance"),
        ({"cache_to": "type=registry,ref=r/x"}, {}, "cache_to"),
        ({}, {"destination": LayoutFolder(Path("/x"))}, "an image layout"),
    ],
)
def test_what_the_classic_store_cannot_give_is_refused_before_any_work(
    tmp_path: Path, options: dict[str, object], more: dict[str, Any], named: str
) -> None:
    engine = Engine(whole=CLASSIC)
    builder = DockerBuilder(Environment(engine, {}, tmp_path / "cache"))
    asked = replace(staged_request(tmp_path, ImageSpec(builder_options=options)), **more)
    with pytest.raises(BuilderNotReady, match=named) as caught:
        builder.build(builder.plan(asked), lambda event: None)
    assert "containerd image store" in (caught.value.hint or "")
    assert not [call for call in engine.calls if "rawjson" in call]


def test_attestations_need_a_place_beside_the_image(tmp_path: Path) -> None:
    builder = DockerBuilder(Environment(Engine(), {}, tmp_path))
    spec = ImageSpec(builder_options={"provenance": True, "sbom": True})
    refused = builder.refusals(request(spec))
    assert set(refused) == {"builder_options['provenance']", "builder_options['sbom']"}
    assert "set registry=" in refused["builder_options['sbom']"]
    assert builder.refusals(replace(request(spec), destination=RegistryRepository("r/x"))) == {}


def test_a_login_of_a_proxy_is_not_attested(tmp_path: Path) -> None:
    """BuildKit notes proxy variables in provenance of mode=max."""
    env = {"HTTPS_PROXY": "http://me:hunter2@proxy:1"}
    builder = DockerBuilder(Environment(Engine(), env, tmp_path / "cache"))
    plan = builder.plan(staged_request(tmp_path, ImageSpec(builder_options={"provenance": "max"})))
    with pytest.raises(FeatureUnsupported, match="holds a login") as caught:
        builder.build(plan, lambda event: None)
    assert set(caught.value.fields) == {"builder_options['provenance']"}
    assert "hunter2" not in str(caught.value)


def test_a_wrong_date_of_the_machine_is_said(tmp_path: Path) -> None:
    from imagesmith import UsageError

    builder = DockerBuilder(Environment(Engine(), {"SOURCE_DATE_EPOCH": "now"}, tmp_path / "cache"))
    plan = builder.plan(staged_request(tmp_path, ImageSpec()))
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH: expected whole seconds"):
        builder.build(plan, lambda event: None)


def test_a_platform_that_the_builder_cannot_run_is_refused(tmp_path: Path) -> None:
    engine = Engine()
    builder = DockerBuilder(Environment(engine, {}, tmp_path / "cache"))
    plan = builder.plan(staged_request(tmp_path, ImageSpec(), platform="linux/arm64"))
    with pytest.raises(BuilderNotReady, match="cannot run linux/arm64, only linux/amd64") as caught:
        builder.build(plan, lambda event: None)
    assert "qemu-user-static" in (caught.value.hint or "")
    assert [call[2] for call in engine.calls] == ["inspect"], "before any work"


@pytest.mark.parametrize(
    ("problem", "told", "hint"),
    [
        ("context deadline exceeded", "farm does not answer: context", "start the engine"),
        ("write /x: no space left on device", "cannot build: write /x", "disk is full"),
        ("surprise", "cannot build: surprise", "docker buildx inspect"),
    ],
)
def test_other_reasons_are_not_called_too_old(problem: str, told: str, hint: str, tmp_path: Path) -> None:
    ready = DockerBuilder(Environment(Engine(whole=problem, plain=problem), {}, tmp_path)).ready()
    assert told in (ready.problem or "")
    assert hint in (ready.hint or "")
