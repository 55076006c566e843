"""How a build is shown while it runs, on stderr: reporters that take ``imagesmith.events`` values."""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING

from imagesmith.cli.terminal import Session, is_terminal, say
from imagesmith.events import Event, Message, Phase, StepDone, StepLog, StepStarted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagesmith.events import Reporter

__all__ = ["MODES", "plain_line", "reporter"]

MODES = ("auto", "tty", "plain", "quiet", "json")

_KINDS = {
    Phase: "phase",
    Message: "message",
    StepStarted: "step-started",
    StepLog: "step-log",
    StepDone: "step-done",
}
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links
    r"|\x1b.|[\x00-\x08\x0b-\x1f\x7f]"
)


@contextlib.contextmanager
def reporter(mode: str, session: Session) -> Iterator[Reporter]:
    """A reporter of that mode; what it draws is gone from the terminal at the end."""
    if mode == "auto":
        mode = "tty" if is_terminal(os.environ) else "plain"
    if mode == "tty":
        from imagesmith.cli.live import LiveProgress  # noqa: PLC0415

        with LiveProgress(color=session.color) as live:
            yield live
    else:
        yield {"plain": _plain, "quiet": _quiet, "json": _json}[mode]


def printable(text: str) -> str:
    """Without what would move the cursor or colour the terminal of whoever reads it."""
    return _CONTROL.sub("", text)


def plain_line(event: Event) -> str:
    """One event as one line (a message may have several)."""
    match event:
        case Phase(name, detail):
            return printable(f"== {name} {detail}".rstrip())
        case Message(text, level):
            return printable(f"warning: {text}" if level == "warning" else text)
        case StepStarted(step, name):
            return printable(f"#{step} {name}")
        case StepLog(step, line):
            return printable(f"#{step} | {line}")
        case StepDone(step):
            return printable(f"#{step} {ending(event)}")


def ending(done: StepDone) -> str:
    """How a step ended, in words."""
    state = f"failed: {done.error}" if done.error else "cached" if done.cached else "done"
    return state if done.seconds is None else f"{state} {done.seconds:.1f}s"


def _plain(event: Event) -> None:
    say(plain_line(event))


def _quiet(event: Event) -> None:
    if isinstance(event, Message) and event.level == "warning":
        say(plain_line(event))


def _json(event: Event) -> None:
    fields = {name: getattr(event, name) for name in type(event).__dataclass_fields__}
    say(json.dumps({"event": _KINDS[type(event)], **fields}))
