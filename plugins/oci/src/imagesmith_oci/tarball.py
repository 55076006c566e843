"""Archives whose bytes depend on what is put in only: on no clock, no umask, no version of Python."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXECUTABLE", "FOLDER", "MTIME", "PLAIN", "TarWriter"]

MTIME = 315_619_200
"""1980-01-02: with an older time zipfile refuses to pack the files, west of UTC also with 1980-01-01."""
PLAIN, EXECUTABLE, FOLDER = 0o644, 0o755, 0o755

_BLOCK = 512
_CHUNK = 1 << 18
_USTAR_NAME = 100
_USTAR_SIZE = 8**11
_END = bytes(2 * _BLOCK)


class TarWriter:
    """Entries in the order they are added; folders on the way to them come by themselves.

    Paths are relative to the root of the image, with no slash at either end. ``below``: the folders above
    and at these paths are made by whoever unpacks (they stand in the base, or are made anew with the usual
    mode), so that no entry changes a mode of the base's.
    """

    def __init__(self, write: Callable[[bytes], object], below: tuple[str, ...] = ()) -> None:
        self._write = write
        self._made: set[str] = {""}
        for path in below:
            parts = path.split("/")
            self._made.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))

    def folder(self, path: str, mode: int = FOLDER, uid: int = 0, gid: int = 0) -> None:
        """A folder, with those above it."""
        if path:
            self._parents(path)
        self._made.add(path)
        self._header(f"{path}/" if path else "./", b"5", mode, uid=uid, gid=gid)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._parents(path)
        self._header(path, b"2", 0o777, target=target)

    def whiteout(self, path: str) -> None:
        """Nothing stands at ``path`` any more."""
        head, slash, last = path.rpartition("/")
        self.data(f"{head}{slash}.wh.{last}", b"")

    def data(self, path: str, data: bytes, mode: int = PLAIN) -> None:
        """A file that fits in memory."""
        self._parents(path)
        self._header(path, b"0", mode, size=len(data))
        if data:
            self._write(data + bytes(-len(data) % _BLOCK))

    def stream(self, path: str, stream: BinaryIO, size: int, mode: int = PLAIN) -> None:
        """A file of exactly ``size`` bytes. Raises EOFError when the stream has more or fewer."""
        self._parents(path)
        self._header(path, b"0", mode, size=size)
        left = size
        while data := stream.read(_CHUNK):
            left -= len(data)
            if left < 0:
                break
            self._write(data)
        if left:
            raise EOFError(f"{path}: not the {size} bytes that were told")
        if size % _BLOCK:
            self._write(bytes(-size % _BLOCK))

    def close(self) -> None:
        """The end of the archive."""
        self._write(_END)

    def _parents(self, path: str) -> None:
        head = path.rpartition("/")[0]
        if head not in self._made:
            self._parents(head)
            self._made.add(head)
            self._header(f"{head}/", b"5", FOLDER)

    def _header(
        self,
        name: str,
        kind: bytes,
        mode: int,
        *,
        size: int = 0,
        target: str = "",
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        name_bytes, target_bytes = os.fsencode(name), os.fsencode(target)
        extended = b""
        for key, value in ((b"path", name_bytes), (b"linkpath", target_bytes)):
            if len(value) > _USTAR_NAME or not value.isascii():
                extended += _record(key, value)
        for key, number, limit in ((b"size", size, _USTAR_SIZE), (b"uid", uid, 8**7), (b"gid", gid, 8**7)):
            if number >= limit:
                extended += _record(key, str(number).encode())
        if extended:
            self._write(_ustar(b"././@PaxHeader", b"x", PLAIN, len(extended), b"", 0, 0))
            self._write(extended + bytes(-len(extended) % _BLOCK))
        self._write(
            _ustar(
                _plain(name_bytes),
                kind,
                mode,
                size % _USTAR_SIZE,
                _plain(target_bytes),
                uid % 8**7,
                gid % 8**7,
            )
        )


def _plain(text: bytes) -> bytes:
    """For readers that know no extended headers; the others take the whole name from there."""
    return bytes(byte if byte < 128 else 63 for byte in text[:_USTAR_NAME])


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH key=value``, where LENGTH counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(str(length)) + len(rest):
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _ustar(name: bytes, kind: bytes, mode: int, size: int, target: bytes, uid: int, gid: int) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, MTIME)
    tail = b"%b%bustar\x0000" % (kind, target.ljust(100, b"\0")) + bytes(64) + b"0000000\x000000000\0"
    summed = sum(head) + sum(tail) + 8 * 32
    return (head + b"%06o\0 " % summed + tail).ljust(_BLOCK, b"\0")
