"""A layer as it is stored, as a plain tar."""

from __future__ import annotations

import zlib
from typing import IO, TYPE_CHECKING, cast

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagesmith_oci.userns import Readable

__all__ = ["DAMAGED", "plain"]

DAMAGED = (zlib.error, zstandard.ZstdError, EOFError)
"""What ``plain`` raises for a layer that is damaged, or ends too early."""

_CHUNK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes((0x50 + low, 0x2A, 0x4D, 0x18)) for low in range(16))


def plain(stream: Readable) -> Iterator[bytes]:
    """The layer's bytes, uncompressed. The stream is read to its end.

    Raises:
        zlib.error, zstandard.ZstdError, EOFError: see ``DAMAGED``.
    """
    head = _fill(stream)
    if head.startswith(_GZIP):
        yield from _gunzip(head, stream)
    elif head.startswith((_ZSTD, *_SKIPPABLE)):
        source = cast("IO[bytes]", _Again(head, stream))  # only its read is used
        with zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True) as reader:
            while data := reader.read(_CHUNK):
                yield data
    else:
        while head:
            yield head
            head = stream.read(_CHUNK)


def _fill(stream: Readable) -> bytes:
    head = b""
    while len(head) < 4 and (data := stream.read(_CHUNK)):
        head += data
    return head


class _Again:
    """A stream and what was read from it."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = _CHUNK) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)


def _gunzip(data: bytes, stream: Readable) -> Iterator[bytes]:
    """Of any number of members."""
    member = zlib.decompressobj(wbits=31)
    while data:
        if member.eof:
            if not data.lstrip(b"\0"):  # padding
                data = stream.read(_CHUNK)
                continue
            member = zlib.decompressobj(wbits=31)
        out = member.decompress(data)
        if out:
            yield out
        data = member.unused_data or stream.read(_CHUNK)
    if not member.eof:
        raise EOFError("the layer ends too early")
