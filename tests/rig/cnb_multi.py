"""A builder image and a run image for two platforms; only beside both parts, buildpacks and arm64."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection

from . import arm64, cnb, images
from .console import part, run
from .state import Cnb

ARCHITECTURE = "arm64"
RUN, BUILDER = "cnb-run:3.11-multi", "cnb-builder:3.11-multi"


def publish(publisher: images.Publisher) -> None:
    """Make both, in the plain registry; all single ones must be there."""
    if done(publisher):
        return
    made = _key(publisher)
    with part("buildpacks: for two platforms"):
        bases = {"": images.PYTHON311, ARCHITECTURE: arm64.PYTHON}
        for architecture, base in bases.items():
            cnb.run_image(publisher, _one(RUN, architecture), base, "1", architecture)
        _index(publisher, RUN, bases)
        for architecture, base in bases.items():
            cnb.builder_image(publisher, _one(BUILDER, architecture), base, RUN, architecture)
        _index(publisher, BUILDER, bases)
        for name in (RUN, BUILDER):
            publisher.remember(name, made)


def done(publisher: images.Publisher) -> bool:
    """Tell whether both are there."""
    made = _key(publisher)
    return publisher.done(RUN, made) and publisher.done(BUILDER, made)


def reference(publisher: images.Publisher, *, coming: bool) -> Cnb | None:
    """Return what there is of buildpacks, these two included where they are there or ``coming``."""
    found = cnb.reference(publisher)
    if found is None or found.run is None:
        return found
    there = coming or (arm64.done(publisher) and done(publisher))
    return dataclasses.replace(found, multi=publisher.reference(BUILDER) if there else None)


def _one(name: str, architecture: str) -> str:
    return f"{name}-{architecture or 'own'}"


def _index(publisher: images.Publisher, name: str, architectures: Collection[str]) -> None:
    sources = [publisher.reference(_one(name, each)) for each in architectures]
    argv = ["docker", "buildx", "imagetools", "create", "--tag", publisher.reference(name), *sources]
    run(argv, env={"DOCKER_HOST": publisher.host, "BUILDX_BUILDER": ""})


def _key(publisher: images.Publisher) -> str:
    both = cnb.key(publisher) + publisher.made_from(arm64.MULTI)
    return hashlib.sha256(both.encode()).hexdigest()[:16]
