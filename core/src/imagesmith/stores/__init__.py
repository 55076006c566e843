"""Where images live: a registry, the local engine, an OCI layout folder. One protocol for the three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["KEPT", "KEPT_NAMES", "STAGING", "LayerFile", "LayerFiles", "Store", "StoredImage"]

JSON = Mapping[str, object]

STAGING = "imagesmith-staging"
"""How the tag begins under which a builder leaves an image that is not finished."""
KEPT = "imagesmith-build"
"""What images are called that stay in an engine for the sake of their layers."""
KEPT_NAMES = 128
"""How many of them there are, so that what is kept has an end. A repository has one; where two have the same
one, a build for the one takes the layers away under an image of the other that is being started."""

_DOCKER = "application/vnd.docker."
_OCI_LAYER, _DOCKER_LAYER = "application/vnd.oci.image.layer.v1.", f"{_DOCKER}image.rootfs.diff."


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer in a file of this machine, and how a manifest names it."""

    digest: str
    diff_id: str
    """of the archive before it was compressed"""
    size: int
    """of the file, in bytes"""
    media_type: str
    path: Path

    @property
    def descriptor(self) -> dict[str, object]:
        """For a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class LayerFiles:
    """An image's layers as files, for a store that takes them only together with the image: an engine."""

    new: Mapping[str, Path]
    """by digest: those that the store lacks, as far as is known"""
    get: Callable[[JSON], Path]
    """gives any other, by its descriptor, where it turns out to be lacking too"""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image of one platform, as it stands in a store."""

    digest: str
    """of its manifest (in the local engine: the image id)"""
    config: JSON
    """the OCI image configuration document"""
    manifest: JSON | None = None
    """None where the store does not show it (the classic local store)"""
    media_type: str = ""
    size: int = 0
    """of the manifest, in bytes; 0 where the store does not show it"""
    attestations: tuple[JSON, ...] = ()
    """descriptors of manifests in the same store that say something about the image; they belong in its
    index"""
    files: LayerFiles | None = field(default=None, compare=False, repr=False)
    """where its layers are, if the store may lack some"""

    @property
    def platform(self) -> str:
        """``os/arch[/variant]`` as the configuration says it."""
        parts = [self.config.get("os"), self.config.get("architecture"), self.config.get("variant")]
        return "/".join(str(part) for part in parts if part)

    @property
    def diff_ids(self) -> list[object]:
        """Of its layers, as the configuration lists them."""
        rootfs = self.config.get("rootfs")
        found = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
        return list(found) if isinstance(found, Sequence) else []

    def with_layer(self, layer: LayerFile, *, instead: bool = False) -> StoredImage:
        """The image with one more layer on top, or ``instead`` of its last one. It stands nowhere yet."""

        def changed(layers: object, new: object) -> list[object]:
            known = list(layers) if isinstance(layers, Sequence) else []
            return [*(known[:-1] if instead else known), new]

        config = {key: value for key, value in self.config.items() if key != "history"}
        config["rootfs"] = {"type": "layers", "diff_ids": changed(self.diff_ids, layer.diff_id)}
        manifest = self.manifest
        if manifest is not None:
            media_type = layer.media_type
            if str(manifest.get("mediaType")).startswith(_DOCKER):
                media_type = media_type.replace(_OCI_LAYER, _DOCKER_LAYER).replace("+", ".")
            entry = {**layer.descriptor, "mediaType": media_type}
            manifest = {**manifest, "layers": changed(manifest.get("layers"), entry)}
        files = self.files and LayerFiles({**self.files.new, layer.digest: layer.path}, self.files.get)
        return replace(self, digest="", config=config, manifest=manifest, size=0, files=files)


class Store(Protocol):
    """What the core needs of a place where images live.

    ``ref`` is a tag or a digest (registry, layout) or a name or id (local engine). Nothing but
    ``publish`` makes a tag.
    """

    def resolve(self, ref: str) -> str | None:
        """The digest that stands under ``ref`` now; None when there is none. What follows can name it."""

    def platforms(self, ref: str) -> tuple[str, ...]:
        """The platforms under ``ref`` (empty when there is no such image)."""

    def read(self, ref: str, platform: str | None = None) -> StoredImage | None:
        """The image of that platform (of the only one when None); None when there is none."""

    def add_layer(self, image: StoredImage, layer: LayerFile, *, instead: bool = False) -> StoredImage:
        """An image of this store with one more layer, or ``instead`` of its last one.

        It has no digest: no configuration and no manifest stand anywhere until ``write_config``.
        """

    def write_config(self, image: StoredImage, config: JSON) -> StoredImage:
        """A new image with the same layers and another configuration document. Not tagged.

        A registry is sent the manifest only with what leads to it: by ``publish``, or before an index.
        """

    def write_index(self, images: Sequence[StoredImage]) -> str:
        """An index over images in this store, and over what is attested about them. Not tagged."""

    def publish(self, digest: str, tag: str) -> None:
        """Put the image or index under ``tag``, in one step."""

    def discard(self, ref: str) -> None:
        """Forget a staging name, as far as this store can; never raises."""

    def close(self) -> None:
        """Let go of connections; the store must not be used again."""
