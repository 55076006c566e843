"""Conformance: what every builder must do, as one catalogue of checks with three doors.

``check_builder("mine")`` returns a Report; ``class TestMine(BuilderConformance)`` runs the catalogue under
pytest; ``imagesmith conformance mine`` prints it. Needs the extra ``imagesmith[conformance]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagesmith.conformance._catalogue import Check, Tier, UnknownCheck, catalogue
    from imagesmith.conformance.judge import check_builder
    from imagesmith.conformance.plugin import BuilderConformance
    from imagesmith.conformance.report import Outcome, Report, Status

__all__ = [
    "BuilderConformance",
    "Check",
    "Outcome",
    "Report",
    "Status",
    "Tier",
    "UnknownCheck",
    "catalogue",
    "check_builder",
]

_HOMES = {
    "BuilderConformance": "plugin",
    "Check": "_catalogue",
    "Outcome": "report",
    "Report": "report",
    "Status": "report",
    "Tier": "_catalogue",
    "UnknownCheck": "_catalogue",
    "catalogue": "_catalogue",
    "check_builder": "judge",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
