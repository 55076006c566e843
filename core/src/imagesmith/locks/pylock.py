"""``pylock.toml``, the lock file of the Python packaging standards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.pylock import Package, Pylock, PylockValidationError

from imagesmith.errors import SourceError
from imagesmith.locks.pins import (
    Locked,
    Pin,
    check_environments,
    check_python,
    editable_note,
    git_url,
    local_path,
    marker_of,
    parse,
    with_marker,
)

if TYPE_CHECKING:
    from imagesmith.spec import ImageSpec

__all__ = ["read_pylock"]


def read_pylock(text: str, shown: str, spec: ImageSpec) -> Locked:
    """No extras and the default groups. Raises SourceError."""
    try:
        lock = Pylock.from_dict(parse(text, shown))
    except PylockValidationError as error:
        raise SourceError(f"{shown}: {error}", hint="write the lock file again with its own tool") from error
    check_python(str(lock.requires_python) if lock.requires_python else None, shown, spec)
    check_environments([str(marker) for marker in lock.environments or ()], shown, spec)
    pins, notes = [], []
    for package in lock.packages:
        left = marker_of(
            package.name, str(package.marker) if package.marker else None, shown, lock.default_groups or ()
        )
        if left is False:
            continue
        if package.directory is not None and package.directory.path in (".", "./"):
            notes.append(
                f"{shown}: the project itself ({package.name}) is not installed, only what it depends on: "
                "its files come with source_root or copy"
            )
            continue
        if package.directory is not None and package.directory.editable:
            notes.append(editable_note(package.directory.path, shown))
        requirement, hashes = _pinned(package, shown)
        pins.append(Pin(with_marker(requirement, left if isinstance(left, str) else None), hashes))
    return Locked(tuple(pins), text, tuple(notes))


def _pinned(package: Package, shown: str) -> tuple[str, tuple[str, ...]]:
    if (vcs := package.vcs) is not None:
        if vcs.type != "git" or vcs.url is None:
            what = f"a {vcs.type} repository" if vcs.type != "git" else "a repository on this machine"
            raise SourceError(
                f"{shown}: {package.name} comes from {what}, which the build cannot reach",
                hint="lock it from a git URL, or as a wheel",
            )
        return f"{package.name} @ {git_url(vcs.url, vcs.commit_id, vcs.subdirectory)}", ()
    if (directory := package.directory) is not None:
        inner = f"/{directory.subdirectory}" if directory.subdirectory else ""
        return local_path(directory.path + inner), ()
    if (archive := package.archive) is not None:
        hashes = tuple(f"{name}:{value}" for name, value in sorted(archive.hashes.items()))
        if archive.url is None:
            return local_path(archive.path or ""), hashes
        part = f"#subdirectory={archive.subdirectory}" if archive.subdirectory else ""
        return f"{package.name} @ {archive.url}{part}", hashes
    return _from_index(package, shown)


def _from_index(package: Package, shown: str) -> tuple[str, tuple[str, ...]]:
    files = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
    if all(file.url is None for file in files):
        raise SourceError(
            f"{shown}: the files of {package.name} lie on this machine ({files[0].path})",
            hint="lock it as an archive (NAME @ file:…), or from an index",
        )
    if package.version is None:
        raise SourceError(f"{shown}: {package.name} has no version", hint="lock it again")
    hashes = sorted({f"{name}:{value}" for file in files for name, value in file.hashes.items()})
    return f"{package.name}=={package.version}", tuple(hashes)
