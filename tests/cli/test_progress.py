"""How a build is shown: each mode, colours, and what a terminal sees."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from imagesmith.cli.progress import plain_line
from imagesmith.errors import ImagesmithError
from imagesmith.events import Message, Phase, StepDone, StepLog, StepStarted
from tests.cli.conftest import FakeBuild, Run


def test_plain_is_a_line_per_event(run: Run, fake_build: FakeBuild) -> None:
    lines = run("build", "app.py:image", "--progress", "plain").err.splitlines()
    assert lines[:7] == [
        "== checking app:tag",
        "warning: the base is old",
        "#1 install packages",
        "#1 | fetching six",
        "#1 done 1.2s",
        "#2 copy files",
        "#2 cached",
    ]


def test_auto_is_plain_where_nobody_watches(run: Run, fake_build: FakeBuild) -> None:
    assert "#1 | fetching six" in run("build", "app.py:image").err


@pytest.mark.parametrize("quiet", [["-q"], ["--quiet"], ["--progress", "quiet"]])
def test_quiet_says_warnings_and_errors_alone(run: Run, fake_build: FakeBuild, quiet: list[str]) -> None:
    assert run("build", "app.py:image", *quiet).err == "warning: the base is old\n"
    fake_build.error = ImagesmithError("no")
    assert run("build", "app.py:image", *quiet).err == "warning: the base is old\nerror: no\n"


def test_json_is_an_event_per_line(run: Run, fake_build: FakeBuild) -> None:
    events = [
        json.loads(line) for line in run("build", "app.py:image", "--progress", "json").err.splitlines()
    ]
    assert events[0] == {"event": "phase", "name": "checking", "detail": "app:tag"}
    assert events[2] == {"event": "step-started", "id": "1", "name": "install packages"}
    assert events[3]["line"] == "fetching \x1b[31msix\x1b[0m"
    assert events[4] == {"event": "step-done", "id": "1", "seconds": 1.25, "cached": False, "error": None}
    assert {event["event"] for event in events} == {
        "phase",
        "message",
        "step-started",
        "step-log",
        "step-done",
    }


def test_the_environment_says_the_mode_and_the_option_wins(
    run: Run, fake_build: FakeBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESMITH_PROGRESS", "quiet")
    assert run("build", "app.py:image").err == "warning: the base is old\n"
    assert "#1 install" in run("build", "app.py:image", "--progress", "plain").err


def test_a_failed_step_says_so() -> None:
    assert plain_line(StepDone("1", 2.0, error="exit code 1")) == "#1 failed: exit code 1 2.0s"


@pytest.mark.parametrize(
    "event",
    [
        Phase("a\x1b[2J", "b\r"),
        Message("a\x07"),
        StepStarted("1", "\x1b]0;title\x07x"),
        StepLog("1", "a\x1b[1A\x08b\x1bM"),
        StepDone("1", error="\x1b[31m"),
    ],
)
def test_nothing_a_tool_prints_moves_the_cursor(
    event: Phase | Message | StepStarted | StepLog | StepDone,
) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", plain_line(event))


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, False),
    ],
)
def test_colours_of_an_error(
    run: Run, fake_build: FakeBuild, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], coloured: bool
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    fake_build.error = ImagesmithError("no")
    assert ("\x1b[31m" in run("build", "app.py:image", "-q").err) == coloured


TERMINAL = """
    import sys, time
    from imagesmith import pipeline
    from imagesmith.cli import main
    from imagesmith.errors import UsageError
    from imagesmith.events import *

    def build(spec, *, report, **_):
        report(Phase("checking", "app:tag"))
        if "rich" in sys.modules:
            raise AssertionError("rich was imported before there was a step")
        report(StepStarted("1", "install packages"))
        report(StepLog("1", "fetching six"))
        time.sleep(0.4)
        report(StepDone("1", 0.4))
        report(StepStarted("2", "[bold]a name that is no markup[/bold]"))
        report(StepDone("2", cached=True))
        report(StepStarted("3", "run the command"))
        time.sleep(0.3)
        {end}
        return pipeline.BuildResult("app:tag", "sha256:0", ("linux/amd64",), "fake 1", False, 1.0)

    pipeline.build = build
    sys.exit(main(["build", "app.py:image"]))
"""


def _on_a_terminal(project: Path, end: str = "pass", **env: str) -> tuple[int, str, str]:
    """Exit code, stdout, and all that was written to the terminal on stderr."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(TERMINAL).format(end=end)],
        cwd=project,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    out, _ = process.communicate(timeout=30)
    return process.returncode, out.decode(), seen.decode()


def test_a_terminal_sees_running_steps_with_their_time_and_last_lines(project: Path) -> None:
    code, out, seen = _on_a_terminal(project)
    assert (code, out) == (0, "app:tag\n")
    assert re.search(r"▸ install packages \ds", seen)
    assert "│ fetching six" in seen
    assert re.search(r"✓ install packages done 0\.4s", seen)
    assert "✓ [bold]a name that is no markup[/bold] cached" in seen
    assert "built app:tag" in seen
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")  # the cursor is back


def test_an_error_leaves_the_terminal_as_it_was(project: Path) -> None:
    code, out, seen = _on_a_terminal(project, end="raise UsageError('it says no')")
    assert (code, out) == (2, "")
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")
    last = seen.rstrip().splitlines()[-1]
    assert "error:" in last
    assert "it says no" in last
    assert "Traceback" not in seen


def test_no_colour_on_a_terminal_when_it_is_not_wanted(project: Path) -> None:
    _, _, seen = _on_a_terminal(project, end="raise UsageError('no')", NO_COLOR="1", FORCE_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", re.sub(r"\x1b\[[12]m", "", seen))


def test_a_dumb_terminal_gets_plain_lines(project: Path) -> None:
    _, _, seen = _on_a_terminal(project, TERM="dumb")
    assert "#1 | fetching six" in seen
    assert "\x1b" not in seen
