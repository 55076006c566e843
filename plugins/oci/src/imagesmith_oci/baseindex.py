"""What is in a layer of a base, by name: read once as a stream, never unpacked, never run."""

from __future__ import annotations

import io
import json
import re
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["IndexCache", "LayerIndex", "Name", "UnreadableError", "read_layer"]

FORMAT = 1
_CHUNK = 1 << 16
_TEXTS = re.compile(r"etc/(passwd|group|os-release)|usr/lib/os-release|(.*/)?pyvenv\.cfg")
_LIBC = re.compile(r"(.*/)?libc(\.so\.6|-2\.\d+\.so)")
_GLIBC = re.compile(rb"GNU C Library [^\n]{0,80}release version (\d+)\.(\d+)")
_DPKG = re.compile(r"var/lib/dpkg/(status|status\.d/.+)")
_APK = re.compile(r"(usr/)?lib/apk/db/installed")
_TOLD = re.compile(r"libc6|musl|python3(\.\d+)?(-minimal)?")
_MOST = 1 << 26
"""bytes of a file that is looked into"""


class UnreadableError(Exception):
    """A layer is in a form that is not known; the text says which."""


class Readable(Protocol):
    """What gives bytes until there are none."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Name:
    """What stands under a name."""

    kind: str
    """``f`` file, ``d`` folder, ``l`` symbolic link"""
    target: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0


@dataclass(slots=True)
class LayerIndex:
    """One layer."""

    names: dict[str, Name] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    """what it takes away of the layers below"""
    opaque: list[str] = field(default_factory=list)
    """folders of which nothing below stays"""
    texts: dict[str, str] = field(default_factory=dict)
    """the content of a few files"""
    packages: dict[str, str] = field(default_factory=dict)
    """versions of the few packages that matter, as the distribution's package manager tells them"""
    glibc: dict[str, tuple[int, int]] = field(default_factory=dict)
    """path of a C library -> its version"""

    def to_json(self) -> str:
        """For the cache."""
        names = {
            path: [each.kind, each.target, each.mode, each.uid, each.gid] for path, each in self.names.items()
        }
        rest = (self.gone, self.opaque, self.texts, self.packages, self.glibc)
        return json.dumps([names, *rest])

    @classmethod
    def from_json(cls, text: str) -> LayerIndex:
        """What ``to_json`` wrote."""
        names, gone, opaque, texts, packages, glibc = json.loads(text)
        read = {path: Name(*told) for path, told in names.items()}
        found = {path: (version[0], version[1]) for path, version in glibc.items()}
        return cls(read, gone, opaque, texts, packages, found)


