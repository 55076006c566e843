"""What is asked of the docker client, options, and the configuration it gets."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from plugins.docker.tests.cases import request

from imagesmith import BuilderNotReady, Environment, ImageSpec, RegistryFacts, ToolMissing
from imagesmith.stores.credentials import Login
from imagesmith.testing import RecordingRunner
from imagesmith_docker import client
from imagesmith_docker.builder import DockerBuilder
from imagesmith_docker.options import Options, parse

INSPECT = """Name:          farm
Driver:        remote
Last Activity: 2026-01-01 00:00:00 +0000 UTC

Nodes:
Name:             farm0
Endpoint:         tcp://127.0.0.1:1
Status:           running
Platforms:        linux/amd64*, linux/amd64/v2, linux/arm64
Labels:
 org.mobyproject.buildkit.worker.network: host
"""


def test_a_builder_is_read() -> None:
    runner = RecordingRunner(lines=INSPECT.splitlines())
    facts = client.inspect(runner, {}, Path("/"), "farm")
    assert runner.calls[0].argv == ("docker", "buildx", "inspect", "farm")
    assert (facts.name, facts.driver, facts.in_engine) == ("farm", "remote", False)
    assert facts.can_run("linux/amd64")
    assert facts.can_run("linux/arm64/v8")
    assert not facts.can_run("linux/s390x")


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        (1, ['ERROR: no builder "farm" found']),
        (0, ["Name: farm", "Driver: remote", "Error: context deadline exceeded"]),
    ],
)
def test_a_builder_that_does_not_answer(code: int, lines: list[str]) -> None:
    with pytest.raises(
        BuilderNotReady, match=r"the buildx builder farm does not answer: (no builder|context)"
    ):
        client.inspect(RecordingRunner(returncode=code, lines=lines), {}, Path("/"), "farm")


@pytest.mark.parametrize(
    ("runner", "problem"),
    [
        (RecordingRunner(raises=ToolMissing("x", tool="docker")), "there is no docker client"),
        (
            RecordingRunner(returncode=1, lines=["docker: 'buildx' is not a docker command."]),
            "no buildx plugin",
        ),
        (RecordingRunner(lines=["github.com/docker/buildx v0.12.1 30feaa1"]), r"buildx v0.12.1 is too old"),
    ],
)
def test_what_is_missing_is_said(runner: RecordingRunner, problem: str, tmp_path: Path) -> None:
    ready = DockerBuilder(Environment(runner, {}, tmp_path)).ready()
    assert not ready.ok
    assert problem in (ready.problem or "")
    assert "docker-buildx" in (ready.hint or "")


def test_what_a_dockerfile_cannot_say_is_refused(tmp_path: Path) -> None:
    builder = DockerBuilder(Environment(RecordingRunner(), {}, tmp_path))
    assert builder.refusals(request(ImageSpec())) == {}
    triggers = {"config": {"OnBuild": ["COPY . /app"]}}
    assert "ONBUILD" in builder.refusals(request(ImageSpec(), config=triggers))["base_image"]
    mounts = [("a", "/root/.netrc"), ("b", "/a,b"), ("c", "/a b"), ("d", "/$HOME")]
    refused = builder.refusals(request(ImageSpec(pip_secret_mounts=mounts)))
    assert set(refused) == {f"pip_secret_mounts[{number}]" for number in (1, 2, 3)}


def test_the_users_configuration_is_kept_and_logins_are_added(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "cli-plugins").mkdir(parents=True)
    text = {"credsStore": "desktop", "auths": {"other": {"auth": "eA=="}}, "proxies": {"default": {}}}
    (own / "config.json").write_text(json.dumps(text))
    facts = [
        RegistryFacts("r:5000", insecure=False, login=Login("me", "secret")),
        RegistryFacts("docker.io", insecure=False, login=Login(token="t")),
        RegistryFacts("open", insecure=False),
    ]
    variables = client.private_config(tmp_path / "new", {"DOCKER_CONFIG": str(own)}, facts)
    assert variables == {"DOCKER_CONFIG": str(tmp_path / "new"), "BUILDX_CONFIG": str(own / "buildx")}
    file = tmp_path / "new" / "config.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = json.loads(file.read_text())
    assert written["credsStore"] == "desktop"
    assert written["proxies"] == {"default": {}}
    assert written["auths"] == {
        "other": {"auth": "eA=="},
        "r:5000": {"auth": base64.b64encode(b"me:secret").decode()},
        "https://index.docker.io/v1/": {"identitytoken": "t"},
    }
    assert written["credHelpers"] == {"r:5000": "", "https://index.docker.io/v1/": ""}
    assert (tmp_path / "new" / "cli-plugins").is_dir()
    assert json.loads((own / "config.json").read_text()) == text


def test_options_of_the_spec_win_over_the_machines() -> None:
    options, problems = parse(
        {"cache_from": "type=registry,ref=r/x", "ulimit": ["nofile=1:2"], "no_cache": True},
        {"cache_from": "r/y", "network": "host", "no_cache": "false"},
    )
    assert problems == {}
    assert options == Options(
        network="host", cache_from=("type=registry,ref=r/x",), ulimit=("nofile=1:2",), no_cache=True
    )
    assert options.arguments() == [
        "--network", "host", "--cache-from", "type=registry,ref=r/x", "--ulimit", "nofile=1:2",
        "--provenance=false", "--sbom=false", "--no-cache",
    ]  # fmt: skip


def test_a_cache_in_a_folder_is_named_by_its_whole_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    options, _ = parse({}, {"cache_to": "type=local,dest=a b,mode=max", "cache_from": "type=local,src=/c"})
    assert options.arguments()[:4] == [
        "--cache-from", "type=local,src=/c", "--cache-to", f"type=local,dest={tmp_path}/a b,mode=max"
    ]  # fmt: skip
    assert options.exports_cache
    assert not parse({"cache_to": "type=inline"}, {})[0].exports_cache


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"provenance": True}, ["--provenance=mode=min", "--sbom=false"]),
        ({"provenance": "max", "sbom": "true"}, ["--provenance=mode=max", "--sbom=true"]),
        ({"sbom": "r:5000/scanner"}, ["--provenance=false", "--sbom=generator=r:5000/scanner"]),
        ({"sbom": "generator=scanner"}, ["--provenance=false", "--sbom=generator=scanner"]),
        (
            {"source_date_epoch": "7"},
            ["--provenance=false", "--sbom=false", "--build-arg", "SOURCE_DATE_EPOCH=7"],
        ),
    ],
)
def test_attestations_and_times_in_words(given: dict[str, object], words: list[str]) -> None:
    options, problems = parse(given, {})
    assert (problems, options.arguments()) == ({}, words)


def test_contexts_are_images_in_a_spec_and_folders_too_on_a_machine() -> None:
    options, problems = parse({"build_contexts": {"wheels": "r:5000/wheels:1", "b": "docker-image://x"}}, {})
    assert problems == {}
    told = [(each.name, each.source, each.is_image) for each in options.build_contexts]
    assert told == [("b", "docker-image://x", True), ("wheels", "docker-image://r:5000/wheels:1", True)]
    options, problems = parse({"build_contexts": {"b": "x"}}, {"build_contexts": {"b": "/y", "c": "/z"}})
    assert [(each.name, each.source) for each in options.build_contexts] == [
        ("b", "docker-image://x"),
        ("c", "/z"),
    ]
    options, problems = parse({}, {"build_contexts": "wheels=./wheels, b=/x"})
    assert problems == {}
    assert [(each.name, each.source) for each in options.build_contexts] == [
        ("b", "/x"),
        ("wheels", "./wheels"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("bilder", "x", "did you mean 'builder'"),
        ("cache-from", "x", "did you mean 'cache_from'"),
        ("zzz", "x", "known: builder, network"),
        ("compression", "xz", "none of zstd"),
        ("builder", "--push", "expected text"),
        ("builder", 3, "expected text"),
        ("cache_to", {"a": "b"}, "expected text or a list"),
        ("no_cache", "perhaps", "expected true or false"),
        ("provenance", "much", "'min' or 'max'"),
        ("sbom", "--x", "expected text"),
        ("sbom", "A B", "no image"),
        ("source_date_epoch", -1, "whole seconds"),
        ("source_date_epoch", "now", "whole seconds"),
        ("source_date_epoch", True, "whole seconds"),
        ("build_contexts", {"imagesmith-conda": "x"}, "is taken"),
        ("build_contexts", {"scratch": "x"}, "is taken"),
        ("build_contexts", {"A": "x"}, "is no name"),
        ("build_contexts", {"a": "https://x/y"}, "no image"),
        ("build_contexts", {"a": "./wheels"}, "in no tag"),
        ("build_contexts", "a", "expected text"),
    ],
)
def test_wrong_options_are_refused(name: str, value: object, reason: str) -> None:
    _, problems = parse({name: value}, {})
    assert reason in problems[f"builder_options[{name!r}]"]
