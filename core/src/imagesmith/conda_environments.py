"""The conda environments of one build, one for each platform whose image needs one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imagesmith._frozen import FrozenMap
from imagesmith.base import python_mismatch, python_source
from imagesmith.builder import Feature, Support
from imagesmith.events import Message, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imagesmith.builder import BaseImage, Builder, CondaPackage, CondaTree
    from imagesmith.conda import Lock
    from imagesmith.events import Reporter
    from imagesmith.settings import Settings
    from imagesmith.spec import ImageSpec

__all__ = ["Environments", "shown", "solve_all"]


@dataclass(frozen=True, slots=True)
class Environments:
    """What was solved, by platform."""

    locks: Mapping[str, Lock] = field(default_factory=FrozenMap)

    def tree(self, platform: str) -> CondaTree | None:
        """The environment that a builder is told of."""
        return self.locks[platform].tree if platform in self.locks else None

    def python(self, platform: str) -> str | None:
        """The version of the python that is laid out; None where none is."""
        return self.locks[platform].tree.python if platform in self.locks else None

    def lay_out(self, platform: str, report: Reporter) -> None:
        """Write its files, if it has any. Raises CondaError."""
        if platform in self.locks:
            from imagesmith import conda  # noqa: PLC0415 - few builds need it

            conda.lay_out(self.locks[platform], report)

    @property
    def packages(self) -> tuple[CondaPackage, ...]:
        """Of all platforms, none twice."""
        return tuple(dict.fromkeys(each for lock in self.locks.values() for each in lock.tree.packages))


def shown(spec: ImageSpec, builder: Builder, base: BaseImage, settings: Settings) -> CondaTree | None:
    """What would be asked for, without asking."""
    if not _lays_out(spec, builder, base):
        return None
    from imagesmith import conda  # noqa: PLC0415

    return conda.describe(spec, base, settings)


def solve_all(
    spec: ImageSpec,
    builder: Builder,
    bases: Mapping[str, BaseImage],
    settings: Settings,
    scratch: Path,
    report: Reporter,
) -> Environments:
    """Solve for each platform that needs it; the files will lie in ``scratch``. Raises as ``conda.solve``."""
    wanted = {platform: base for platform, base in bases.items() if _lays_out(spec, builder, base)}
    if not wanted:
        return Environments()
    from imagesmith import conda  # noqa: PLC0415

    report(Phase("solving", ", ".join(wanted)))
    found = {}
    for platform, base in wanted.items():
        if mismatch := python_mismatch(base, spec.python_version):
            report(Message(f"{mismatch}: another python is laid out"))
        lock = conda.solve(spec, platform, base, settings, report)
        found[platform] = conda.placed(lock, scratch / f"conda-{platform.replace('/', '-')}")
    return Environments(FrozenMap(found))


def _lays_out(spec: ImageSpec, builder: Builder, base: BaseImage) -> bool:
    """Whether the core lays out this image's python. A builder that cannot copy it has its own refusals."""
    able = builder.features.get(Feature.CONDA_PACKAGES) is Support.FULL
    return able and python_source(spec, base) == "conda"
