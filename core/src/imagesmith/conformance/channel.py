"""A conda channel that the suite makes itself: tiny packages, and a python that lends the base's own."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["PREFIX", "TOOL", "make"]

PREFIX = "/placehold_placehold_placehold_placehold"
"""what stands in files for the folder that the environment is laid out for"""
TOOL = "conformance-tool"
_PYTHON = """#!/bin/sh
IFS=:
for each in $PATH; do
  if [ "$each" != /opt/conda/bin ] && [ -x "$each/python" ]; then
    unset IFS
    exec "$each/python" "$@"
  fi
done
exit 127
"""
"""The real ones weigh fifty megabytes. This one is told from the base's by where it stands."""


@dataclass(frozen=True, slots=True)
class _Package:
    name: str
    version: str
    files: Mapping[str, bytes | str]
    """path -> content, or text for the target of a link"""
    depends: tuple[str, ...] = ()
    replaced: tuple[str, ...] = field(default=())
    """files in which PREFIX stands"""


def make(folder: Path, python: str) -> Path:
    """A channel with ``python`` of that version, a ``pip`` that is none, and TOOL 1.0 and 2.0."""
    packages = [
        _Package("python", python, {"bin/python": _PYTHON.encode(), "bin/python3": "python"}),
        _Package("pip", "1.0", {"share/pip": b"not needed\n"}),
        *(_tool(version) for version in ("1.0", "2.0")),
    ]
    place = folder / "noarch"
    place.mkdir(parents=True)
    known = {}
    for package in packages:
        data, name = _archive(package), f"{package.name}-{package.version}-0.tar.bz2"
        (place / name).write_bytes(data)
        known[name] = {
            **_index(package), "sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
            "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        }  # fmt: skip
    repodata = {"info": {"subdir": "noarch"}, "packages": known, "packages.conda": {}, "repodata_version": 1}
    (place / "repodata.json").write_text(json.dumps(repodata), encoding="utf-8")
    for subdir in ("linux-64", "linux-aarch64"):
        (folder / subdir).mkdir()
        empty = {**repodata, "info": {"subdir": subdir}, "packages": {}}
        (folder / subdir / "repodata.json").write_text(json.dumps(empty), encoding="utf-8")
    return folder


def _tool(version: str) -> _Package:
    text = f"#!/bin/sh\necho {TOOL} {version} at {PREFIX}\n".encode()
    files: dict[str, bytes | str] = {
        f"bin/{TOOL}": text,
        f"bin/{TOOL}-link": TOOL,
        "share/conformance/two words/$x.txt": b"data\n",
    }
    return _Package(TOOL, version, files, ("python",), (f"bin/{TOOL}",))


def _index(package: _Package) -> dict[str, object]:
    return {
        "name": package.name, "version": package.version, "build": "0", "build_number": 0,
        "depends": list(package.depends), "subdir": "noarch", "noarch": "generic",
        "timestamp": 1_600_000_000_000,
    }  # fmt: skip


def _archive(package: _Package) -> bytes:
    paths = []
    for name, data in package.files.items():
        body = data.encode() if isinstance(data, str) else data
        entry: dict[str, object] = {
            "_path": name, "path_type": "softlink" if isinstance(data, str) else "hardlink",
            "sha256": hashlib.sha256(body).hexdigest(), "size_in_bytes": len(body),
        }  # fmt: skip
        if name in package.replaced:
            entry |= {"prefix_placeholder": PREFIX, "file_mode": "text"}
        paths.append(entry)
    info = {"index.json": _index(package), "paths.json": {"paths": paths, "paths_version": 1}}
    held: dict[str, bytes | str] = {
        **package.files,
        **{f"info/{name}": json.dumps(data).encode() for name, data in info.items()},
        "info/files": "".join(f"{name}\n" for name in package.files).encode(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in held.items():
            member = tarfile.TarInfo(name)
            member.mtime = 1_600_000_000
            if isinstance(data, str):
                member.type, member.linkname = tarfile.SYMTYPE, data
                archive.addfile(member)
            else:
                member.size, member.mode = len(data), 0o775 if name.startswith("bin/") else 0o664
                archive.addfile(member, io.BytesIO(data))
    return bz2.compress(buffer.getvalue(), 1)
