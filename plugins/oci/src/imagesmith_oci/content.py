"""The layers that are not packages: work directory and source, imagesmith's own modules, conda packages."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith.files_layer import write_source
from imagesmith.tarball import EXECUTABLE, FOLDER, PLAIN, TarWriter, walk
from imagesmith_oci.basefacts import Facts, place

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from imagesmith import CondaTree
    from imagesmith.sources import Staged

__all__ = ["CondaPart", "conda_parts", "digests", "ways", "write_conda", "write_files"]

WORKDIR_MODE = 0o775


def ways(path: str) -> tuple[str, ...]:
    """For ``TarWriter``: folders above ``path`` are not ours to describe."""
    head = path.strip("/").rpartition("/")[0]
    return (head,) if head else ()


def write_files(tar: TarWriter, staged: Staged, workdir: str, owner: int, facts: Facts) -> None:
    """The work directory, of the final user, and what was staged for it.

    Links of the base that lead to folders are followed, not replaced, and its folders keep their modes.
    """
    top = place(facts, workdir)
    tar.folder(top, WORKDIR_MODE, owner, 0)
    write_source(
        tar,
        staged,
        top,
        real=functools.partial(_real, facts),
        folder=lambda target: _write_folder(tar, target, facts),
    )


def _write_folder(tar: TarWriter, target: str, facts: Facts) -> None:
    if target not in facts.links:
        path = place(facts, target)
        tar.folder(path, *facts.folders.get(path, (FOLDER, 0, 0)))


def _real(facts: Facts, path: str) -> str:
    """With the links of the base followed in its folders, not in its last part."""
    head, slash, last = path.rpartition("/")
    return f"{place(facts, head)}/{last}" if slash else last


@dataclass(frozen=True, slots=True)
class CondaPart:
    """A package of a conda environment, with what lies in the environment because of it."""

    name: str
    identity: tuple[str, ...]
    """all that decides its files"""
    files: tuple[str, ...]
    """relative to the environment"""
    size: int
    """bytes, laid out"""


def conda_parts(tree: CondaTree) -> tuple[CondaPart, ...]:
    """The environment by package; the last part is what belongs to none."""
    folder = tree.folder
    if folder is None:
        raise ValueError("this environment is only described")
    known = {package.name: package for package in tree.packages}
    rest = dict.fromkeys(inner for inner, entry in walk(folder) if entry.is_symlink() or not entry.is_dir())
    parts = []
    for record in sorted((folder / "conda-meta").glob("*.json")):
        told = json.loads(record.read_text(encoding="utf-8"))
        package = known.get(str(told.get("name")))
        if package is None:
            continue
        own = [inner for inner in (*told.get("files", ()), f"conda-meta/{record.name}") if inner in rest]
        for inner in own:
            del rest[inner]
        identity = (
            package.name, package.version, package.build, package.sha256 or package.url, tree.python or "",
            *own,
        )  # fmt: skip
        size = sum((folder / inner).lstat().st_size for inner in own)
        parts.append(CondaPart(package.name, identity, tuple(sorted(own)), size))
    parts.append(CondaPart("", (), tuple(rest), sum((folder / inner).lstat().st_size for inner in rest)))
    return tuple(parts)


def write_conda(tar: TarWriter, folder: Path, top: str, parts: tuple[CondaPart, ...]) -> None:
    """The files of some packages, and where they are alone, the folders that have none."""
    for inner in sorted({inner for part in parts for inner in part.files}):
        path = folder / inner
        target = f"{top}/{inner}"
        if path.is_symlink():
            tar.link(target, str(path.readlink()))
            continue
        with path.open("rb") as stream:
            told = os.fstat(stream.fileno())
            tar.stream(target, stream, told.st_size, EXECUTABLE if told.st_mode & 0o100 else PLAIN)


def digests(folder: Path, names: Iterable[str]) -> list[str]:
    """Of files and links, in that order."""
    found = []
    for name in names:
        path = folder / name
        if path.is_symlink():
            found.append(f"link:{path.readlink()}")
        else:
            with path.open("rb") as stream:
                mode = "exec" if os.fstat(stream.fileno()).st_mode & 0o100 else "file"
                found.append(f"{mode}:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
    return found
