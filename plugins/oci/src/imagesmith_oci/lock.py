"""What uv resolved, as a value: from its ``pylock.toml``, and to and from the cache."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Lock", "LockCache", "Package", "UnusableError", "read_pylock"]


class UnusableError(Exception):
    """A package cannot be had for this image; the text says which one and why."""


@dataclass(frozen=True, slots=True)
class Package:
    """One distribution, and where it is."""

    name: str
    version: str
    """empty for one that is only known once it is built"""
    file: str
    """the name of the wheel or source distribution; empty for a folder or repository"""
    url: str = ""
    """without credentials; empty for what was staged"""
    path: str = ""
    """relative to the folder of requirements, for what was staged"""
    sha256: str = ""
    """of the file, in hexadecimal digits"""
    size: int = 0
    """of the file, in bytes; 0 where nobody says"""
    commit: str = ""
    subdirectory: str = ""
    direct: bool = False
    """asked for by its address, not found in an index"""
    built: bool = False
    """a wheel that was made here, of source"""

    @property
    def is_wheel(self) -> bool:
        """Whether it need not be built."""
        return self.file.endswith(".whl")

    @property
    def shown(self) -> str:
        """For a log."""
        at = f" @ {self.commit}" if self.commit else ""
        digest = f" sha256:{self.sha256}" if self.sha256 else ""
        return f"{self.name} {self.version}{at}{digest}".replace("  ", " ")


@dataclass(frozen=True, slots=True)
class Lock:
    """All distributions of an image, by name."""

    packages: tuple[Package, ...]

    def to_json(self) -> str:
        """For the cache."""
        return json.dumps([asdict(package) for package in self.packages])

    @classmethod
    def from_json(cls, text: str) -> Lock:
        """What ``to_json`` wrote."""
        return cls(tuple(Package(**told) for told in json.loads(text)))

    def with_package(self, package: Package) -> Lock:
        """The same with another package of that name."""
        return replace(
            self, packages=tuple(package if each.name == package.name else each for each in self.packages)
        )


class LockCache:
    """A folder of locks by what decides them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Lock | None:
        """The lock of that key."""
        try:
            return Lock.from_json((self._folder / key).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return None

    def put(self, key: str, lock: Lock) -> None:
        """Keep it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{key}.new"
        draft.write_text(lock.to_json(), encoding="utf-8")
        draft.replace(self._folder / key)

    def forget(self, key: str) -> None:
        """It led to something that is not there any more."""
        (self._folder / key).unlink(missing_ok=True)


def read_pylock(text: str, tags: Sequence[str], hashes: Mapping[str, frozenset[str]]) -> Lock:
    """Choose a file for each package.

    Args:
        text: what uv wrote; paths in it start in a folder beside that of the requirements.
        tags: of wheels that fit, the best first.
        hashes: name -> the digests that the requirements allow.

    Raises:
        UnusableError: there is none that fits.
    """
    import tomllib  # noqa: PLC0415 - a known lock needs none

    order = {tag: number for number, tag in enumerate(tags)}
    found = [
        _package(entry, order, hashes.get(entry["name"])) for entry in tomllib.loads(text).get("packages", ())
    ]
    return Lock(tuple(sorted(found, key=lambda package: package.name)))


def _package(entry: dict[str, Any], order: dict[str, int], allowed: frozenset[str] | None) -> Package:
    name, version = entry["name"], str(entry.get("version", ""))
    if wheels := entry.get("wheels"):
        fitting = [(rank, wheel) for wheel in wheels if (rank := _rank(_file(wheel), order)) is not None]
        fitting.sort(key=lambda pair: (pair[0], _file(pair[1])))
        if allowed is not None:
            fitting = [pair for pair in fitting if pair[1].get("hashes", {}).get("sha256") in allowed]
            if not fitting:
                raise UnusableError(
                    f"{name} {version}: no wheel for this image has a hash that was asked for"
                )
        if fitting:
            return _told(name, version, fitting[0][1])
        if "sdist" not in entry:
            raise UnusableError(f"{name} {version}: none of its wheels fits this image")
    if sdist := entry.get("sdist"):
        return _told(name, version, sdist)
    if archive := entry.get("archive"):
        package = _told(name, version, archive, direct=True)
        if package.is_wheel and _rank(package.file, order) is None:
            raise UnusableError(f"{package.file} does not fit this image")
        return package
    if vcs := entry.get("vcs"):
        commit = str(vcs["commit-id"])
        inner = str(vcs.get("subdirectory", ""))
        return Package(name, version, "", url=vcs["url"], commit=commit, subdirectory=inner, direct=True)
    if folder := entry.get("directory"):
        return Package(name, version, "", path=_inner(folder["path"]), direct=True)
    raise UnusableError(f"{name} {version}: there is no file of it")


def _told(name: str, version: str, entry: dict[str, Any], *, direct: bool = False) -> Package:
    path = _inner(entry["path"]) if "path" in entry else ""
    return Package(
        name,
        version,
        _file(entry),
        url=entry.get("url", ""),
        path=path,
        sha256=entry.get("hashes", {}).get("sha256", ""),
        size=int(entry.get("size", 0)),
        subdirectory=str(entry.get("subdirectory", "")),
        direct=direct,
    )


def _inner(path: str) -> str:
    return path.removeprefix("../requirements/")


def _file(entry: dict[str, Any]) -> str:
    if entry.get("name"):
        return str(entry["name"])
    place = entry.get("path") or unquote(urlsplit(entry.get("url", "")).path)
    return str(place).rpartition("/")[2]


def _rank(file: str, order: dict[str, int]) -> int | None:
    """How well a wheel fits, less is better; None where it does not."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename  # noqa: PLC0415

    try:
        *_, tags = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return None
    return min((order[str(tag)] for tag in tags if str(tag) in order), default=None)
