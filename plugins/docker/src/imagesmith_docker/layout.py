"""An OCI image layout that buildx wrote, taken over into the one that was asked for, or to a registry."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imagesmith.stores.registry import RegistryStore

__all__ = ["take_over", "upload"]


def take_over(written: Path, target: Path) -> str:
    """Move the blobs of the layout ``written`` into ``target``, untagged. Returns the manifest's digest.

    Raises:
        LayoutError: ``target`` holds something else, or cannot be written.
    """
    from imagesmith.stores.layout import LayoutStore  # noqa: PLC0415 - for this destination only

    index = json.loads((written / "index.json").read_text(encoding="utf-8"))
    digest = str(index["manifests"][0]["digest"])
    blobs = written / "blobs" / "sha256"
    LayoutStore(target).put_blob((blobs / digest.removeprefix("sha256:")).read_bytes())
    for blob in blobs.iterdir():
        place = target / "blobs" / "sha256" / blob.name
        if not place.exists():
            # beside it first: what stands under a digest's name is whole
            draft = place.with_name(f".imagesmith-{blob.name}")
            shutil.move(blob, draft)
            draft.replace(place)
    return digest


def upload(written: Path, store: RegistryStore, base: str) -> str:
    """Push the blobs and manifests of a layout, untagged. Returns the digest of the uppermost manifest.

    ``base``: what its lowest layers come from; where that is in the same registry they need not be sent.

    Raises:
        StoreError: the registry does not do its part.
    """
    from imagesmith.stores.reference import parse  # noqa: PLC0415 - for this way only

    source = parse(base).repository_reference
    blobs = written / "blobs" / "sha256"

    def send(descriptor: Mapping[str, object]) -> str:
        digest = str(descriptor["digest"])
        path = blobs / digest.removeprefix("sha256:")
        raw = path.read_bytes()
        document = json.loads(raw)
        for child in document.get("manifests", ()):
            send(child)
        for blob in filter(None, (document.get("config"), *document.get("layers", ()))):
            name = str(blob["digest"])
            if not store.has_blob(name) and not store.mount_blob(name, source):
                store.put_blob(blobs / name.removeprefix("sha256:"), name)
        return store.put_manifest(raw, str(descriptor["mediaType"]))

    return send(json.loads((written / "index.json").read_text(encoding="utf-8"))["manifests"][0])
