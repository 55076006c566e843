"""Archives whose bytes depend on what is put in only (no clock, no umask, no version of Python), and
layers made of them."""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import TYPE_CHECKING, BinaryIO, Protocol

from imagesmith.stores import LayerFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "EXECUTABLE",
    "FOLDER",
    "MTIME",
    "PLAIN",
    "Compressor",
    "LayerSink",
    "TarWriter",
    "compressor",
    "walk",
    "write_file",
    "write_tree",
]

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


class Compressor(Protocol):
    """As of ``zlib.compressobj``."""

    def compress(self, data: bytes, /) -> bytes:
        """What there is to write already."""

    def flush(self) -> bytes:
        """The rest."""


def compressor(compression: str) -> Compressor | None:
    """For ``gzip`` and ``zstd`` (which needs the package zstandard); None for no compression."""
    if not compression:
        return None
    if compression == "gzip":
        return zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    import zstandard  # noqa: PLC0415

    return zstandard.ZstdCompressor(level=3).compressobj()


class LayerSink:
    """Hashes what comes, compresses it, hashes that and writes it; in pieces that are worth the calls."""

    def __init__(self, write: Callable[[bytes], object], compressor: Compressor | None) -> None:
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256() if compressor else self._plain
        self._size = 0
        self._write = write
        self._compressor = compressor
        self._waiting: list[bytes] = []
        self._held = 0

    def write(self, data: bytes) -> None:
        """The archive's next bytes."""
        self._waiting.append(data)
        self._held += len(data)
        if self._held >= _CHUNK:
            self._pass_on()

    def close(self, path: Path, compression: str) -> LayerFile:
        """The layer that was written to ``path``. ``compression``: as media types name it; may be empty."""
        self._pass_on()
        if self._compressor:
            self._out(self._compressor.flush())
        return LayerFile(
            f"sha256:{self._packed.hexdigest()}",
            f"sha256:{self._plain.hexdigest()}",
            self._size,
            f"application/vnd.oci.image.layer.v1.tar{compression and f'+{compression}'}",
            path,
        )

    def _pass_on(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._held = [], 0
        self._plain.update(data)
        self._out(self._compressor.compress(data) if self._compressor else data)

    def _out(self, data: bytes) -> None:
        if data:
            if self._compressor:
                self._packed.update(data)
            self._size += len(data)
            self._write(data)


def write_tree(tar: TarWriter, source: Path, top: str) -> None:
    """A folder as it lies there, at ``top``; the folder itself is not described."""
    for inner, entry in walk(source):
        target = f"{top}/{inner}" if top else inner
        if entry.is_symlink():
            tar.link(target, os.readlink(entry.path))  # noqa: PTH115 - bytes as they are
        elif entry.is_dir():
            tar.folder(target)
        else:
            write_file(tar, target, entry)


def write_file(tar: TarWriter, target: str, entry: os.DirEntry[str]) -> None:
    """A file as it lies there, executable or not."""
    with open(entry.path, "rb") as stream:  # noqa: PTH123 - thousands of these
        told = os.fstat(stream.fileno())
        mode = EXECUTABLE if told.st_mode & 0o100 else PLAIN
        tar.stream(target, stream, told.st_size, mode)


def walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a folder with its path relative to it, in an order that no file system decides."""

    def inner(path: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            name = prefix + entry.name
            yield name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from inner(entry.path, f"{name}/")

    return inner(str(folder), "")


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
