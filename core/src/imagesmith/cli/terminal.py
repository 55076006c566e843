"""What goes where: answers to stdout, all else to stderr; colour when it is wanted."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Session", "answer", "answer_json", "is_terminal", "say", "wants_color"]


@dataclass(slots=True)
class Session:
    """One run of the command line."""

    debug: bool = False
    color: bool | None = None
    """True or False where the environment says so, None where it is for the terminal to decide"""

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Session:
        """As the environment has it."""
        return cls(debug=env.get("IMAGESMITH_DEBUG", "") not in {"", "0"}, color=wants_color(env))

    def style(self, text: str, color: str) -> str:
        """``text`` in that colour, where stderr is to have colours."""
        coloured = self.color if self.color is not None else is_terminal(os.environ)
        return click.style(text, fg=color, bold=True) if coloured else text


def wants_color(env: Mapping[str, str]) -> bool | None:
    """NO_COLOR beats FORCE_COLOR; each counts when it is not empty."""
    if env.get("NO_COLOR"):
        return False
    return True if env.get("FORCE_COLOR") else None


def is_terminal(env: Mapping[str, str]) -> bool:
    """Whether a person watches stderr on a terminal that can move its cursor."""
    return sys.stderr.isatty() and env.get("TERM", "") not in {"", "dumb"}


def answer(text: str) -> None:
    """One line (or several) of the answer, to stdout, at once."""
    _write(sys.stdout, text)


def answer_json(value: object) -> None:
    """The answer as JSON, ASCII alone, so that no terminal and no file name can break it."""
    answer(json.dumps(value, indent=2))


def say(text: str) -> None:
    """A line for the person, to stderr."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError:
        # Whoever read it has gone (``imagesmith files … | head``): what is left is said to nobody.
        with open(os.devnull, "wb") as nobody:  # noqa: PTH123
            os.dup2(nobody.fileno(), stream.fileno())
