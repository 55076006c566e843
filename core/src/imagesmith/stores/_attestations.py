"""Attestations: documents that say how an image was made or what it holds, beside it in its index.

A builder's engine writes them about the image that it made. That one gets another configuration and so
another digest here, and what is attested must follow: the statements themselves name the digest, their
manifest names them, and the index says which image it is about. (The format is BuildKit's, in-toto
statements in an OCI manifest: docs/attestations/attestation-storage.md of its repository.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import quote

from imagesmith.stores._documents import MANIFEST, descriptor, encode, is_index

if TYPE_CHECKING:
    from imagesmith.stores import Store, StoredImage

__all__ = ["Shelf", "carry_over", "package_url"]

JSON = Mapping[str, object]

_ABOUT = "vnd.docker.reference.digest"
_NOWHERE = {"architecture": "unknown", "os": "unknown"}
_STATEMENT = "application/vnd.in-toto+json"


@runtime_checkable
class Shelf(Protocol):
    """A store that keeps any document: a registry, a layout. (Engines do not.)"""

    def document(self, ref: str) -> JSON | None:
        """The manifest or index under a tag or digest."""

    def get_blob(self, digest: str) -> bytes:
        """Its bytes, checked."""

    def put_blob(self, data: bytes) -> str:
        """Its digest."""

    def put_manifest(self, raw: bytes, media_type: str) -> str:
        """Its digest. It gets no tag."""


def carry_over(store: Store, built: str, image: StoredImage, tag: str) -> tuple[JSON, ...]:
    """Say of the finished image what the builder's index says of the one it was made from.

    Args:
        store: where all of them stand.
        built: digest or tag of what the builder left; none is attested unless that is an index.
        image: the finished one.
        tag: what it will be published under.

    Returns:
        Descriptors of the attestations' manifests, for an index over the image.

    Raises:
        StoreError: the store lacks one of them, or cannot keep it.
    """
    index = store.document(built) if built and isinstance(store, Shelf) else None
    old = store.read(built, image.platform) if index and is_index(index) else None
    if index is None or old is None or not isinstance(store, Shelf):
        return ()
    about = {"mediaType": image.media_type or MANIFEST, "digest": image.digest, "size": image.size}
    repository = getattr(store, "repository", "")
    name = package_url(repository, tag, image.platform) if repository else "_"
    found = []
    for entry in _list(index, "manifests"):
        annotations = _object(entry, "annotations")
        manifest = store.document(str(entry.get("digest"))) if annotations.get(_ABOUT) == old.digest else None
        if manifest is None:
            continue
        raw = encode(_moved(store, manifest, about, name))
        media_type = str(entry.get("mediaType") or MANIFEST)
        store.put_manifest(raw, media_type)
        found.append(
            {
                **descriptor(media_type, raw),
                "annotations": {**annotations, _ABOUT: image.digest},
                "platform": dict(_NOWHERE),
            }
        )
    return tuple(found)


def package_url(repository: str, tag: str, platform: str) -> str:
    """How attestations name an image: ``pkg:docker/REPOSITORY@TAG?platform=…``."""
    return (
        f"pkg:docker/{quote(repository, safe='/')}@{quote(tag, safe='')}?platform={quote(platform, safe='')}"
    )


def _moved(shelf: Shelf, manifest: JSON, new: JSON, name: str) -> JSON:
    """The manifest of the attestations, about the new image; what it names is put there."""
    layers, digests = [], {}
    for layer in _list(manifest, "layers"):
        if layer.get("mediaType") == _STATEMENT:
            statement = json.loads(shelf.get_blob(str(layer.get("digest"))))
            data = encode(_about(statement, str(new["digest"]), name))
            digests[str(layer.get("digest"))] = shelf.put_blob(data)
            layer = {**layer, **descriptor(_STATEMENT, data)}  # noqa: PLW2901
        layers.append(layer)
    moved = {**manifest, "layers": layers}
    config = _object(manifest, "config")
    document = json.loads(shelf.get_blob(str(config.get("digest"))))
    if isinstance(document, dict) and isinstance(document.get("rootfs"), Mapping):
        diff_ids = document["rootfs"].get("diff_ids") or ()
        document["rootfs"] = {
            **document["rootfs"],
            "diff_ids": [digests.get(each, each) for each in diff_ids],
        }
        data = encode(document)
        shelf.put_blob(data)
        moved["config"] = descriptor(str(config.get("mediaType")), data)
    if isinstance(manifest.get("subject"), Mapping):
        moved["subject"] = {key: new[key] for key in ("mediaType", "digest", "size")}
    return moved


def _about(statement: JSON, digest: str, name: str) -> JSON:
    """The statement with this image, and no other, as its subject."""
    algorithm, _, value = digest.partition(":")
    return {**statement, "subject": [{"name": name, "digest": {algorithm: value}}]}


def _object(parent: JSON, key: str) -> JSON:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(parent: JSON, key: str) -> list[JSON]:
    value = parent.get(key)
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    return [item for item in items if isinstance(item, Mapping)]
