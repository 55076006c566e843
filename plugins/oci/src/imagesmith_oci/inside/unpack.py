"""A layer as a folder that overlayfs takes for one of its own.

Each layer is unpacked alone, as engines with the classic store do it; marks of removed files become
overlayfs's. It is done with the folder as root, so that no link in a layer leads out of it.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
import tarfile
from typing import BinaryIO

__all__ = ["OPAQUE", "LayerError", "unpack"]

OPAQUE = "user.overlay.opaque"
"""The attribute of a folder that hides what lies below, where it is mounted with ``userxattr``."""

_MARK = ".wh."
_OPAQUE_MARK = ".wh..wh..opq"
_CAPABILITY = "security.capability"
_CHUNK = 1 << 20


class LayerError(Exception):
    """It cannot be unpacked here; the message says what and why."""


def unpack(stream: BinaryIO) -> None:
    """Unpack a plain tar into ``/``, an empty folder. Devices are left out, which nobody could open."""
    folders: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            while (entry := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                name = posixpath.normpath(f"/{entry.name}").lstrip("/")
                try:
                    _one(archive, entry, f"/{name}", folders)
                except OSError as error:
                    raise LayerError(_reason(entry, error)) from error
    except tarfile.TarError as error:
        raise LayerError(f"it is no tar archive: {error}") from error
    for path, time in reversed(folders.items()):
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, ns=time, follow_symlinks=False)


def _reason(entry: tarfile.TarInfo, error: OSError) -> str:
    if error.errno == 22:
        return f"{entry.name} belongs to {entry.uid}:{entry.gid}, and these ids were not lent to this user"
    return f"{entry.name}: {error}"


def _one(
    archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, folders: dict[str, tuple[int, int]]
) -> None:
    parent, base = posixpath.split(path)
    if base.startswith(_MARK):
        _parents(parent)
        _mark(parent, base)
        return
    if entry.isdev() and not entry.isfifo():
        return
    if path == "/":
        _dress(entry, path)
        folders[path] = _time(entry)
        return
    _parents(parent)
    hides = _clear(path, keep_folder=entry.isdir())
    if entry.isdir():
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        if hides:
            os.setxattr(path, OPAQUE, b"y")
    elif entry.issym():
        os.symlink(entry.linkname, path)
    elif entry.islnk():
        target = "/" + posixpath.normpath(f"/{entry.linkname}").lstrip("/")
        os.link(target, path, follow_symlinks=False)
        return
    elif entry.isfifo():
        os.mkfifo(path)
    else:
        _copy(archive, entry, path)
    _dress(entry, path)
    if entry.isdir():
        folders[path] = _time(entry)
    else:
        os.utime(path, ns=_time(entry), follow_symlinks=False)


def _parents(folder: str) -> None:
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o755, exist_ok=True)


def _mark(parent: str, base: str) -> None:
    if base == _OPAQUE_MARK:
        os.setxattr(parent, OPAQUE, b"y")
        return
    if base.startswith(f"{_MARK}{_MARK}"):
        return  # notes of other file systems
    path = posixpath.join(parent, base.removeprefix(_MARK))
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
    else:
        if stat.S_ISDIR(found.st_mode):  # the layer brings another one in its place
            os.setxattr(path, OPAQUE, b"y")


def _clear(path: str, *, keep_folder: bool) -> bool:
    """Make room. True when what stood there was the mark of a removed file."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        if not keep_folder:
            shutil.rmtree(path)
        return False
    os.unlink(path)
    return stat.S_ISCHR(found.st_mode)


def _copy(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> None:
    source = archive.extractfile(entry)
    if source is None:
        raise LayerError(f"{entry.name} is of an unknown kind")
    with source, open(path, "xb") as target:
        shutil.copyfileobj(source, target, _CHUNK)


def _dress(entry: tarfile.TarInfo, path: str) -> None:
    """Owner, mode and capabilities; in this order, since a change of owner takes away the others."""
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if not entry.issym():
        os.chmod(path, entry.mode & 0o7777)
    value = entry.pax_headers.get(f"SCHILY.xattr.{_CAPABILITY}")
    if value:
        os.setxattr(path, _CAPABILITY, value.encode("utf-8", "surrogateescape"))


def _time(entry: tarfile.TarInfo) -> tuple[int, int]:
    whole = int(entry.mtime * 1_000_000_000)
    return whole, whole
