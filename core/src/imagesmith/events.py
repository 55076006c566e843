"""What happens during a build, as values. A reporter is any callable that takes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Event", "Message", "Phase", "Reporter", "StepDone", "StepLog", "StepStarted", "silent"]


@dataclass(frozen=True, slots=True)
class Phase:
    """The pipeline enters a part of its work: ``checking``, ``staging``, ``building`` …"""

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """Something a person should read."""

    text: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of the engine began. ``id`` is unique within one build."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class StepLog:
    """One line that a step printed, without its line end."""

    id: str
    line: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step ended. ``seconds`` is None where the engine does not say."""

    id: str
    seconds: float | None = None
    cached: bool = False
    error: str | None = None


Event: TypeAlias = Phase | Message | StepStarted | StepLog | StepDone
Reporter: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """A reporter that says nothing."""
