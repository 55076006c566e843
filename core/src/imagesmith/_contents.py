"""Reading, hashing and copying single files: the only place that opens what enters an image."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path

__all__ = ["ReadError", "copy", "digest", "hand_over", "make_folder", "read_link", "settle_folders", "write"]

_CHUNK: Final = 1 << 20
# A file that was swapped for a link or a pipe since it was listed is refused, and opening it does not hang.
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TIME: Final = 315_619_200 * 10**9
"""1980-01-02, in nanoseconds: the earliest day that every archive format can hold in every time zone"""
_SECOND: Final = 10**9


class ReadError(Exception):
    """What should enter the image cannot be read (as against: the copy cannot be written)."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def digest(kind: str, origin: str) -> str:
    """``file:SHA256``, ``exec:SHA256``, ``link:SHA256`` (of the target's text) or ``dir``.

    Raises ReadError.
    """
    if kind == "dir":
        return "dir"
    if kind == "link":
        return read_link(origin)[1]
    opened, kind = _open(origin)
    try:
        hashed = hashlib.sha256()
        for data in _chunks(opened):
            hashed.update(data)
    finally:
        os.close(opened)
    return f"{kind}:{hashed.hexdigest()}"


def copy(kind: str, origin: str, target: Path) -> str:
    """Copy ``origin`` to ``target`` and return the digest of what was written.

    Raises ReadError when the origin cannot be read, OSError when the target cannot be written.
    """
    if kind == "dir":
        make_folder(target)
        return "dir"
    if kind == "link":
        text, found = read_link(origin)
        target.symlink_to(text)
        os.utime(target, ns=(_TIME, _TIME), follow_symlinks=False)
        return found
    opened, kind = _open(origin)
    try:
        hashed = hashlib.sha256()
        with target.open("xb", buffering=0) as copied:
            for data in _chunks(opened):
                hashed.update(data)
                rest = memoryview(data)
                while rest:
                    rest = rest[copied.write(rest) :]
            os.fchmod(copied.fileno(), 0o755 if kind == "exec" else 0o644)
            os.utime(copied.fileno(), ns=_times(hashed.hexdigest()))
    finally:
        os.close(opened)
    return f"{kind}:{hashed.hexdigest()}"


def hand_over(origin: str, take: Callable[[BinaryIO, int, bool], object]) -> str:
    """Let ``take`` read a file: a stream, its size, whether it is executable. The digest of what it read.

    Raises ReadError; what ``take`` raises of a file that has another size by now is one, too.
    """
    opened, kind = _open(origin)
    with open(opened, "rb", buffering=0) as file:  # noqa: PTH123
        hashed = _Hashed(file)
        try:
            take(cast("BinaryIO", hashed), os.fstat(opened).st_size, kind == "exec")
        except EOFError as error:
            raise ReadError(OSError(0, "it changed while it was read")) from error
    return f"{kind}:{hashed.digest.hexdigest()}"


class _Hashed:
    """A stream of which is hashed what is read."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        try:
            data = self._file.read(size) or b""
        except OSError as error:
            raise ReadError(error) from error
        self.digest.update(data)
        return data


def write(target: Path, text: str) -> None:
    """A text file of our own making. Raises OSError."""
    data = text.encode()
    target.write_bytes(data)
    target.chmod(0o644)
    os.utime(target, ns=_times(hashlib.sha256(data).hexdigest()))


def _times(digest: str) -> tuple[int, int]:
    """Access and modification time of a staged file. The content decides the part below a second.

    An engine takes a file of the same size and time for the one it got before: an edit that keeps the
    size would never reach the image. Layers hold whole seconds, so nothing of it is seen there.
    """
    time = _TIME + int(digest, 16) % _SECOND
    return time, time


def make_folder(path: Path) -> None:
    """A folder that every user can read. Raises OSError."""
    path.mkdir(exist_ok=True, parents=True)
    path.chmod(0o755)


def settle_folders(top: Path) -> None:
    """Give all folders below ``top`` the time that the files have; the last step, for writing changes it."""
    for folder, _, _ in os.walk(top):
        os.utime(folder, ns=(_TIME, _TIME))


def read_link(origin: str) -> tuple[str, str]:
    """Where a link leads, and the digest of that. Raises ReadError."""
    try:
        text = os.readlink(origin)  # noqa: PTH115 - pathlib changes some texts
        return text, "link:" + hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise ReadError(OSError(0, "what it links to is not UTF-8")) from error
    except OSError as error:
        raise ReadError(error) from error


def _open(origin: str) -> tuple[int, str]:
    """A descriptor of a regular file, and ``file`` or ``exec``."""
    try:
        opened = os.open(origin, _FLAGS)
    except OSError as error:
        raise ReadError(error) from error
    mode = os.fstat(opened).st_mode
    if stat.S_ISREG(mode):
        return opened, "exec" if mode & stat.S_IXUSR else "file"
    os.close(opened)
    raise ReadError(OSError(0, "it is no regular file any more"))


def _chunks(opened: int) -> Iterator[bytes]:
    try:
        while data := os.read(opened, _CHUNK):
            yield data
    except OSError as error:
        raise ReadError(error) from error
