"""The base image, resolved once: reference -> digest, platforms, configuration. Checked before any work."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from imagesmith._frozen import FrozenMap
from imagesmith.builder import BaseImage
from imagesmith.errors import BaseImageError, StoreError
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith.settings import Settings
    from imagesmith.stores import Store
    from imagesmith.stores.shared import Registries

__all__ = ["resolve"]


def resolve(
    spec: ImageSpec, reference: str, settings: Settings, registries: Registries | None = None
) -> Mapping[str, BaseImage]:
    """Platform -> base, for each platform of the spec.

    A base that is a spec without a registry stands in the local engine; every other in a registry.

    Raises:
        BaseImageError: there is no such image, or it lacks a platform.
        StoreError: it cannot be told.
    """
    from imagesmith.stores.reference import parse  # noqa: PLC0415

    base = spec.base_image
    local = isinstance(base, ImageSpec) and not base.registry
    parsed = parse(reference)
    name = reference if local else (parsed.digest or parsed.tag or "latest")
    try:
        with contextlib.closing(_open(spec, reference, settings, registries, local=local)) as store:
            return _all(store, name, reference, spec.platforms, local=local)
    except StoreError as error:
        error.message = f"base image {reference}: {error.message}"
        raise


def _all(
    store: Store, name: str, reference: str, wanted: tuple[str, ...], *, local: bool
) -> Mapping[str, BaseImage]:
    digest = store.resolve(name)
    platforms = store.platforms(digest) if digest else ()
    if digest is None or not platforms:
        raise BaseImageError(
            f"there is no base image {reference}", hint="check base_image (or IMAGESMITH_BASE_IMAGE)"
        )
    return {platform: _one(store, digest, reference, platform, platforms, local=local) for platform in wanted}


def _one(
    store: Store, digest: str, reference: str, platform: str, platforms: tuple[str, ...], *, local: bool
) -> BaseImage:
    image = store.read(digest, platform)
    if image is None:
        raise BaseImageError(
            f"the base image {reference} has no {platform}; it has {', '.join(platforms)}",
            hint="choose a base that has it, or another platform",
        )
    return BaseImage(
        reference, image.digest, image.config, local=local, manifest=image.manifest or FrozenMap()
    )


def _open(
    spec: ImageSpec, reference: str, settings: Settings, registries: Registries | None, *, local: bool
) -> Store:
    if local:
        from imagesmith.stores.local import LocalStore, connect  # noqa: PLC0415

        return LocalStore(connect(settings.env))
    from imagesmith.stores.reference import parse  # noqa: PLC0415
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415

    base = spec.base_image
    config = base.registry_config if isinstance(base, ImageSpec) else None
    parsed = parse(reference)
    return open_repository(
        f"{parsed.registry}/{parsed.repository}",
        settings.env,
        config or spec.registry_config,
        mirrored=True,
        kept=settings.documents(),
        registries=registries,
    )
