"""Stand-ins for the parts that reach outside: for our own tests and for those of builders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imagesmith.errors import StoreError
from imagesmith.stores import StoredImage
from imagesmith.stores._documents import (
    CONFIG,
    MANIFEST,
    children,
    descriptor,
    digest_of,
    encode,
    index_over,
    is_index,
    reconfigured,
    same_platform,
)

__all__ = ["MemoryStore"]

JSON = Mapping[str, object]


class MemoryStore:
    """A store in memory, with the semantics of a registry. ``tags`` maps each tag to its digest."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self._documents: dict[str, JSON] = {}

    def add(self, config: JSON) -> str:
        """An image of this OCI configuration document, as a builder would leave one. Returns its digest."""
        rootfs = config.get("rootfs")
        layers = rootfs.get("diff_ids", ()) if isinstance(rootfs, Mapping) else ()
        data = encode(config)
        self._put(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, data),
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 1}
                for layer in layers
            ],
        }
        return self._put(manifest)

    def platforms(self, ref: str) -> tuple[str, ...]:
        """See Store."""
        return tuple(image.platform for image in self._images(ref))

    def read(self, ref: str, platform: str | None = None) -> StoredImage | None:
        """See Store."""
        images = self._images(ref)
        if platform is not None:
            images = [image for image in images if same_platform(image.platform, platform)]
        return images[0] if images else None

    def write_config(self, image: StoredImage, config: JSON) -> StoredImage:
        """See Store."""
        if image.manifest is None:
            raise StoreError(f"{image.digest} comes from another store")
        self._put(config)
        digest = self._put(reconfigured(image.manifest, encode(config)))
        return self._images(digest)[0]

    def write_index(self, images: Sequence[StoredImage]) -> str:
        """See Store."""
        for image in images:
            self._get(image.digest)
        return self._put(index_over(images))

    def publish(self, digest: str, tag: str) -> None:
        """See Store."""
        self._get(digest)
        self.tags[tag] = digest

    def discard(self, ref: str) -> None:
        """See Store."""
        self.tags.pop(ref, None)

    def close(self) -> None:
        """See Store."""

    def _put(self, document: JSON) -> str:
        digest = digest_of(encode(document))
        self._documents[digest] = document
        return digest

    def _get(self, digest: str) -> JSON:
        try:
            return self._documents[digest]
        except KeyError as error:
            raise StoreError(f"there is no {digest}") from error

    def _images(self, ref: str) -> list[StoredImage]:
        digest = self.tags.get(ref, ref)
        if digest not in self._documents:
            return []
        document = self._get(digest)
        if is_index(document):
            return [image for _, child in children(document) for image in self._images(str(child["digest"]))]
        config = document["config"]
        if not isinstance(config, Mapping):
            raise StoreError(f"{digest} names no configuration")
        size = len(encode(document))
        return [StoredImage(digest, self._get(str(config["digest"])), document, MANIFEST, size)]
