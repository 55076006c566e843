"""What the readers of lock files share: pins, markers, and whether a lock is for this image. Pure."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from packaging.markers import InvalidMarker, Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from imagesmith.errors import SourceError
from imagesmith.spec import DEFAULT_PYTHON

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from imagesmith.spec import ImageSpec

__all__ = [
    "Locked", "Pin", "check_environments", "check_python", "editable_note", "git_url", "local_path",
    "marker_of", "parse", "read_text", "with_marker",
]  # fmt: skip

_TRUE: Final = 'python_version >= "0"'
_FALSE: Final = 'python_version < "0"'
_CHOICE: Final = re.compile(
    r'"(?P<member>[^"]*)" (?P<without>not )?in (?P<set>extras|dependency_groups)'
    r'|(?<!\w)extra (?P<op>[!=]=) "[^"]*"'
)
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned package."""

    requirement: str
    """as in a requirements file, with its marker; paths start from the lock file's folder"""
    hashes: tuple[str, ...] = ()
    """``ALGORITHM:HEX`` of each file that may be installed; none where nothing can be hashed"""


@dataclass(frozen=True, slots=True)
class Locked:
    """What a lock file gives."""

    pins: tuple[Pin, ...]
    basis: str
    """what the digest is made of: the lock file, and what else takes part"""
    notes: tuple[str, ...] = ()


def read_text(file: Path, shown: str) -> str:
    """The text of a TOML file, line ends normalised. Raises SourceError."""
    try:
        return file.read_bytes().decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{shown}: byte {error.start} is not UTF-8", hint="write the lock file again with its own tool"
        ) from error
    except OSError as error:
        raise SourceError(
            f"requirements: {shown} cannot be read: {error.strerror}",
            hint="relative paths start from the spec's root",
        ) from error


def parse(text: str, shown: str) -> dict[str, Any]:
    """The tables of a TOML file. Raises SourceError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SourceError(
            f"{shown}: not valid TOML: {error}", hint="write the lock file again with its own tool"
        ) from error


def with_marker(requirement: str, marker: str | None) -> str:
    """The requirement with its marker behind it, so that a URL or path before it ends in a space."""
    return f"{requirement} ; {marker}" if marker else requirement


def marker_of(name: str, marker: str | None, shown: str, groups: Collection[str] = ()) -> str | bool:
    """What is left of a package's marker when no extra and these dependency groups are chosen.

    True where nothing is left to ask the image's python, False where the package is left out.
    Raises SourceError.
    """
    if marker is None:
        return True
    names = {_canonical(each) for each in groups}

    def decided(found: re.Match[str]) -> str:
        if found["set"]:
            inside = found["set"] == "dependency_groups" and _canonical(found["member"]) in names
            return _TRUE if inside != bool(found["without"]) else _FALSE
        return _TRUE if found["op"] == "!=" else _FALSE

    try:
        left = _CHOICE.sub(decided, str(Marker(marker)))
    except InvalidMarker as error:
        raise SourceError(
            f"{shown}: {name}: {str(error).splitlines()[0]}",
            hint="write the lock file again with its own tool",
        ) from error
    if '"' in left.replace(_TRUE, "").replace(_FALSE, ""):
        return left
    return Marker(left).evaluate()


def git_url(url: str, commit: str, subdirectory: str | None) -> str:
    """The address of a commit as installers read it; ``user@host:path`` becomes a URL."""
    address = re.sub(r"^([^@/:]+@[^:/]+):(?!//)", r"ssh://\1/", url).removeprefix("git+")
    return f"git+{address}@{commit}" + (f"#subdirectory={subdirectory}" if subdirectory else "")


def editable_note(path: str, shown: str) -> str:
    """What to tell of an editable install: its folder is not there any more when the image runs."""
    return f"{shown}: {path} is installed as a regular package, not an editable one"


def local_path(path: str) -> str:
    """A path that cannot be taken for the name of a package."""
    return path if path.startswith(("/", ".")) else f"./{path}"


def check_python(requires: str | None, shown: str, spec: ImageSpec) -> None:
    """Raise SourceError when the lock file is not for the python that the spec asks for."""
    asked = _asked(spec)
    if requires is None or asked is None:
        return
    try:
        allowed = SpecifierSet(requires)
    except InvalidSpecifier:
        return  # Poetry's own signs (^3.11): the installer asks each package itself
    if not any(allowed.contains(version, prereleases=True) for version in _full(asked)):
        raise SourceError(
            f"{shown}: it is for python {requires}, the image gets python {asked}",
            hint="set python_version to one it is for, or lock again",
        )


def check_environments(markers: Iterable[str], shown: str, spec: ImageSpec) -> None:
    """Raise SourceError when no environment that the lock file names is the image's."""
    markers, asked = list(markers), _asked(spec)
    if not markers or asked is None:
        return
    for platform in spec.platforms:
        system = _environments(platform, asked)
        if not any(Marker(marker).evaluate(each) for marker in markers for each in system):
            raise SourceError(
                f"{shown}: it is for no environment like the image's ({platform}, python {asked}): "
                + " | ".join(markers),
                hint="lock again with that environment among them",
            )


def _environments(platform: str, asked: str) -> list[dict[str, str]]:
    machine = platform.split("/")[1]
    fixed = {
        "os_name": "posix", "sys_platform": "linux", "platform_system": "Linux",
        "platform_machine": _MACHINES.get(machine, machine),
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
        "python_version": ".".join(asked.split(".")[:2]),
    }  # fmt: skip
    return [
        {**fixed, "python_full_version": version, "implementation_version": version}
        for version in _full(asked)
    ]


def _asked(spec: ImageSpec) -> str | None:
    """The python of the image, as far as the spec says it."""
    return spec.python_version or (DEFAULT_PYTHON if spec.base_image is None else None)


def _full(version: str) -> tuple[str, ...]:
    """The full versions that a version without its last part may stand for: the first and the last."""
    return (version,) if version.count(".") > 1 else (f"{version}.0", f"{version}.99")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
