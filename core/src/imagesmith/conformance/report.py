"""What came out of each check; as text, JSON and JUnit's XML. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from imagesmith.conformance._catalogue import Check

__all__ = ["Outcome", "Report", "Status"]


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    EXPECTED = "expected"
    """it failed, as declared with a reason"""
    FIXED = "fixed"
    """it passed though a failure was declared: take the declaration out"""
    SKIPPED = "skipped"
    """it could not be made here, or the builder lacks a feature it needs"""
    ERROR = "error"
    """the suite's own fault, or this machine's"""


RED = frozenset({Status.FAILED, Status.FIXED, Status.ERROR})


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check's."""

    check: Check
    status: Status
    message: str
    """why: of a failure, a skip, an expectation; empty when it passed"""
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes for one builder."""

    builder: str
    """``NAME VERSION``"""
    suite: str
    """the version of imagesmith whose catalogue it is"""
    outcomes: tuple[Outcome, ...]

    @property
    def ok(self) -> bool:
        """Nothing failed that was not declared, nothing declared passed, the suite made no mistake."""
        return not any(outcome.status in RED for outcome in self.outcomes)

    def ids(self, *statuses: Status) -> set[str]:
        """The ids of the checks that ended so."""
        return {outcome.check.id for outcome in self.outcomes if outcome.status in statuses}

    @property
    def counts(self) -> dict[str, int]:
        """Status -> how many, without zeros."""
        counted = Counter(outcome.status for outcome in self.outcomes)
        return {str(status): counted[status] for status in Status if counted[status]}

    @property
    def seconds(self) -> float:
        """All checks together."""
        return sum(outcome.seconds for outcome in self.outcomes)

    def to_text(self) -> str:
        """A line for each check, then what failed in full, then the sum."""
        width = max((len(outcome.check.id) for outcome in self.outcomes), default=0)
        lines = [f"{self.builder}: conformance of imagesmith {self.suite}", ""]
        for outcome in self.outcomes:
            line = f"{outcome.status:8}  {outcome.check.id:{width}}  "
            short = outcome.status in {Status.SKIPPED, Status.EXPECTED}
            lines.append(line + (outcome.message.partition("\n")[0] if short else outcome.check.rule))
        for outcome in self.outcomes:
            if outcome.status in RED:
                lines += ["", f"{outcome.status} {outcome.check.id}: {outcome.check.rule}"]
                lines += [f"  {line}" for line in outcome.message.splitlines()]
        counts = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        lines += ["", f"{'conforms' if self.ok else 'DOES NOT CONFORM'}: {counts} in {self.seconds:.1f} s"]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """As plain data, for JSON."""
        return {
            "builder": self.builder,
            "suite": self.suite,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "counts": self.counts,
            "checks": [
                {
                    "id": outcome.check.id,
                    "tier": str(outcome.check.tier),
                    "rule": outcome.check.rule,
                    "since": outcome.check.since,
                    "status": str(outcome.status),
                    "message": outcome.message,
                    "seconds": round(outcome.seconds, 3),
                }
                for outcome in self.outcomes
            ],
        }

    def to_junit(self) -> str:
        """As JUnit's XML; an expected failure counts as skipped there."""
        counts = Counter(outcome.status for outcome in self.outcomes)
        suite = ET.Element(
            "testsuite",
            name=f"imagesmith conformance: {self.builder}",
            tests=str(len(self.outcomes)),
            failures=str(counts[Status.FAILED] + counts[Status.FIXED]),
            errors=str(counts[Status.ERROR]),
            skipped=str(counts[Status.SKIPPED] + counts[Status.EXPECTED]),
            time=f"{self.seconds:.3f}",
        )
        kinds = {
            Status.FAILED: "failure", Status.FIXED: "failure", Status.ERROR: "error",
            Status.SKIPPED: "skipped", Status.EXPECTED: "skipped",
        }  # fmt: skip
        for outcome in self.outcomes:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=f"{self.builder.partition(' ')[0]}.{outcome.check.tier}",
                name=outcome.check.id,
                time=f"{outcome.seconds:.3f}",
            )
            if kind := kinds.get(outcome.status):
                inner = ET.SubElement(case, kind, message=_xml(f"{outcome.status}: {outcome.check.rule}"))
                inner.text = _xml(outcome.message)
        ET.indent(suite)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"


def _xml(text: str) -> str:
    """Without what XML cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", text)
