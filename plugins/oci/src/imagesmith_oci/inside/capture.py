"""What a step wrote (the upper folder of an overlay) as a layer whose bytes depend on nothing else.

Times that lie before the start are content: packages bring them, and byte code of python fits its source
by them. Later ones are the time of day, and become one fixed time; byte code is told of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from imagesmith_oci.inside.unpack import OPAQUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Layer", "capture"]

_CAPABILITY = "security.capability"
_CHUNK = 1 << 20
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Layer:
    """What was written: sha256 and size of the archive, and how many entries it has."""

    sha256: str
    size: int
    entries: int


@dataclass(slots=True)
class _Sink:
    """A file that knows its own hash."""

    file: BinaryIO
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.hash.update(data)
        self.size += len(data)


def capture(upper: str, lowers: Sequence[str], target: BinaryIO, *, start: int, time: int) -> Layer:
    """Write the layer, and set the times in the folder as they are in it.

    Args:
        upper: the folder, with overlayfs's marks in it.
        lowers: the folders below, the topmost first.
        target: takes a plain tar.
        start: in nanoseconds, by the clock of the file system; later times are not content.
        time: in seconds, what these become.
    """
    sink, count = _Sink(target), 0
    seen: dict[tuple[int, int], str] = {}
    found = _Walk(os.fsencode(upper), [os.fsencode(lower) for lower in lowers])
    for path, about in found.entries():
        full = os.path.join(found.upper, path)
        settled = _settle(full, about, start, time)
        for entry in _entries(path, full, about, settled, seen):
            sink.write(entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
            count += 1
            if entry.isreg() and entry.size:
                _content(sink, full, entry.size)
    sink.write(bytes(2 * tarfile.BLOCKSIZE))
    return Layer(sink.hash.hexdigest(), sink.size, count)


class _Walk:
    """Paths relative to the upper folder, in a fixed order, each folder before what is in it."""

    def __init__(self, upper: bytes, lowers: Sequence[bytes]) -> None:
        self.upper = upper
        self.lowers = lowers

    def entries(self) -> Iterator[tuple[bytes, os.stat_result]]:
        yield from self._below(b"")

    def _below(self, folder: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
        for name in sorted(os.listdir(os.path.join(self.upper, folder))):
            path = os.path.join(folder, name)
            about = os.lstat(os.path.join(self.upper, path))
            if not stat.S_ISDIR(about.st_mode):
                if not stat.S_ISSOCK(about.st_mode):
                    yield path, about
                continue
            inside = self._below(path)
            first = next(inside, None)
            if first is None and self._unchanged(path, about):
                continue
            yield path, about
            if first is not None:
                yield first
                yield from inside

    def _unchanged(self, path: bytes, about: os.stat_result) -> bool:
        """Whether an empty folder is only here because something in it was looked for or came and went."""
        if _is_opaque(os.path.join(self.upper, path)):
            return False
        for lower in self.lowers:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                below = os.lstat(os.path.join(lower, path))
                same = (below.st_mode, below.st_uid, below.st_gid)
                return same == (about.st_mode, about.st_uid, about.st_gid)
        return False


def _is_opaque(path: bytes) -> bool:
    with contextlib.suppress(OSError):
        return os.getxattr(path, OPAQUE, follow_symlinks=False) == b"y"
    return False


def _settle(full: bytes, about: os.stat_result, start: int, time: int) -> int:
    """The time, in seconds, that the entry gets; the file gets it, too."""
    if stat.S_ISCHR(about.st_mode):  # the mark of a removed file has no time that means anything
        return time
    settled = about.st_mtime_ns // _SECOND if about.st_mtime_ns < start else time
    if stat.S_ISREG(about.st_mode) and full.endswith(b".pyc"):
        _settle_byte_code(full, start, time)
    os.utime(full, ns=(settled * _SECOND,) * 2, follow_symlinks=False)
    return settled


def _settle_byte_code(full: bytes, start: int, time: int) -> None:
    """Byte code holds the time of its source (flags 0), which gets another one by the same rule."""
    with open(full, "rb+", buffering=0) as file:
        head = file.read(12)
        if len(head) == 12 and head[2:4] == b"\r\n" and head[4:8] == bytes(4):
            held = int.from_bytes(head[8:12], "little")
            if held >= start // _SECOND:
                os.pwrite(file.fileno(), time.to_bytes(4, "little"), 8)


def _entries(
    path: bytes, full: bytes, about: os.stat_result, time: int, seen: dict[tuple[int, int], str]
) -> Iterator[tarfile.TarInfo]:
    """An entry, two for a folder that hides what lies below."""
    name = os.fsdecode(path)
    entry = tarfile.TarInfo(name)
    entry.uid, entry.gid, entry.mtime = about.st_uid, about.st_gid, time
    entry.mode = stat.S_IMODE(about.st_mode)
    kind = stat.S_IFMT(about.st_mode)
    if kind == stat.S_IFCHR and about.st_rdev == 0:
        yield _mark(os.path.join(os.path.dirname(name), f".wh.{os.path.basename(name)}"), time)
        return
    if kind == stat.S_IFDIR:
        entry.type = tarfile.DIRTYPE
        yield entry
        if _is_opaque(full):
            yield _mark(os.path.join(name, ".wh..wh..opq"), time)
        return
    inode = (about.st_dev, about.st_ino)
    if inode in seen:
        entry.type, entry.linkname = tarfile.LNKTYPE, seen[inode]
        yield entry
        return
    if about.st_nlink > 1:
        seen[inode] = name
    if kind == stat.S_IFLNK:
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(os.fsdecode(full)), 0o777
    elif kind == stat.S_IFIFO:
        entry.type = tarfile.FIFOTYPE
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        entry.devmajor, entry.devminor = os.major(about.st_rdev), os.minor(about.st_rdev)
    else:
        entry.size = about.st_size
        with contextlib.suppress(OSError):
            value = os.getxattr(full, _CAPABILITY)
            entry.pax_headers = {f"SCHILY.xattr.{_CAPABILITY}": value.decode("utf-8", "surrogateescape")}
    yield entry


def _mark(name: str, time: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime = time
    return entry


def _content(sink: _Sink, full: bytes, size: int) -> None:
    left = size
    with open(full, "rb", buffering=0) as file:
        while left:
            data = file.read(min(left, _CHUNK))
            if not data:
                raise OSError(5, "it became shorter while it was read", os.fsdecode(full))
            sink.write(data)
            left -= len(data)
    if size % tarfile.BLOCKSIZE:
        sink.write(bytes(-size % tarfile.BLOCKSIZE))
