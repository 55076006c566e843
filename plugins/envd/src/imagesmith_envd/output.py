"""What envd prints, as events. It shows BuildKit's plain progress: ``#7 …`` lines on stdout."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from imagesmith import Reporter, StepDone, StepLog, StepStarted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagesmith_envd.render import Step

__all__ = ["Progress"]

_LINE = re.compile(r"#(?P<id>\d+) (?P<text>.*)", re.DOTALL)
_TIMED = re.compile(r"(?P<at>\d+\.\d+) (?P<text>.*)", re.DOTALL)
_DONE = re.compile(r"DONE (?P<seconds>\d+\.\d+)s$")
_DIGEST = re.compile(r"pushing manifest for \S+@(sha256:[0-9a-f]{64})")
_TAIL = 30


class Progress:
    """Follows one run of envd. A ``run`` group is announced by its script; a step's key begins it."""

    def __init__(self, steps: Sequence[Step], report: Reporter) -> None:
        self._known = {f"# {step.key}": step for step in steps}
        self._announced: str | None = None
        self._over = False
        self._said_again: deque[str] = deque(maxlen=_TAIL)
        self._report = report
        self._steps: dict[str, Step | None] = {}
        self._names: dict[str, str] = {}
        self.tails: dict[str, deque[str]] = {}
        self.failed: str | None = None
        """the id of the step that failed"""
        self.error = ""
        self.fatal: list[str] = []
        self.digest: str | None = None
        """of the manifest, where envd pushed one"""

    def line(self, text: str, stream: str) -> None:
        """One line of output."""
        if stream == "stderr":
            if "level=fatal" in text or "level=" not in text:
                self.fatal.append(text)
            return
        match = _LINE.match(text)
        self._over = self._over or (self.failed is not None and text == "------")
        if self._over:
            # the failed step's last lines, mostly for the second time
            if match and (timed := _TIMED.match(match["text"])):
                self._said_again.append(timed["text"])
            return
        if self._announced is not None:
            self._start(self._announced, self._known.get(text), "run")
            self._announced = None
        if not match:
            return
        step, rest = match["id"], match["text"]
        if step == "0":  # BuildKit's number for a line whose step it has not numbered yet: the latest one
            step = next(reversed(self._names), step)
        if found := _DIGEST.search(rest):
            self.digest = found[1]
        if step not in self._names:
            if rest.startswith("bash -c "):
                self._announced = step
            else:
                self._start(step, None, rest)
        elif timed := _TIMED.match(rest):
            self.tails.setdefault(step, deque(maxlen=_TAIL)).append(timed["text"])
            self._report(StepLog(step, timed["text"]))
        elif done := _DONE.match(rest):
            self._report(StepDone(step, float(done["seconds"])))
        elif rest == "CACHED":
            self._report(StepDone(step, cached=True))
        elif rest.startswith("ERROR: "):
            self.failed, self.error = step, rest.removeprefix("ERROR: ")
            exit_code = re.search(r"exit code: \d+", self.error)
            self._report(StepDone(step, error=exit_code[0] if exit_code else self.error[:200]))

    def _start(self, step: str, known: Step | None, name: str) -> None:
        self._steps[step] = known
        self._names[step] = known.name if known else name
        self._report(StepStarted(step, self._names[step]))

    def step(self) -> Step | None:
        """The step that failed, where it is one of ours."""
        return self._steps.get(self.failed) if self.failed else None

    def tail(self) -> tuple[str, ...]:
        """The last lines of the failed step."""
        return tuple(self.tails.get(self.failed) or self._said_again) if self.failed else ()
