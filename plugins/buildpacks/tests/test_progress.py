"""What a lifecycle prints, and what its exit codes mean."""

from __future__ import annotations

import json

import pytest

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    Event,
    RegistryError,
    RegistryFacts,
    StepDone,
    StepLog,
    StepStarted,
)
from imagesmith.runner import Redactor
from imagesmith.stores.credentials import Login
from imagesmith_buildpacks.auth import registry_auth
from imagesmith_buildpacks.failures import explain
from imagesmith_buildpacks.progress import Progress
from imagesmith_buildpacks.rebase import rebaser_argv

OUTPUT = """===> ANALYZING
Image with name "x" not found
===> BUILDING
Collecting numpy
the token is hunter2
ERROR: No matching distribution found for numpy==99
ERROR: failed to build: exit status 1
"""


def followed(text: str = OUTPUT) -> tuple[Progress, list[Event]]:
    events: list[Event] = []
    ticks = iter(range(1000))
    progress = Progress(
        events.append, Redactor(["hunter2"]), "start", prefix="c-", clock=lambda: float(next(ticks))
    )
    for line in text.splitlines():
        progress.line(line)
    return progress, events


def test_phases_are_steps_and_secrets_are_cut() -> None:
    progress, events = followed()
    assert [each.name for each in events if isinstance(each, StepStarted)] == [
        "start", "buildpacks: analyzing", "buildpacks: building"
    ]  # fmt: skip
    ids = [each.id for each in events if isinstance(each, StepStarted)]
    assert ids == ["c-1", "c-2", "c-3"]
    assert [each.id for each in events if isinstance(each, StepDone)] == ["c-1", "c-2"]
    assert "hunter2" not in repr(events)
    assert StepLog("c-3", "Collecting numpy") in events
    progress.done("exit code 51")
    assert isinstance(events[-1], StepDone)
    assert events[-1].error == "exit code 51"


def test_only_what_stands_after_the_last_carriage_return_is_shown() -> None:
    _, events = followed("1%\r50%\r100%\r")
    assert events[-1] == StepLog("c-1", "100%")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (20, "no buildpacks of this builder"), (21, "while it looked"), (51, "a buildpack failed"),
        (62, "put together"), (1, "failed while building"), (137, "failed while building"),
    ],
)  # fmt: skip
def test_a_failure_names_phase_code_and_the_last_errors(code: int, words: str) -> None:
    error = explain(followed()[0], code)
    assert isinstance(error, BuildFailed)
    assert words in error.message
    assert f"exit code {code}" in error.message
    assert "No matching distribution found for numpy==99" in error.message
    assert (error.returncode, error.step) == (code, "buildpacks: building")
    assert "Collecting numpy" in error.tail


@pytest.mark.parametrize("code", [11, 12])
def test_a_builder_of_another_time_is_no_failed_build(code: int) -> None:
    error = explain(followed("ERROR: unknown API")[0], code)
    assert isinstance(error, BuilderNotReady)
    assert error.hint


def test_a_login_that_is_refused_is_the_registrys_answer() -> None:
    said = "===> ANALYZING\nERROR: HEAD https://r/v2/x: unexpected status code 401 Unauthorized"
    error = explain(followed(said)[0], 1, registry="r")
    assert isinstance(error, RegistryError)
    assert error.registry == "r"
    assert "docker login" in str(error.hint)


def test_logins_in_the_lifecycles_form() -> None:
    facts = [
        RegistryFacts("docker.io", insecure=False, login=Login("me", "pass:word")),
        RegistryFacts("r:5000", insecure=True, login=Login(token="abc")),
        RegistryFacts("open", insecure=True),
    ]
    assert json.loads(registry_auth(facts)) == {
        "index.docker.io": "Basic bWU6cGFzczp3b3Jk",
        "r:5000": "X-Identity abc",
    }


def test_the_rebasers_flags_come_before_the_image() -> None:
    argv = rebaser_argv("r/x:s", "r/x@sha256:0", run_image="run:1", daemon=True, force=True, insecure=("h",))
    assert argv[0] == "/cnb/lifecycle/rebaser"
    assert argv[-1] == "r/x:s"
    text = " ".join(argv)
    for words in (
        "-previous-image r/x@sha256:0",
        "-run-image run:1",
        "-daemon",
        "-force",
        "-insecure-registry h",
    ):
        assert words in text
