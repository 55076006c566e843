"""Buildpacks that are lent to a builder: ours, and folders that the options name."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import UsageError
from imagesmith_buildpacks.families import Member

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FINISH", "PACKAGES", "Lent", "from_folders", "own"]

FINISH = "finish"
"""the last of every group: says what layers need at start, and leaves no file of the application"""
PACKAGES = "packages"
"""installs packages for the python of a conda environment"""


@dataclass(frozen=True, slots=True)
class Lent:
    """A buildpack in a folder of this machine."""

    member: Member
    folder: Path

    @property
    def place(self) -> str:
        """Where it lies among the builder's own buildpacks."""
        return f"{self.member.id.replace('/', '_')}/{self.member.version}"


def own(name: str) -> Lent:
    """One of ours."""
    return _read(Path(__file__).parent / "buildpacks" / name)


def from_folders(names: Sequence[str], root: Path) -> tuple[Lent, ...]:
    """Those of folders; relative ones start from ``root``. Raises UsageError where one is no buildpack."""
    return tuple(_read(root / name) for name in names)


def _read(folder: Path) -> Lent:
    file = folder / "buildpack.toml"
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))["buildpack"]
        member = Member(str(told["id"]), str(told["version"]))
    except OSError as error:
        raise UsageError(
            f"builder_options['buildpacks']: {folder} is no buildpack: {file.name}: {error.strerror}",
            hint="name a folder with a buildpack.toml, bin/detect and bin/build",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"builder_options['buildpacks']: {file} names no id and version: {error}",
            hint='it starts with api = "0.10" and [buildpack] id = … version = …',
        ) from error
    return Lent(member, folder)
