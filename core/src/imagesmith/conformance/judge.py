"""Make checks and judge them: the first door, and what the other two stand on."""

from __future__ import annotations

import contextlib
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith._version import __version__
from imagesmith.builder import Feature, Support
from imagesmith.conformance._catalogue import Check, Skipped, Tier, refuse_unknown, selected
from imagesmith.conformance.report import Outcome, Report, Status
from imagesmith.conformance.subject import Factory, Subject
from imagesmith.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from imagesmith.builder import Builder

__all__ = ["check_builder", "judge", "open_subject"]


def check_builder(
    builder: str | Factory,
    *,
    tiers: Collection[Tier | str] = tuple(Tier),
    only: Collection[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    watch: Callable[[Outcome], None] | None = None,
) -> Report:
    """Make the checks of these tiers.

    Args:
        builder: the name of an installed builder, or what makes one of an ``Environment``.
        tiers: ``plan``, ``fake``, ``live``.
        only: ids; then no other check is made, whatever its tier.
        expected_failures: id -> reason; strict: such a check that passes is reported as ``fixed``.
        env: environment variables of the live tier; unset: those of this process.
        watch: is called with each outcome as it comes.

    Raises:
        UnknownCheck: an id that no check has.
        PluginError: no such builder, or its plugin is broken.
        UsageError: Python leaves out assertions.
    """
    if not __debug__:
        raise UsageError("python -O leaves out the assertions that the checks are made of", hint="without -O")
    expected = dict(expected_failures or {})
    refuse_unknown(expected)
    checks = selected([Tier(tier) for tier in tiers], only)
    outcomes = []
    with open_subject(builder, env=env) as subject:
        for check in checks:
            outcome = judge(check, subject, expected.get(check.id))
            outcomes.append(outcome)
            if watch is not None:
                watch(outcome)
        return Report(subject.made_by, __version__, tuple(outcomes))


@contextlib.contextmanager
def open_subject(builder: str | Factory, *, env: Mapping[str, str] | None = None) -> Iterator[Subject]:
    """A builder to be checked; what was made for it goes at the end."""
    with tempfile.TemporaryDirectory(prefix="imagesmith-conformance-") as folder:
        subject = Subject(builder, Path(folder).resolve(), env)
        try:
            yield subject
        finally:
            subject.close()


def judge(check: Check, subject: Subject, expected: str | None = None) -> Outcome:
    """Make one check. Never raises but for an interrupt."""
    started = time.monotonic()

    def outcome(status: Status, message: str = "") -> Outcome:
        return Outcome(check, status, message, time.monotonic() - started)

    try:
        lacking = _lacking(check, subject.builder)
    except Exception as error:  # noqa: BLE001 - a stranger's code
        return outcome(Status.FAILED, f"the builder cannot be made: {type(error).__name__}: {error}")
    if lacking:
        return outcome(Status.SKIPPED, lacking)
    try:
        check.run(subject)
    except Skipped as reason:
        return outcome(Status.SKIPPED, str(reason))
    except AssertionError as failure:
        if expected is not None:
            return outcome(Status.EXPECTED, f"{expected}\n{failure}")
        return outcome(Status.FAILED, str(failure))
    except Exception as error:  # noqa: BLE001 - that is what the status is for
        return outcome(Status.ERROR, "".join(traceback.format_exception(error)).rstrip())
    if expected is not None:
        return outcome(Status.FIXED, f"declared as failing ({expected}), but it passes: take it out")
    return outcome(Status.PASSED)


def _lacking(check: Check, builder: Builder) -> str:
    """The features the check needs and the builder lacks, as a reason to skip it."""
    table = builder.features
    return "; ".join(
        f"{feature}: {table.get(feature, Support.IMPOSSIBLE).value}"
        for feature in Feature
        if feature in check.requires and table.get(feature) is not Support.FULL
    )
