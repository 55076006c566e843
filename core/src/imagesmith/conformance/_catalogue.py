"""What a check is, and which there are."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING

from imagesmith.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from imagesmith.builder import Feature
    from imagesmith.conformance.subject import Subject

__all__ = ["Check", "Skipped", "Tier", "UnknownCheck", "catalogue", "check", "refuse_unknown", "selected"]

_MODULES = (
    "table", "planning", "quoting", "running", "environment", "packages", "conda", "files", "configuration",
    "commands", "bases", "publishing", "secrets", "faults",
)  # fmt: skip


class Tier(StrEnum):
    """What a check needs."""

    PLAN = "plan"
    """nothing: it is about values"""
    FAKE = "fake"
    """a runner that starts nothing, and no engine"""
    LIVE = "live"
    """a real engine: it builds images and runs them"""


class Skipped(Exception):
    """The check cannot be made here; the message is the reason."""


class UnknownCheck(UsageError):
    """No check has that id."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, and how it is checked. ``run`` raises AssertionError with a message of its own."""

    id: str
    rule: str
    """one sentence"""
    tier: Tier
    requires: frozenset[Feature]
    """a builder without one of these is not asked"""
    since: str
    """the version of imagesmith it came with"""
    run: Callable[[Subject], None]


def check(
    id: str,  # noqa: A002 - what it is
    tier: Tier,
    *requires: Feature,
    since: str = "0.1",
) -> Callable[[Callable[[Subject], None]], Check]:
    """Make a check of a function; its docstring is the rule."""

    def make(function: Callable[[Subject], None]) -> Check:
        rule = " ".join((function.__doc__ or "").split())
        return Check(id, rule, tier, frozenset(requires), since, function)

    return make


def catalogue(tiers: Collection[Tier] = tuple(Tier)) -> tuple[Check, ...]:
    """Every check of these tiers, in the order in which they are best made: the cheap ones first."""
    modules = [import_module(f"imagesmith.conformance.checks.{name}") for name in _MODULES]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Check)]
    return tuple(each for tier in Tier if tier in tiers for each in found if each.tier is tier)


def selected(tiers: Collection[Tier] = tuple(Tier), only: Collection[str] = ()) -> tuple[Check, ...]:
    """The checks of these tiers, or just those with these ids.

    Raises:
        UnknownCheck: there is no such id.
    """
    refuse_unknown(only)
    checks = catalogue() if only else catalogue(tiers)
    return tuple(each for each in checks if not only or each.id in only)


def refuse_unknown(ids: Iterable[str] | Mapping[str, str]) -> None:
    """Raise UnknownCheck when one of these is no check's id."""
    known = [each.id for each in catalogue()]
    for wanted in ids:
        if wanted not in known:
            near = difflib.get_close_matches(wanted, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "imagesmith conformance --rules lists them"
            raise UnknownCheck(f"no conformance check is called '{wanted}'", hint=hint)
