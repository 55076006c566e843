"""Layers: written once, through the compressor into a file of the cache, and known again by a key.

A key says everything that decides a layer's bytes, so a layer that is known is not even thought about.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from imagesmith.stores import LayerFile
from imagesmith.tarball import LayerSink, TarWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagesmith.tarball import Compressor

__all__ = ["Compression", "LayerCache", "key_of"]

Compression: TypeAlias = Literal["zstd", "gzip"]

FORMAT = 1
"""Another one where the same key would make other bytes than before."""
_ZSTD_LEVEL, _GZIP_LEVEL = 3, 6
_CHUNK = 1 << 18


def key_of(*parts: object) -> str:
    """A key of values that JSON can say."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


class LayerCache:
    """A folder of finished layers. Several processes may use it at once."""

    def __init__(self, folder: Path, compression: Compression = "zstd") -> None:
        self._folder = folder
        self._compression = compression
        self._by = _stated(compression)

    def get(self, key: str) -> LayerFile | None:
        """The layer of that key, if it was made here before."""
        try:
            told = json.loads(self._note(key).read_text(encoding="utf-8"))
            path = self._file(key)
            if path.stat().st_size != told["size"]:
                return None
            os.utime(path)
            return LayerFile(**told, path=path)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def make(self, key: str, fill: Callable[[TarWriter], None], below: tuple[str, ...] = ()) -> LayerFile:
        """Write the layer: ``fill`` puts entries into the archive. See ``TarWriter`` for ``below``."""

        def write(sink: LayerSink) -> None:
            archive = TarWriter(sink.write, below)
            fill(archive)
            archive.close()

        return self._written(key, write)

    def pack(self, key: str, archive: Path | None) -> LayerFile:
        """The layer of an archive that is written; None: remember by one of size 0 that there is none."""
        if archive is None:
            empty = LayerFile("", "", 0, "", self._file(key))
            empty.path.parent.mkdir(parents=True, exist_ok=True)
            empty.path.touch()
            self._note_down(key, empty)
            return empty

        def write(sink: LayerSink) -> None:
            with archive.open("rb") as stream:
                while data := stream.read(_CHUNK):
                    sink.write(data)

        return self._written(key, write)

    def _written(self, key: str, write: Callable[[LayerSink], None]) -> LayerFile:
        path = self._file(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _draft(path) as (draft, file):
            sink = LayerSink(file.write, _compressor(self._compression))
            write(sink)
            layer = sink.close(path, self._compression)
            file.flush()
            draft.replace(path)
        self._note_down(key, layer)
        return layer

    def _note_down(self, key: str, layer: LayerFile) -> None:
        told = {name: getattr(layer, name) for name in ("digest", "diff_id", "size", "media_type")}
        note = self._note(key)
        with _draft(note) as (draft, file):
            file.write(json.dumps(told).encode() + b"\n")
            draft.replace(note)

    def _file(self, key: str) -> Path:
        return self._folder / self._by / f"{key}.tar.{'zst' if self._compression == 'zstd' else 'gz'}"

    def _note(self, key: str) -> Path:
        return self._folder / self._by / f"{key}.json"


def _stated(compression: Compression) -> str:
    """Compressor, its version and its level: all that decides the bytes it makes."""
    if compression == "zstd":
        import zstandard  # noqa: PLC0415 - one of the two is needed

        library = ".".join(map(str, zstandard.ZSTD_VERSION))
        return f"zstd-{library}-{_ZSTD_LEVEL}"
    from zlib_ng import zlib_ng  # noqa: PLC0415

    return f"gzip-{zlib_ng.ZLIBNG_VERSION}-{_GZIP_LEVEL}"


def _compressor(compression: Compression) -> Compressor:
    if compression == "zstd":
        import zstandard  # noqa: PLC0415

        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
    from zlib_ng import zlib_ng  # noqa: PLC0415

    made: Compressor = zlib_ng.compressobj(_GZIP_LEVEL, zlib_ng.DEFLATED, 16 + zlib_ng.MAX_WBITS)
    return made


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[tuple[Path, tempfile._TemporaryFileWrapper[bytes]]]:
    """A file beside ``path``, for all to read, that is gone afterwards unless it was renamed."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".draft-", delete=False) as file:
        draft = Path(file.name)
        try:
            draft.chmod(0o644)
            yield draft, file
        finally:
            draft.unlink(missing_ok=True)
