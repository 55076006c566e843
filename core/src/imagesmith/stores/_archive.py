"""Image archives of ``docker load`` and ``docker save``. Pure, but for reading a stream."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping

from imagesmith.stores._documents import (
    MANIFEST,
    children,
    descriptor,
    digest_of,
    encode,
    is_index,
    same_platform,
)

__all__ = ["classic_archive", "find_manifest", "layout_archive"]

JSON = Mapping[str, object]

_LARGEST_DOCUMENT = 4 * 1024 * 1024
"""Bytes; what is larger is no manifest (the limit that registries have)."""
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")


def classic_archive(config: bytes, layers: int) -> bytes:
    """For the classic store: a configuration whose layers the engine has already, so none is inside."""
    name = f"{digest_of(config).removeprefix('sha256:')}.json"
    manifest = [{"Config": name, "RepoTags": None, "Layers": [f"{n}/layer.tar" for n in range(layers)]}]
    return _tar({name: config, "manifest.json": json.dumps(manifest).encode("ascii")})


def layout_archive(manifest: bytes, config: bytes) -> bytes:
    """For the containerd store: an OCI layout without its layers, which the engine has already."""
    media_type = str(json.loads(manifest).get("mediaType") or MANIFEST)
    index = {"schemaVersion": 2, "manifests": [descriptor(media_type, manifest)]}
    blobs = {f"blobs/{digest_of(data).replace(':', '/')}": data for data in (manifest, config)}
    return _tar({"oci-layout": encode({"imageLayoutVersion": "1.0.0"}), "index.json": encode(index), **blobs})


def _tar(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def find_manifest(chunks: Iterable[bytes], digest: str, platform: str) -> JSON | None:
    """The manifest for ``platform`` under ``digest`` in an archive of the containerd store.

    The stream is read only as far as needed. Blobs stand in it in the order of their digests, so the
    manifest may come before the index that names it.
    """
    seen: dict[str, JSON] = {}
    with tarfile.open(fileobj=_Stream(iter(chunks)), mode="r|") as archive:
        for member in archive:
            named = _BLOB.fullmatch(member.name)
            content = archive.extractfile(member) if named and member.size <= _LARGEST_DOCUMENT else None
            if named is None or content is None:
                continue
            data = content.read()
            if data[:1] != b"{":
                continue
            document = json.loads(data)
            seen[f"sha256:{named[1]}"] = document
            found = _resolve(seen, digest, platform)
            if found is not None:
                return found
    return None


def _resolve(seen: Mapping[str, JSON], digest: str, platform: str) -> JSON | None:
    document = seen.get(digest)
    if document is None or not is_index(document):
        return document
    for name, child in children(document):
        if not name or same_platform(name, platform):
            return _resolve(seen, str(child.get("digest")), platform)
    return None


class _Stream(io.RawIOBase):
    """Chunks of bytes as a readable file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        end = len(data) if size < 0 else size
        self._rest = data[end:]
        return data[:end]
