"""Entry points of what is installed, read from the files themselves: ``importlib.metadata`` loads the
standard library's mail, zip and CSV modules first, which takes longer than all else that looks for plugins.

Where the path of modules has more than folders on it, ``importlib.metadata`` is asked all the same.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Point", "entry_points"]


@dataclass(frozen=True, slots=True)
class Point:
    """An entry point, and the distribution that has it, as far as its metadata can be read."""

    name: str
    value: str
    distribution: str = ""
    version: str = ""

    def load(self) -> object:
        """Import what it names; raises whatever that raises."""
        module, _, attributes = self.value.partition("[")[0].strip().partition(":")
        names = [part for part in attributes.strip().split(".") if part]
        return reduce(getattr, names, import_module(module.strip()))


def entry_points(group: str) -> list[Point]:
    """Those of a group; of two distributions of one name, the one that would be imported."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    folders = [folder or os.curdir for folder in sys.path]
    usual = all(os.path.isdir(folder) or not os.path.exists(folder) for folder in folders)  # noqa: PTH110, PTH112
    if finders != [PathFinder] or not usual or any(folder.endswith(".egg") for folder in folders):
        return _told(group)
    seen: set[str] = set()
    return [point for folder in folders for point in _in(folder, group, seen)]


def _in(folder: str, group: str, seen: set[str]) -> Iterator[Point]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - half of what this module costs
    except OSError:
        return
    for name in names:
        stem, dot, kind = name.rpartition(".")
        if not dot or kind.lower() not in {"dist-info", "egg-info"}:
            continue
        project = stem.partition("-")[0].lower().replace(".", "_")
        if project in seen:
            continue
        seen.add(project)
        text = _text(f"{folder}/{name}/entry_points.txt")
        if f"[{group}]" in text:
            head = _text(f"{folder}/{name}/METADATA") or _text(f"{folder}/{name}/PKG-INFO")
            told = dict(line.partition(": ")[::2] for line in head.partition("\n\n")[0].splitlines()[:20])
            for key, value in _section(text, group):
                yield Point(key, value, told.get("Name", ""), told.get("Version", ""))


def _section(text: str, group: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _text(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            return stream.read()
    except OSError:
        return ""


def _told(group: str) -> list[Point]:
    from importlib import metadata  # noqa: PLC0415 - seldom needed, slow to load

    found = []
    for point in metadata.entry_points(group=group):
        try:
            dist = point.dist
            name, version = (dist.name, dist.version) if dist is not None else ("", "")
        except Exception:  # noqa: BLE001 - metadata that a stranger wrote: it must hide no other
            name, version = "", ""
        found.append(Point(point.name, point.value, name or "", version or ""))
    return found
