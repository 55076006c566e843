"""Progress on a terminal: steps that have ended scroll by; those that run are redrawn below, with their time.

The drawing library is imported with the first step, so that a build that has nothing to do does not
pay for it.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from imagesmith.cli.progress import ending, plain_line, printable
from imagesmith.cli.terminal import say
from imagesmith.events import Event, Message, Phase, StepDone, StepLog, StepStarted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["LiveProgress"]

_LOG_LINES = 6
_STEPS = 8
_REFRESH_PER_SECOND = 8


@dataclass(slots=True)
class _Step:
    name: str
    started: float
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))


class LiveProgress:
    """A reporter, and a context that ends the drawing."""

    def __init__(self, *, color: bool | None) -> None:
        self._color = color
        self._running: dict[str, _Step] = {}
        self._phase = ""
        self._phase_started = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Phase(name, detail):
                self._phase = printable(f"{name} {detail}".rstrip())
                self._phase_started = time.monotonic()
                self._above(f"== {self._phase}", "bold")
            case Message(_, level):
                self._above(plain_line(event), "yellow" if level == "warning" else "")
            case StepStarted(step, name):
                self._running[step] = _Step(printable(name), time.monotonic())
                self._start()
            case StepLog(step, line):
                if step in self._running:
                    self._running[step].log.append(printable(line))
            case StepDone(step, _, cached, error):
                name = self._running.pop(step).name if step in self._running else f"#{step}"
                mark, style = ("✗", "red") if error else ("✓", "dim" if cached else "green")
                self._above(f"{mark} {name} {printable(ending(event))}", style)

    def _above(self, text: str, style: str) -> None:
        """A line that stays."""
        if self._live is None:
            say(text)
            return
        from rich.text import Text  # noqa: PLC0415

        self._live.console.print(Text(text, style=style), soft_wrap=True)

    def _start(self) -> None:
        if self._live is not None:
            return
        from rich.live import Live  # noqa: PLC0415

        self._live = Live(
            console=self._console(),
            get_renderable=self._draw,
            refresh_per_second=_REFRESH_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _console(self) -> Console:
        from rich.console import Console  # noqa: PLC0415

        return Console(
            stderr=True, force_terminal=True, no_color=self._color is False, highlight=False, markup=False
        )

    def _draw(self) -> RenderableType:
        """What is redrawn. Called by the drawing thread, and by ``_above`` in the thread of the event."""
        from rich.text import Text  # noqa: PLC0415

        now = time.monotonic()
        text = Text(no_wrap=True, overflow="ellipsis")
        steps = list(self._running.values())  # a copy: events change it meanwhile
        for step in steps[-_STEPS:]:
            text.append(f"▸ {step.name} {now - step.started:.0f}s\n", style="cyan")
        if len(steps) > _STEPS:
            text.append(f"  and {len(steps) - _STEPS} more\n", style="dim")
        if steps:
            for line in list(steps[-1].log):
                text.append(f"  │ {line}\n", style="dim")
        else:
            text.append(f"▸ {self._phase} {now - self._phase_started:.0f}s\n", style="cyan")
        text.rstrip()
        return text
