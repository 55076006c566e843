"""envd's output as events, from recorded lines."""

from imagesmith import BuilderNotReady, BuildFailed, Event, StepDone, StepLog, StepStarted
from imagesmith_envd.failures import explain
from imagesmith_envd.output import Progress
from imagesmith_envd.render import Step

STEPS = (Step("apt", "apt: git", "…"), Step("command-000", "command: make", "…", mounted=True))
APT = ["#3 bash -c set -euo pipefail", "# apt", "export A=b", ""]
COMMAND = ["#4 bash -c set -euo pipefail", "# command-000", "/bin/sh …", ""]
ERROR = '#4 ERROR: process "bash -c set -euo pipefail\\n# command-000\\n…" did not complete: exit code: 7'
REPEATED = ["------", " > bash -c set -euo pipefail", ":", "#4 0.2 why", "------"]
FATAL = 'time="…" level=fatal msg=exit app=envd error="failed to solve: … exit code: 7" version=v1.3.6'


def follow(lines: list[str], stderr: tuple[str, ...] = ()) -> tuple[Progress, list[Event]]:
    events: list[Event] = []
    progress = Progress(STEPS, events.append)
    for line in lines:
        progress.line(line, "stdout")
    for line in stderr:
        progress.line(line, "stderr")
    return progress, events


def test_steps_are_known_by_their_key_and_lines_are_theirs() -> None:
    _, events = follow(
        ["#1 local://x", "#1 DONE 0.1s", *APT, "#3 0.5 installing", "#3 DONE 1.2s", "#4 CACHED"]
    )
    assert StepStarted("3", "apt: git") in events
    assert StepLog("3", "installing") in events
    assert StepDone("3", 1.2) in events
    assert StepDone("1", 0.1) in events


def test_a_cached_step_is_announced_too() -> None:
    _, events = follow([*COMMAND, "#4 CACHED"])
    assert events == [StepStarted("4", "command: make"), StepDone("4", cached=True)]


def test_the_failed_steps_lines_are_kept_once() -> None:
    progress, _ = follow([*COMMAND, "#4 0.2 why", ERROR, *REPEATED], (FATAL,))
    error = explain(progress, 1, "here")
    assert isinstance(error, BuildFailed)
    assert (error.step, error.returncode, error.tail) == ("command: make", 7, ("why",))


def test_lines_that_come_after_the_error_are_not_lost() -> None:
    progress, _ = follow([*COMMAND, ERROR, *REPEATED], (FATAL,))
    error = explain(progress, 1, "here")
    assert isinstance(error, BuildFailed)
    assert error.tail == ("why",)


def test_a_line_under_number_0_is_the_latest_steps() -> None:
    progress, _ = follow([*COMMAND, "#0 0.2 why", ERROR], (FATAL,))
    assert progress.tail() == ("why",)


def test_the_digest_that_was_pushed() -> None:
    digest = "sha256:" + "a" * 64
    progress, _ = follow(
        ["#8 exporting to image", f"#8 pushing manifest for r.example/x:y@{digest} 0.1s done"]
    )
    assert progress.digest == digest


def test_no_engine_is_no_failed_step() -> None:
    said = 'time="…" level=fatal msg=exit error="failed to list workers: Unavailable: connection refused"'
    progress, _ = follow([], (said,))
    error = explain(progress, 1, "unix:///nowhere")
    assert isinstance(error, BuilderNotReady)
    assert "unix:///nowhere" in str(error)


def test_an_engine_that_goes_away_is_named() -> None:
    lines = [*COMMAND, "#4 ERROR: error reading from server: EOF"]
    error = explain(follow(lines)[0], 1, "here")
    assert isinstance(error, BuilderNotReady)
    assert "went away during the step 'command: make'" in str(error)
