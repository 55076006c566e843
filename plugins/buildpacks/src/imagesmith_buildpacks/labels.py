"""The labels that stay on an image of this builder: what a lifecycle has to find there again, and ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imagesmith import ImageSpec

if TYPE_CHECKING:
    from imagesmith import BaseImage, BuildRequest
    from imagesmith.stores import StoredImage
    from imagesmith_buildpacks.site import Site

__all__ = ["LABEL", "METADATA", "labels_of", "own_label", "stands_above", "stands_on_buildpacks"]

METADATA = "io.buildpacks."
"""how the names of those begin that lifecycles leave"""
LABEL = "io.imagesmith.buildpacks"
"""what a rebase has to know beside them: the builder image"""


def stands_on_buildpacks(base: BaseImage) -> bool:
    """Whether the base is itself an image that a lifecycle made."""
    config = base.config.get("config")
    labels = config.get("Labels") if isinstance(config, Mapping) else None
    return isinstance(labels, Mapping) and f"{METADATA}lifecycle.metadata" in labels


def holds_packages(spec: ImageSpec) -> bool:
    """Whether packages are in the spec's base, as far as that is a spec too."""
    base = spec.base_image
    if not isinstance(base, ImageSpec):
        return False
    own = base.packages or base.requirements or base.conda_packages
    return bool(own) or holds_packages(base)


def stands_above(request: BuildRequest) -> bool:
    """Whether nothing is left for buildpacks to do on the base but what would hide its packages."""
    return stands_on_buildpacks(request.base) or holds_packages(request.spec)


def own_label(site: Site) -> dict[str, str]:
    """What a rebase has to know beside a lifecycle's own labels: the builder, and what the run image got."""
    request = site.request
    told: dict[str, object] = {"builder": site.options.builder}
    if request.spec.apt_packages:
        told["apt"] = sorted(set(request.spec.apt_packages))
    if request.conda is not None:
        told["conda"] = list(request.conda.specs)
    return {LABEL: json.dumps(told, sort_keys=True, separators=(",", ":"))}


def labels_of(image: StoredImage) -> dict[str, str]:
    """What a lifecycle left on an image for later ones."""
    inner = image.config.get("config")
    labels = inner.get("Labels") if isinstance(inner, Mapping) else None
    found = labels if isinstance(labels, Mapping) else {}
    return {key: str(value) for key, value in found.items() if str(key).startswith(METADATA)}
