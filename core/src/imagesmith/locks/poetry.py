"""``poetry.lock`` of Poetry 2: older ones do not say which group a package belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagesmith.errors import SourceError
from imagesmith.locks.pins import (
    Locked,
    Pin,
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

__all__ = ["read_poetry"]

_EXPORT = "poetry export --format requirements.txt --output requirements.txt"


def read_poetry(text: str, shown: str, spec: ImageSpec) -> Locked:
    """The main group, without extras. Raises SourceError."""
    tables = parse(text, shown)
    metadata, packages = tables.get("metadata", {}), tables.get("package", [])
    version = str(metadata.get("lock-version", "without a version"))
    if any("groups" not in package for package in packages):
        raise SourceError(
            f"{shown}: its format ({version}) does not say which group a package belongs to",
            hint=f"write it again with Poetry 2 (poetry lock), or export it and name that file: {_EXPORT}",
        )
    if version.split(".", maxsplit=1)[0] not in ("1", "2"):
        raise SourceError(
            f"{shown}: its format ({version}) is newer than what is known here (2.1)",
            hint=f"export it and name that file: {_EXPORT}",
        )
    check_python(metadata.get("python-versions"), shown, spec)
    pins: list[Pin] = []
    notes: list[str] = []
    for package in packages:
        if "main" not in package["groups"]:
            continue
        try:
            pins += _pin(package, shown)
        except KeyError as error:
            raise SourceError(
                f"{shown}: {package.get('name', 'a package')} has no {error.args[0]}",
                hint="write it again: poetry lock",
            ) from error
        if package.get("develop"):
            notes.append(editable_note(package["source"]["url"], shown))
    return Locked(tuple(pins), text, tuple(notes))


def _pin(package: dict[str, Any], shown: str) -> list[Pin]:
    """Nothing when it is for an extra only."""
    marker = package.get("markers")
    left = marker_of(package["name"], marker.get("main") if isinstance(marker, dict) else marker, shown)
    if left is False:
        return []
    requirement, hashed = _requirement(package, shown)
    hashes = sorted({file["hash"] for file in package["files"]}) if hashed else ()
    return [Pin(with_marker(requirement, left if isinstance(left, str) else None), tuple(hashes))]


def _requirement(package: dict[str, Any], shown: str) -> tuple[str, bool]:
    """As an installer reads it, and whether what it stands for can be hashed."""
    name, source = package["name"], package.get("source", {})
    kind = source.get("type", "legacy")
    part = source.get("subdirectory")
    if kind == "legacy":
        return f"{name}=={package['version']}", True
    if kind == "git":
        return f"{name} @ {git_url(source['url'], source['resolved_reference'], part)}", False
    if kind == "url":
        return f"{name} @ {source['url']}" + (f"#subdirectory={part}" if part else ""), True
    if kind in ("file", "directory"):
        return local_path(source["url"] + (f"/{part}" if part else "")), kind == "file"
    raise SourceError(
        f"{shown}: {name} comes from a source of the kind {kind!r}, which is not known here",
        hint=f"export it and name that file: {_EXPORT}",
    )
