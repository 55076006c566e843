"""OCI manifests, indexes and configurations as values and as bytes. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagesmith.stores import StoredImage

__all__ = [
    "CONFIG",
    "INDEX",
    "MANIFEST",
    "REF_NAME",
    "children",
    "closest_platform",
    "descriptor",
    "digest_of",
    "encode",
    "index_over",
    "is_index",
    "reconfigured",
    "same_platform",
]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation that is a tag in a layout."""
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

JSON = Mapping[str, object]


def encode(document: JSON) -> bytes:
    """Always the same bytes for the same document; ASCII, so that any text survives."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def digest_of(data: bytes) -> str:
    """``sha256:…``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(media_type: str, data: bytes) -> dict[str, object]:
    """How a manifest or index names these bytes."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def is_index(document: JSON) -> bool:
    """Whether it lists manifests rather than layers."""
    return document.get("mediaType") in {INDEX, DOCKER_INDEX} or "manifests" in document


def reconfigured(manifest: JSON, config: bytes) -> dict[str, object]:
    """The same layers under another configuration; media types and annotations stay."""
    old = manifest.get("config")
    media_type = str(old.get("mediaType") or CONFIG) if isinstance(old, Mapping) else CONFIG
    return {**manifest, "config": descriptor(media_type, config)}


def index_over(images: Sequence[StoredImage]) -> dict[str, object]:
    """An OCI index of single-platform images, and behind them of what is attested about them."""
    entries = []
    for image in images:
        platform = {
            key: image.config[key]
            for key in ("architecture", "os", "variant", "os.version", "os.features")
            if image.config.get(key)
        }
        entries.append(
            {
                "mediaType": image.media_type or MANIFEST,
                "digest": image.digest,
                "size": image.size,
                "platform": platform,
            }
        )
    entries += [dict(each) for image in images for each in image.attestations]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}


def children(index: JSON) -> Iterator[tuple[str, JSON]]:
    """``os/arch[/variant]`` (empty where it does not say) and descriptor of each image in an index.

    Attestations, which stand there as images of the platform ``unknown/unknown``, are left out.
    """
    manifests = index.get("manifests")
    for entry in manifests if isinstance(manifests, Sequence) else ():
        if not isinstance(entry, Mapping):
            continue
        platform = entry.get("platform")
        parts = platform if isinstance(platform, Mapping) else {}
        name = "/".join(str(parts[key]) for key in ("os", "architecture", "variant") if parts.get(key))
        if name != "unknown/unknown":
            yield name, entry


def same_platform(one: str, other: str) -> bool:
    """Whether two spellings mean one platform: every arm64 is v8, a 32-bit arm without a variant v7."""
    return _split(one) == _split(other)


def closest_platform(offered: Iterable[str], wanted: str) -> str | None:
    """The same platform, else the newest older variant of it, as engines choose; None: there is none."""
    family, newest = _split(wanted)
    fitting = [(variant, one) for one in offered for kin, variant in [_split(one)] if kin == family]
    same = (one for variant, one in fitting if variant == newest)
    older = [(_number(variant), one) for variant, one in fitting if _number(variant) < _number(newest)]
    return next(same, None) or max(older, default=(0, None))[1]


def _split(platform: str) -> tuple[str, str]:
    """``os/arch`` and its variant: the one that is meant when none is named."""
    system, _, rest = platform.partition("/")
    machine, _, variant = rest.partition("/")
    return f"{system}/{machine}", variant or {"arm": "v7", "arm64": "v8"}.get(machine, "v1")


def _number(variant: str) -> int:
    number = variant.removeprefix("v")
    return int(number) if number.isdecimal() else 0
