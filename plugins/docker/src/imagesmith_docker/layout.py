"""An OCI image layout that buildx wrote, taken over into the one that was asked for."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["take_over"]


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
