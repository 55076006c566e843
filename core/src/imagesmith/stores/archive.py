"""Images as one tar file: an OCI layout with a ``manifest.json``, which every engine and tool can load."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith.stores._documents import MANIFEST, descriptor, digest_of, encode, reconfigured

if TYPE_CHECKING:
    from imagesmith.stores import StoredImage

__all__ = ["CANONICAL_NAME", "engine_archive", "listed_for_docker", "loaded_as", "tar_stream"]

CANONICAL_NAME = "io.containerd.image.name"
"""The annotation that names an image in the containerd store: written out, or nothing finds it there."""
LAYOUT = ("oci-layout", encode({"imageLayoutVersion": "1.0.0"}))
_BLOCK = 512
_CHUNK = 1 << 20

Member = tuple[str, bytes | Path]


def blob_name(digest: str) -> str:
    """Where a blob stands in a layout."""
    return f"blobs/{digest.replace(':', '/')}"


def engine_archive(image: StoredImage, config: bytes, files: Mapping[str, Path]) -> Iterator[bytes]:
    """What ``docker load`` takes on either image store: the image without a name, and of its layers these.

    Args:
        image: its manifest; the engine has the other layers.
        config: the configuration document to put in it.
        files: the layers, by digest.

    Raises:
        OSError: a file cannot be read.
    """
    manifest = reconfigured(image.manifest or {}, config)
    raw = encode(manifest)
    index = {"schemaVersion": 2, "manifests": [descriptor(image.media_type or MANIFEST, raw)]}
    members: list[Member] = [
        LAYOUT,
        ("index.json", encode(index)),
        ("manifest.json", encode_list([listed_for_docker(manifest, ())])),
        (blob_name(digest_of(raw)), raw),
        (blob_name(digest_of(config)), config),
        *((blob_name(digest), file) for digest, file in files.items()),
    ]
    return tar_stream(members)


def loaded_as(image: StoredImage, config: bytes, *, containerd: bool) -> str:
    """The id that an engine gives to what ``engine_archive`` sends."""
    return digest_of(encode(reconfigured(image.manifest or {}, config)) if containerd else config)


def listed_for_docker(manifest: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    """An entry of ``manifest.json``, Docker's own list; ``names`` are ``repository:tag``."""
    config, layers = manifest["config"], manifest["layers"]
    return {
        "Config": _member(config),
        "RepoTags": list(names) or None,
        "Layers": [_member(layer) for layer in layers] if isinstance(layers, Sequence) else [],
    }


def encode_list(entries: Sequence[Mapping[str, object]]) -> bytes:
    """``manifest.json``."""
    return json.dumps(list(entries), sort_keys=True, separators=(",", ":")).encode("ascii")


def tar_stream(members: Sequence[Member]) -> Iterator[bytes]:
    """A tar file in pieces, the same for the same content; no file is in memory as a whole.

    Raises:
        OSError: a file cannot be read, or is shorter than it was.
    """
    written = 0
    for folder in sorted({str(parent) for name, _ in members for parent in Path(name).parents} - {"."}):
        yield (head := _header(folder, 0, tarfile.DIRTYPE, 0o755))
        written += len(head)
    for name, data in members:
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        yield (head := _header(name, size, tarfile.REGTYPE, 0o644))
        if isinstance(data, bytes):
            yield data
        else:
            yield from _pieces(data, size)
        padding = -size % _BLOCK
        yield bytes(padding)
        written += len(head) + size + padding
    yield bytes(2 * _BLOCK + -(written + 2 * _BLOCK) % tarfile.RECORDSIZE)


def _pieces(file: Path, size: int) -> Iterator[bytes]:
    left = size
    with file.open("rb") as stream:
        while left:
            data = stream.read(min(_CHUNK, left))
            if not data:
                raise OSError(f"{file} became shorter while it was read")
            left -= len(data)
            yield data


def _header(name: str, size: int, kind: bytes, mode: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.mode = size, kind, mode
    return member.tobuf(tarfile.GNU_FORMAT)


def _member(entry: object) -> str:
    return blob_name(str(entry.get("digest"))) if isinstance(entry, Mapping) else ""
