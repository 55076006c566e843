"""Ctrl-C and TERM in the middle of a build: the tool ends, nothing is said on stdout, exit 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BUILD = """
    import os, sys
    from pathlib import Path
    from imagesmith import pipeline
    from imagesmith.cli import main
    from imagesmith.events import StepLog, StepStarted
    from imagesmith.runner import SubprocessRunner

    def build(spec, *, report, **_):
        report(StepStarted("1", "a tool"))
        code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        SubprocessRunner().run(
            [sys.executable, "-c", code],
            env=dict(os.environ),
            cwd=Path("."),
            on_line=lambda line, stream: report(StepLog("1", line)),
        )

    pipeline.build = build
    sys.exit(main(["build", "app.py:image", "--progress", "plain"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_tool_and_the_exit_code_is_130(project: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUILD)],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    pid = None
    for line in process.stderr:
        if line.startswith("#1 | "):
            pid = int(line.split()[-1])
            break
    assert pid is not None
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err.strip().endswith("interrupted")
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
