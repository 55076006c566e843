"""The image in its place: what a lifecycle made, the layer of files above it, what commands changed."""

from __future__ import annotations

import contextlib
import gzip
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagesmith import Built, EngineError, LayoutFolder, engine
from imagesmith_buildpacks.render import command_scripts
from imagesmith_buildpacks.steps import Step, derive

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith import Contribution
    from imagesmith.stores import LayerFile, StoredImage
    from imagesmith_buildpacks.site import Site

__all__ = ["assemble", "put_together"]


def assemble(site: Site, made: StoredImage, layer: LayerFile, found: Contribution) -> Built:
    """Put the layer on the image, and run the commands.

    ``made`` stands in the registry or the engine under its digest, or its new layers are files.

    Raises:
        BuildFailed: a command failed.
        StoreError: engine, registry or folder did not do their part.
    """
    there, commands = site.request.destination, bool(site.request.spec.commands)
    if isinstance(there, LayoutFolder):
        return Built(there, "", found, image=_in_layout(site, there.path, made, layer))
    if made.files is not None:
        whole = made.with_layer(layer)
        if not commands:
            return Built(there, "", found, image=whole)
        loaded = _loaded(site, whole)
        try:
            return put_together(site, loaded, None, found)
        finally:
            site.docker.forget(loaded)
    if site.repository is None:
        return put_together(site, made.digest, layer, found)
    if commands:
        image = f"{site.repository.repository}@{made.digest}"
        site.present(image)
        try:
            return put_together(site, image, layer, found)
        finally:
            site.docker.forget(image)
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415 - for this destination only

    config = site.request.spec.registry_config
    with open_repository(site.repository.repository, site.env, config) as store:
        store.put_blob(layer.path, layer.digest)
    return Built(there, "", found, image=made.with_layer(layer))


def put_together(site: Site, image: str, layer: LayerFile | None, found: Contribution) -> Built:
    """Unpack the layer in a container of an image that the engine has, run the commands there, and leave
    what comes of it where it was wanted. Raises as ``assemble``."""
    texts = command_scripts(site.request, found)
    steps = [
        Step(f"command: {command}", f"{number:03d}.sh", "command.sh")
        for number, command in enumerate(site.request.spec.commands)
    ]
    derive(
        site.docker,
        image,
        site.local_name,
        steps,
        texts,
        site.report,
        site.redactor,
        archives=[_unpacked(site, layer)] if layer else [],
        network=site.options.network,
        platform=site.request.platform,
        prefix="command-",
    )
    there = site.repository
    with contextlib.closing(engine.local_store(site.env)) as store:
        if there is None:
            known = store.read(site.local_name, site.request.platform)
            if known is None:
                raise EngineError(f"the engine does not know the image it made: {site.local_name}")
            return Built(site.request.destination, known.digest, found)
        try:
            digest = engine.push(store, site.local_name, there, site.facts(there.repository), site.cache)
        finally:
            site.docker.forget(site.local_name)
    return Built(there, digest, found)


def _unpacked(site: Site, layer: LayerFile) -> Path:
    plain = site.folder / "source.tar"
    with gzip.open(layer.path) as packed, plain.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return plain


def _loaded(site: Site, image: StoredImage) -> str:
    """The id of an image whose layers are files, once the engine has it."""
    with contextlib.closing(engine.local_store(site.env)) as store:
        return store.write_config(image, image.config).digest


def _in_layout(site: Site, folder: Path, made: StoredImage, layer: LayerFile) -> StoredImage:
    """The layers in a layout of the user's, the base's own too."""
    from imagesmith.stores.layout import LayoutStore  # noqa: PLC0415 - for this destination only
    from imagesmith.stores.reference import parse  # noqa: PLC0415
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415
    from imagesmith.stores.transfer import carry_blob  # noqa: PLC0415

    whole, target = made.with_layer(layer), LayoutStore(folder)
    assert whole.files is not None  # noqa: S101 - such images alone are made for layouts
    new, config = whole.files.new, site.request.spec.registry_config
    repository = parse(site.request.base.reference).repository_reference
    layers: Any = whole.manifest["layers"] if whole.manifest else ()
    with open_repository(repository, site.env, config, mirrored=True) as source:
        for each in layers:
            digest = str(each["digest"])
            if digest in new:
                target.put_blob(new[digest], digest)
            else:
                carry_blob(source, target, each)
    return replace(whole, files=None)
