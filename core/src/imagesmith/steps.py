"""A process as one step of a build: its events, and errors that say what a person needs."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from imagesmith.errors import BuilderNotReady, BuildFailed
from imagesmith.events import StepDone, StepLog, StepStarted
from imagesmith.hints import hint_for
from imagesmith.runner import ToolMissing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from imagesmith.events import Reporter
    from imagesmith.runner import Runner

__all__ = ["run_step"]

_SHOWN = 20
"""last lines that an error holds"""


def run_step(
    runner: Runner,
    argv: Sequence[str],
    *,
    name: str,
    builder: str,
    env: Mapping[str, str],
    cwd: Path,
    report: Reporter,
    redact: Collection[str] = (),
    ignore: tuple[str, ...] = (),
    hint: str | None = None,
) -> None:
    """Run it to its end.

    Args:
        runner: that of the builder's environment.
        argv: program and arguments.
        name: of the step, for people.
        builder: the builder's name.
        env: the complete environment.
        cwd: the working directory.
        report: hears of the step's start, lines and end.
        redact: secret values, cut from every line.
        ignore: lines that begin so are not the step's own, and left out.
        hint: what to do where the program cannot be started.

    Raises:
        BuildFailed: its status is not 0.
        BuilderNotReady: it cannot be started.
    """

    def line(text: str, _stream: str) -> None:
        if not text.startswith(ignore):
            report(StepLog(step, text))

    step = uuid.uuid4().hex[:12]
    report(StepStarted(step, name))
    began = time.monotonic()
    try:
        done = runner.run(argv, env=env, cwd=cwd, on_line=line, redact=redact)
    except ToolMissing as error:
        raise BuilderNotReady(error.message, builder=builder, hint=error.hint or hint) from error
    failure = f"exit code {done.returncode}" if done.returncode else None
    report(StepDone(step, seconds=time.monotonic() - began, error=failure))
    if failure:
        tail = tuple(text for text in done.tail if not text.startswith(ignore))[-_SHOWN:]
        raise BuildFailed(
            f"{name}: {failure}",
            builder=builder,
            step=name,
            returncode=done.returncode,
            tail=tail,
            hint=hint_for("\n".join(tail)),
        )
