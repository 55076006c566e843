"""A folder through which a lifecycle and this side exchange images: OCI layouts without the base's layers.

So an image gets into an engine or into a layout of the user's without the lifecycle being let at the engine,
and only the layers that buildpacks made move.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imagesmith import BuilderNotReady
from imagesmith.stores import LayerFiles, StoredImage
from imagesmith.stores.reference import DOCKER_HUB, parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imagesmith import BaseImage

__all__ = ["FOLDER", "IMAGE", "can_exchange", "new_image", "place", "sparse"]

FOLDER = "/exchange"
IMAGE = "imagesmith/new:image"
"""what the new image is called there"""

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def can_exchange(base: BaseImage) -> bool:
    """Whether the base's manifest is known; the engine's own images do not show theirs."""
    return not base.local and bool(base.manifest)


def place(reference: str) -> str:
    """Where a lifecycle looks for an image in the folder."""
    name = parse(reference)
    host = "index.docker.io" if name.registry == DOCKER_HUB else name.registry
    end = name.digest.replace(":", "/") if name.digest else (name.tag or "latest")
    return f"{host}/{name.repository}/{end}"


def sparse(base: BaseImage) -> dict[str, bytes]:
    """The base as a layout without layers: path in the folder -> content."""
    config = _encoded(base.config)
    told: Any = base.manifest.get("config")
    descriptor = {**told, "digest": _digest(config), "size": len(config)}
    manifest = _encoded({**base.manifest, "config": descriptor})
    media_type = str(base.manifest.get("mediaType") or _MANIFEST)
    entry = {"mediaType": media_type, "digest": _digest(manifest), "size": len(manifest)}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
    top = place(base.pinned)
    return {
        f"{top}/oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        f"{top}/index.json": _encoded(index),
        f"{top}/blobs/{_digest(manifest).replace(':', '/')}": manifest,
        f"{top}/blobs/{_digest(config).replace(':', '/')}": config,
    }


def new_image(folder: Path, get: Callable[[Mapping[str, object]], Path]) -> StoredImage:
    """The image in a layout that a lifecycle wrote; ``get`` gives layers that are not in it.

    Raises:
        BuilderNotReady: there is none.
    """
    blobs = folder / "blobs"

    def document(digest: str) -> Any:
        return json.loads((blobs / digest.replace(":", "/")).read_bytes())

    try:
        index = json.loads((folder / "index.json").read_bytes())
        manifest = document(str(index["manifests"][0]["digest"]))
        config = document(str(manifest["config"]["digest"]))
        digests = [str(layer["digest"]) for layer in manifest["layers"]]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BuilderNotReady(
            f"the lifecycle left no image that can be read: {error}", builder="buildpacks", hint="see the log"
        ) from error
    files = {digest: blobs / digest.replace(":", "/") for digest in digests}
    new = {digest: path for digest, path in files.items() if path.is_file()}
    media_type = str(manifest.get("mediaType") or _MANIFEST)
    return StoredImage("", config, manifest, media_type, files=LayerFiles(new, get))


def _encoded(document: Mapping[str, object]) -> bytes:
    return json.dumps(_plain(document), separators=(",", ":")).encode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
