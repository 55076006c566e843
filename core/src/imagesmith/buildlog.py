"""The log of one build: a file that every event is written to, beside the reporter that shows it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from imagesmith.events import Event, Message, Phase, Reporter, StepDone, StepLog, StepStarted

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BuildLog", "log_path"]

_KEEP = 50


def log_path(folder: Path, name: str) -> Path:
    """A new file name, ``name`` in it; the oldest logs beyond the last fifty are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.log"), key=lambda file: file.name)[: -_KEEP + 1]:
        old.unlink(missing_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return folder / f"{stamp}-{time.time_ns() % 10**9:09d}-{name[:80]}.log"


class BuildLog:
    """A reporter that writes each event as a line and passes it on."""

    def __init__(self, path: Path, then: Reporter) -> None:
        self.path = path
        self._then = then
        self._file: TextIO = path.open("w", encoding="utf-8", errors="backslashreplace")

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self._file.write(_line(event))
        self._file.flush()
        self._then(event)

    def close(self) -> None:
        """Close the file; the reporter must not be called again."""
        self._file.close()


def _line(event: Event) -> str:
    match event:
        case Phase(name, detail):
            return f"== {name}{' ' + detail if detail else ''}\n"
        case Message(text, level):
            return f"{level}: {text}\n"
        case StepStarted(step, name):
            return f"#{step} {name}\n"
        case StepLog(step, line):
            return f"#{step} | {line}\n"
        case StepDone(step, seconds, cached, error):
            state = error or ("cached" if cached else "done")
            return f"#{step} {state}{f' {seconds:.1f}s' if seconds is not None else ''}\n"
