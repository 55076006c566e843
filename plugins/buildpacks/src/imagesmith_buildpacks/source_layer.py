"""The layer above what buildpacks made: work directory, source and copied files, the core's own modules.

A lifecycle gives all files of an application to one user and the folder to another than the program's;
so these come as a layer of their own, which the core's store takes as it is.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imagesmith import final_user
from imagesmith_buildpacks.archive import Owner, add_folder, add_tree

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith import BuildRequest

__all__ = ["RUNTIME", "Written", "work_owner", "write"]

RUNTIME = "/opt/imagesmith"


@dataclass(frozen=True, slots=True)
class Written:
    """A layer in a file."""

    path: Path
    digest: str
    """of the compressed file: ``sha256:…``"""
    diff_id: str
    """of what is in it: ``sha256:…``"""
    size: int
    """of the compressed file, in bytes"""


def work_owner(request: BuildRequest) -> str:
    """The user that the work directory belongs to, as the configuration names it."""
    return final_user(request).partition(":")[0]


def write(request: BuildRequest, path: Path, uid: int) -> Written:
    """Write the layer to ``path``; ``uid`` owns the work directory. Raises OSError."""
    staged = request.staged
    if staged.folder is None:
        raise ValueError("this plan was made for showing: its files are only listed")
    workdir = request.spec.workdir_or_default.strip("/")
    with path.open("wb") as file:
        packed = _Counting(file)
        with gzip.GzipFile(fileobj=packed, filename="", mode="wb", mtime=0, compresslevel=6) as plain:
            contents = _Counting(plain)
            with tarfile.open(fileobj=contents, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
                _folders(archive, workdir, uid)
                if staged.has_source:
                    add_tree(archive, staged.folder / "source", workdir)
                if staged.has_runtime:
                    add_folder(archive, RUNTIME.strip("/"))
                    add_tree(archive, staged.folder / "runtime", RUNTIME.strip("/"))
    return Written(path, packed.digest, contents.digest, packed.size)


def _folders(archive: tarfile.TarFile, workdir: str, uid: int) -> None:
    """The work directory itself; those above it come into being as they are unpacked, where they lack."""
    if workdir:
        add_folder(archive, workdir, Owner(uid, 0), mode=0o775)


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


class _Counting:
    """Passes bytes on and keeps account of them."""

    def __init__(self, file: _Writable) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