class IndexCache:
    """A folder of indexes by layer digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str, opened: Callable[[], AbstractContextManager[Readable]]) -> LayerIndex:
        """The index of a layer, read from ``opened()`` when it is not known.

        Raises:
            UnreadableError: it is in no known form.
        """
        file = self._folder / f"{digest.replace(':', '-')}-{FORMAT}"
        try:
            return LayerIndex.from_json(zlib.decompress(file.read_bytes()).decode())
        except (OSError, ValueError, TypeError, zlib.error):
            pass
        with opened() as stream:
            found = read_layer(stream)
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{id(found)}")
        draft.write_bytes(zlib.compress(found.to_json().encode(), 1))
        draft.replace(file)
        return found


def read_layer(stream: Readable) -> LayerIndex:
    """Read a layer to its end; memory does not grow with its size.

    Raises:
        UnreadableError: it is in no known form.
    """
    import tarfile  # noqa: PLC0415 - a base that is known needs none

    found = LayerIndex()
    plain = _Plain(stream)
    try:
        with tarfile.open(fileobj=plain, mode="r|", bufsize=_CHUNK, errorlevel=2) as archive:  # type: ignore[call-overload]
            for member in archive:
                _take(archive, member, found)
                archive.members = []  # it would keep them all
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise UnreadableError(f"a layer of the base cannot be read: {error}") from error
    while plain.read(_CHUNK):  # so that its digest is checked
        pass
    return found


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, found: LayerIndex) -> None:
    path = _clean(member.name)
    head, _, last = path.rpartition("/")
    if last == ".wh..wh..opq":
        found.opaque.append(head)
        return
    if last.startswith(".wh."):
        found.gone.append(f"{head}/{last[4:]}".lstrip("/"))
        return
    if not path:
        return
    kind = "d" if member.isdir() else "l" if member.issym() else "f"
    target = member.linkname if kind == "l" else ""
    found.names[path] = Name(kind, target, member.mode & 0o7777, member.uid, member.gid)
    if not member.isreg() or member.size > _MOST:
        if member.islnk() and (known := found.glibc.get(_clean(member.linkname))):
            found.glibc[path] = known
        return
    if _TEXTS.fullmatch(path):
        found.texts[path] = _content(archive, member).decode(errors="replace")
    elif _LIBC.fullmatch(path):
        if version := _GLIBC.search(_content(archive, member)):
            found.glibc[path] = (int(version[1]), int(version[2]))
    elif _DPKG.fullmatch(path):
        found.packages |= _versions(_lines(archive, member), "Package: ", "Version: ")
    elif _APK.fullmatch(path):
        found.packages |= _versions(_lines(archive, member), "P:", "V:")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""


def _lines(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[str]:
    file: IO[bytes] | None = archive.extractfile(member)
    for line in file or ():
        yield line.decode(errors="replace").rstrip("\n")


def _versions(lines: Iterator[str], name: str, version: str) -> dict[str, str]:
    found = {}
    current = ""
    for line in lines:
        if line.startswith(name):
            current = line.removeprefix(name)
        elif line.startswith(version) and _TOLD.fullmatch(current):
            found[current] = line.removeprefix(version)
    return found


def _clean(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in {"", "."})


class _Plain:
    """A compressed stream, read as what was compressed."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._first = stream.read(_CHUNK)
        self._ready = memoryview(b"")
        self._more = self._pieces()

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end."""
        pieces, held = [], 0
        while held < size:
            if not self._ready:
                piece = next(self._more, None)
                if piece is None:
                    break
                self._ready = memoryview(piece)
            part = self._ready[: size - held]
            self._ready = self._ready[len(part) :]
            pieces.append(part)
            held += len(part)
        return b"".join(pieces)

    def _raw(self) -> Iterator[bytes]:
        data, self._first = self._first, b""
        while data:
            yield data
            data = self._stream.read(_CHUNK)

    def _pieces(self) -> Iterator[bytes]:
        if self._first[:2] == b"\x1f\x8b":
            yield from self._gunzipped()
        elif self._first[:4] == b"\x28\xb5\x2f\xfd":
            yield from self._unzstd()
        elif self._first[257:262] == b"ustar" or not self._first.strip(b"\0"):
            yield from self._raw()
        else:
            raise UnreadableError(
                f"a layer of the base is compressed in a way that is not known: {self._first[:4]!r}"
            )

    def _gunzipped(self) -> Iterator[bytes]:
        from zlib_ng import zlib_ng  # noqa: PLC0415 - twice as fast as the standard library's

        made = zlib_ng.decompressobj(16 + zlib_ng.MAX_WBITS)
        try:
            for data in self._raw():
                rest = data
                while rest:
                    if made.eof:  # several members, one after the other
                        made = zlib_ng.decompressobj(16 + zlib_ng.MAX_WBITS)
                    yield made.decompress(rest, _CHUNK)
                    rest = made.unused_data if made.eof else made.unconsumed_tail
            yield made.flush()
        except zlib_ng.error as error:  # type: ignore[misc]
            raise UnreadableError(f"a layer of the base is damaged: {error}") from error

    def _unzstd(self) -> Iterator[bytes]:
        import zstandard  # noqa: PLC0415 - few bases need it

        pieces = cast("IO[bytes]", _Pieces(self._raw()))
        made = zstandard.ZstdDecompressor().stream_reader(pieces, read_across_frames=True)
        try:
            while data := made.read(_CHUNK):
                yield data
        except zstandard.ZstdError as error:
            raise UnreadableError(f"a layer of the base is damaged: {error}") from error


class _Pieces(io.RawIOBase):
    """Pieces as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ready = b""

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; none at the end."""
        data = self._ready or next(self._pieces, b"")
        self._ready = data[size:] if size >= 0 else b""
        return data[:size] if size >= 0 else data
