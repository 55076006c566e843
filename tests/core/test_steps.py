"""A process as a step of a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imagesmith import BuilderNotReady, BuildFailed, Event, StepDone, StepLog, StepStarted, ToolMissing
from imagesmith.steps import run_step
from imagesmith.testing import RecordingRunner


def step(runner: RecordingRunner, **options: Any) -> list[Event]:
    events: list[Event] = []
    run_step(
        runner,
        ["tool", "x"],
        name="work",
        builder="mine",
        env={},
        cwd=Path("/"),
        report=events.append,
        **options,
    )
    return events


def test_it_reports_start_lines_and_end() -> None:
    started, log, done = step(RecordingRunner(lines=["one", "noise: 1"]), ignore=("noise",))
    assert isinstance(started, StepStarted)
    assert started.name == "work"
    assert log == StepLog(started.id, "one")
    assert isinstance(done, StepDone)
    assert (done.id, done.error) == (started.id, None)
    assert step(RecordingRunner())[0] != started  # two steps of one name are two steps


def test_a_failure_names_the_step_and_what_it_said_last() -> None:
    lines = [*map(str, range(30)), "ERROR: No matching distribution found for nope", "noise"]
    with pytest.raises(BuildFailed, match="work: exit code 7") as caught:
        step(RecordingRunner(returncode=7, lines=lines), ignore=("noise",))
    error = caught.value
    assert (error.builder, error.step, error.returncode) == ("mine", "work", 7)
    assert (len(error.tail), error.tail[-1]) == (20, lines[-2])
    assert error.hint == "no such package or version for this python: nope"


def test_a_program_that_is_not_there_is_a_matter_of_the_machine() -> None:
    with pytest.raises(BuilderNotReady, match="cannot start") as caught:
        step(RecordingRunner(raises=ToolMissing("cannot start it", tool="tool")), hint="install it")
    assert (caught.value.builder, caught.value.hint) == ("mine", "install it")


def test_secrets_go_to_the_runner_to_be_cut() -> None:
    runner = RecordingRunner(lines=["hunter2 was here"])
    events = step(runner, redact=("hunter2",))
    assert "hunter2" not in repr(events)
    assert runner.calls[0].redact == ("hunter2",)
