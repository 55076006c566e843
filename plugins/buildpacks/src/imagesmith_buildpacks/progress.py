"""What a lifecycle prints, as events. Everything it says goes to stdout, errors included."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from imagesmith import Reporter, StepDone, StepLog, StepStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagesmith.runner import Redactor

__all__ = ["Progress"]

TAIL = 30
_PHASE = "===> "
_ERROR = "ERROR: "


class Progress:
    """Follows one container. ``line`` takes each line of its output.

    ``first`` names the step that begins with the container; phases of a lifecycle begin steps of their own.
    """

    def __init__(
        self,
        report: Reporter,
        redactor: Redactor,
        first: str,
        *,
        prefix: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._redactor = redactor
        self._prefix = prefix
        self._clock = clock
        self._number = 0
        self._began = clock()
        self.step = first
        """the step that runs, or ran last"""
        self.phase: str | None = None
        """the lifecycle's phase, as it names it"""
        self.tail: deque[str] = deque(maxlen=TAIL)
        """the last lines of the step"""
        self.errors: list[str] = []
        """what followed ``ERROR:``"""
        self._start(first)

    def line(self, text: str) -> None:
        """One line of output."""
        line = self._redactor.redact(text.rstrip("\r").rpartition("\r")[2])
        if line.startswith(_PHASE):
            self.phase = line.removeprefix(_PHASE).strip()
            self._finish()
            self._start(f"buildpacks: {self.phase.lower()}")
            return
        self.tail.append(line)
        if line.startswith(_ERROR):
            self.errors.append(line.removeprefix(_ERROR))
        self._report(StepLog(self._id, line))

    def begin(self, name: str) -> None:
        """Another step begins."""
        self._finish()
        self._start(name)

    def done(self, error: str | None = None) -> None:
        """The container has ended."""
        self._finish(error)

    @property
    def _id(self) -> str:
        return f"{self._prefix}{self._number}"

    def _start(self, name: str) -> None:
        self._number += 1
        self._began = self._clock()
        self.step = name
        self.tail.clear()
        self._report(StepStarted(self._id, name))

    def _finish(self, error: str | None = None) -> None:
        self._report(StepDone(self._id, self._clock() - self._began, error=error))
