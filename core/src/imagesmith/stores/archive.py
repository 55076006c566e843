"""Images as one tar file: an OCI layout with a ``manifest.json``, which every engine and tool can load."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesmith.errors import LayoutError
from imagesmith.stores import StoredImage
from imagesmith.stores._documents import (
    INDEX,
    MANIFEST,
    REF_NAME,
    children,
    descriptor,
    digest_of,
    encode,
    is_index,
    reconfigured,
)
from imagesmith.stores.reference import parse

if TYPE_CHECKING:
    from imagesmith.stores.layout import LayoutStore

__all__ = [
    "CANONICAL_NAME",
    "engine_archive",
    "find_in_archive",
    "listed_for_docker",
    "loaded_as",
    "tar_stream",
    "write_archive",
]

CANONICAL_NAME = "io.containerd.image.name"
"""The annotation that names an image in the containerd store: written out, or nothing finds it there."""
LAYOUT = ("oci-layout", encode({"imageLayoutVersion": "1.0.0"}))
_BLOCK = 512
_LARGEST_DOCUMENT = 16 << 20
"""Bytes of a manifest, index or configuration."""
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
    for file in files.values():
        file.stat()  # here: what is raised while the engine reads looks like its own failure
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


def write_archive(layout: LayoutStore, digest: str, tag: str, name: str, file: Path) -> None:
    """Write an image or index of a layout, and all it leads to, into one tar file; in one step.

    Docker (with either image store), Podman, skopeo and containerd load it. Of several platforms, tools that
    know only Docker's own list see the first.

    Args:
        layout: where it stands.
        digest: of the image or index.
        tag: its name in the layout that the file is.
        name: what engines call it, ``repository:tag``.
        file: replaced when the new one is whole.

    Raises:
        LayoutError: the layout lacks something, or the file cannot be written.
    """
    top = layout.get_blob(digest)
    document = json.loads(top)
    media_type = str(document.get("mediaType") or (INDEX if is_index(document) else MANIFEST))
    annotations = {REF_NAME: tag, CANONICAL_NAME: str(parse(name))}
    entry = {**descriptor(media_type, top), "annotations": annotations}
    images = [layout.document(str(child["digest"])) for _, child in children(document)]
    first = images[0] if images else document
    listed = [listed_for_docker(first, [name])] if first else []
    documents, layers = _reached(layout, digest)
    members: list[Member] = [
        LAYOUT,
        ("index.json", encode({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})),
        ("manifest.json", encode_list(listed)),
        *((blob_name(each), layout.blob_path(each)) for each in (*documents, *layers)),
    ]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".imagesmith-", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.writelines(tar_stream(members))
            Path(draft).chmod(0o644)
            Path(draft).replace(file)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LayoutError(
            f"cannot write {file}: {error.strerror or error}", hint="is the disk full?"
        ) from error


def _reached(layout: LayoutStore, digest: str) -> tuple[list[str], list[str]]:
    """The digests of the manifests and configurations under one, and those of the layers; none twice."""
    document = layout.document(digest) or {}
    found: list[str] = [digest]
    layers: list[str] = []
    for entry in _entries(document, "manifests"):
        below = _reached(layout, str(entry["digest"]))
        found, layers = [*found, *below[0]], [*layers, *below[1]]
    config = document.get("config")
    found += [str(config["digest"])] if isinstance(config, Mapping) else []
    layers += [str(entry["digest"]) for entry in _entries(document, "layers")]
    return list(dict.fromkeys(found)), [each for each in dict.fromkeys(layers) if each not in found]


def find_in_archive(file: Path, tag: str) -> tuple[str, StoredImage] | None:
    """What stands under ``tag`` in a file that ``write_archive`` wrote: its digest, and its first image.

    Raises:
        LayoutError: the file is something else.
    """
    try:
        with tarfile.open(file) as archive:

            def read(name: str) -> dict[str, Any]:
                content = archive.extractfile(name)
                document = json.loads(content.read(_LARGEST_DOCUMENT)) if content else None
                return document if isinstance(document, dict) else {}

            index = read("index.json")
            entry = next(
                (each for each in index["manifests"] if each.get("annotations", {}).get(REF_NAME) == tag),
                None,
            )
            if entry is None:
                return None
            found = digest = str(entry["digest"])
            manifest = read(blob_name(found))
            while is_index(manifest):
                found = str(next(iter(children(manifest)))[1]["digest"])
                manifest = read(blob_name(found))
            config = read(blob_name(str(manifest["config"]["digest"])))
            return digest, StoredImage(found, config, manifest)
    except FileNotFoundError:
        return None
    except (
        OSError,
        tarfile.TarError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        StopIteration,
    ) as error:
        raise LayoutError(
            f"{file} is no image that imagesmith wrote: {error}", hint="name another file, or take it away"
        ) from error


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


def _entries(document: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    entries = document.get(key)
    found = entries if isinstance(entries, Sequence) and not isinstance(entries, str) else ()
    return [entry for entry in found if isinstance(entry, Mapping)]


def _member(entry: object) -> str:
    return blob_name(str(entry.get("digest"))) if isinstance(entry, Mapping) else ""
