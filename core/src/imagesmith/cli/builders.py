"""``imagesmith builders``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from imagesmith.builder import Feature, Support
from imagesmith.cli import options
from imagesmith.cli.targets import settings
from imagesmith.cli.terminal import answer, answer_json, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imagesmith.plugins import PluginRecord, Plugins
    from imagesmith.settings import Settings

__all__ = ["command"]


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    distribution: str
    version: str
    status: str
    summary: str = ""
    features: Mapping[Feature, Support] = field(default_factory=dict)
    problem: str | None = None


@click.command(
    "builders",
    short_help="List the builders that are installed, and what each can do.",
    epilog="Example: imagesmith builders --json",
)
@options.as_json
@options.debug
def command(*, as_json: bool) -> None:
    """List the builders that are installed, broken and blocked ones too, and what each can do."""
    from imagesmith.plugins import Plugins  # noqa: PLC0415

    found = settings()
    plugins = Plugins(blocked=found.blocked)
    rows = [_row(record, plugins, found) for record in plugins.survey()]
    if as_json:
        answer_json([_as_json(row) for row in rows])
        return
    if rows:
        answer("\n".join(_table(rows)))
    else:
        from imagesmith.plugins import DEFAULT_BUILDER  # noqa: PLC0415

        say(f"no builder is installed\n  hint: pip install imagesmith-{DEFAULT_BUILDER}")
    for row in rows:
        if row.problem:
            say(f"\n{row.name}: {row.problem}")


def _row(record: PluginRecord, plugins: Plugins, found: Settings) -> _Row:
    from imagesmith.pipeline import make_builder  # noqa: PLC0415
    from imagesmith.plugins import Blocked, Broken  # noqa: PLC0415
    from imagesmith.runner import SubprocessRunner  # noqa: PLC0415

    identity = (record.name, record.distribution, record.version)
    if isinstance(record, Blocked):
        return _Row(*identity, "blocked", problem="blocked by IMAGESMITH_BLOCKED_BUILDERS")
    if isinstance(record, Broken):
        return _Row(*identity, "broken", problem=str(record.error))
    try:
        features = make_builder(plugins, record.name, found, SubprocessRunner()).features
    except Exception as error:  # noqa: BLE001 - a stranger's code: it must not hide the others
        return _Row(*identity, "broken", record.entry.summary, problem=f"{type(error).__name__}: {error}")
    return _Row(*identity, "loaded", record.entry.summary, features)


def _table(rows: list[_Row]) -> Iterator[str]:
    cells = [("NAME", "DISTRIBUTION", "VERSION", "STATUS", "FEATURES")]
    cells += [(row.name, row.distribution, row.version, row.status, _features(row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _features(row: _Row) -> str:
    """Short: all but those it lacks."""
    if row.status != "loaded":
        return "-"
    lacking = {
        support: [str(feature) for feature in Feature if _support(row, feature) is support]
        for support in (Support.NOT_YET, Support.IMPOSSIBLE)
    }
    parts = [f"{support.value}: {', '.join(names)}" for support, names in lacking.items() if names]
    full = len(Feature) - sum(map(len, lacking.values()))
    return "; ".join([f"{full} of {len(Feature)}", *parts])


def _support(row: _Row, feature: Feature) -> Support:
    return row.features.get(feature, Support.IMPOSSIBLE)


def _as_json(row: _Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "distribution": row.distribution,
        "version": row.version,
        "status": row.status,
        "summary": row.summary,
        "features": {
            str(feature): _support(row, feature).value for feature in Feature if row.status == "loaded"
        },
        "problem": row.problem,
    }
