"""The image in its place: what a lifecycle made, the layer of files above it, what commands changed."""

from __future__ import annotations

import contextlib
import gzip
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagesmith import BuilderNotReady, Built, EngineError, engine
from imagesmith_buildpacks.render import command_scripts
from imagesmith_buildpacks.steps import Step, derive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith import Contribution
    from imagesmith.stores import StoredImage
    from imagesmith_buildpacks.site import Site
    from imagesmith_buildpacks.source_layer import Written

__all__ = ["assemble", "put_together"]


def assemble(site: Site, made: str, layer: Written, found: Contribution) -> Built:
    """Put the layer on the image ``made`` (a digest there, or an id in the engine), and run the commands.

    Raises:
        BuildFailed: a command failed.
        StoreError: engine or registry did not do their part.
    """
    there = site.repository
    if there is None:
        return put_together(site, site.local_name, layer, found)
    if not site.request.spec.commands:
        return _in_registry(site, made, layer, found)
    image = f"{there.repository}@{made}"
    site.present(image)
    try:
        return put_together(site, image, layer, found)
    finally:
        site.docker.forget(image)


def put_together(site: Site, image: str, layer: Written, found: Contribution) -> Built:
    """The same on an image that the engine has, by way of the engine. Raises as ``assemble``."""
    digest, there = _in_engine(site, image, layer, found), site.repository
    if there is None:
        return Built(site.request.destination, digest, found)
    try:
        with contextlib.closing(engine.local_store(site.env)) as store:
            digest = engine.push(store, site.local_name, there, site.facts(there.repository), site.cache)
    finally:
        site.docker.forget(site.local_name)
    return Built(there, digest, found)


def _in_engine(site: Site, image: str, layer: Written, found: Contribution) -> str:
    """Through a container of the image. Returns the id."""
    texts = command_scripts(site.request, found)
    steps = [
        Step(f"command: {command}", f"{number:03d}.sh", "command.sh")
        for number, command in enumerate(site.request.spec.commands)
    ]
    plain = site.folder / "source.tar"
    with gzip.open(layer.path) as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file)
    derive(
        site.docker,
        image,
        site.local_name,
        steps,
        texts,
        site.report,
        site.redactor,
        archives=[plain],
        network=site.options.network,
        platform=site.request.platform,
        prefix="command-",
    )
    with contextlib.closing(engine.local_store(site.env)) as store:
        known = store.read(site.local_name, site.request.platform)
    if known is None:
        raise EngineError(f"the engine does not know the image it made: {site.local_name}")
    return known.digest


def _in_registry(site: Site, made: str, layer: Written, found: Contribution) -> Built:
    """The layer as a blob, and a manifest and a configuration that name it; no layer moves otherwise."""
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415 - for this destination only

    there = site.repository
    assert there is not None  # noqa: S101 - asked for registries only
    with open_repository(there.repository, site.env, site.request.spec.registry_config) as store:
        image = store.read(made, site.request.platform)
        if image is None or image.manifest is None:
            raise BuilderNotReady(
                f"the lifecycle pushed no {there.repository}@{made}", builder="buildpacks", hint="see the log"
            )
        store.put_blob(layer.path, layer.digest)
    return Built(there, "", found, image=_with_layer(image, image.manifest, layer))


def _with_layer(image: StoredImage, manifest: Mapping[str, Any], layer: Written) -> StoredImage:
    """The image with one layer more; not written, for the core makes its configuration."""
    kind = "docker.image.rootfs.diff.tar.gzip" if "docker" in image.media_type else ""
    media_type = f"application/vnd.{kind or 'oci.image.layer.v1.tar+gzip'}"
    descriptor = {"mediaType": media_type, "digest": layer.digest, "size": layer.size}
    rootfs: Any = image.config["rootfs"]
    more = {**rootfs, "diff_ids": [*rootfs["diff_ids"], layer.diff_id]}
    return replace(
        image,
        digest="",
        size=0,
        config={**image.config, "rootfs": more},
        manifest={**manifest, "layers": [*manifest["layers"], descriptor]},
    )
