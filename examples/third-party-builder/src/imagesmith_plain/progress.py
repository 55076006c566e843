"""What ``docker buildx build --progress=plain`` prints, as events."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from imagesmith import StepDone, StepLog, StepStarted

if TYPE_CHECKING:
    from imagesmith import Reporter

_LINE = re.compile(r"#(\d+) (.*)", re.DOTALL)
_DONE = re.compile(r"DONE (\d+\.\d+)s")
_LOG = re.compile(r"\d+\.\d+ (.*)", re.DOTALL)


class Progress:
    """Reads lines, reports events, and remembers which step failed."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._names: dict[str, str] = {}
        self._tails: dict[str, deque[str]] = {}
        self._other: deque[str] = deque(maxlen=10)
        self._failed: str | None = None

    def line(self, text: str, _stream: str) -> None:
        """One line, of whichever stream."""
        match = _LINE.fullmatch(text)
        if match is None:
            self._other.append(text)
            return
        step, rest = match.groups()
        if step not in self._names:
            self._names[step] = rest
            self._tails[step] = deque(maxlen=20)
            self._report(StepStarted(step, rest))
        elif done := _DONE.fullmatch(rest):
            self._report(StepDone(step, seconds=float(done[1])))
        elif rest == "CACHED":
            self._report(StepDone(step, cached=True))
        elif rest.startswith("ERROR: "):
            self._failed = self._failed or step
            self._report(StepDone(step, error=rest.removeprefix("ERROR: ")))
        elif log := _LOG.fullmatch(rest):
            self._tails[step].append(log[1])
            self._report(StepLog(step, log[1]))

    def failure(self) -> tuple[str | None, tuple[str, ...]]:
        """The step that failed, and the last lines it printed."""
        if self._failed is None:
            return None, tuple(self._other)
        return self._names[self._failed], tuple(self._tails[self._failed])
