"""What a published image says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith._frozen import FrozenMap
from imagesmith.errors import ImagesmithError
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from imagesmith.settings import Settings

__all__ = ["Inspection", "inspect", "names_host"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """An image as it stands in its registry, or in the local engine."""

    reference: str
    digest: str
    """of the manifest or index; in the local engine the image id"""
    platforms: tuple[str, ...]
    config: Mapping[str, object]
    """the ``config`` object of the (first) image's configuration document: Env, Entrypoint, Labels …"""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels; empty where there is none."""
        labels = self.config.get("Labels")
        return FrozenMap({str(k): str(v) for k, v in labels.items()} if isinstance(labels, Mapping) else None)


def inspect(target: str | ImageSpec, *, settings: Settings) -> Inspection:
    """Read the image of a spec, or of that name.

    A name that begins with a host (``registry.example/app:tag``) is asked of that registry; any other of
    the local engine.

    Raises:
        ImagesmithError: there is no such image.
        StoreError: it cannot be told.
        InvalidReference: ``target`` is no image's name.
    """
    if isinstance(target, ImageSpec):
        reference = target.image_name()
        found = _read(reference, settings, in_registry=bool(target.registry), config=target.registry_config)
    else:
        reference = target
        found = _read(reference, settings, in_registry=names_host(reference))
    if found is None:
        hint = "imagesmith build makes it" if isinstance(target, ImageSpec) else "check its name and tag"
        raise ImagesmithError(f"there is no image {reference}", hint=hint)
    return found


def names_host(reference: str) -> bool:
    """Whether a name begins with a registry's host; any other is the local engine's."""
    from imagesmith.stores.reference import DOCKER_HUB, parse  # noqa: PLC0415

    return parse(reference).registry != DOCKER_HUB or reference.startswith(f"{DOCKER_HUB}/")


def _read(
    reference: str, settings: Settings, *, in_registry: bool, config: str | None = None
) -> Inspection | None:
    from imagesmith.stores.reference import parse  # noqa: PLC0415

    if not in_registry:
        from imagesmith.stores.local import LocalStore, connect  # noqa: PLC0415

        local = LocalStore(connect(settings.env))
        image = local.read(reference)
        if image is None:
            return None
        return Inspection(reference, image.digest, local.platforms(reference), _inner(image.config))
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415

    name = parse(reference)
    ref = name.digest or name.tag or "latest"
    with open_repository(f"{name.registry}/{name.repository}", settings.env, config) as store:
        digest = store.digest(ref)
        if digest is None:
            return None
        platforms = store.platforms(digest)
        image = store.read(digest, platforms[0] if platforms else None)
        return None if image is None else Inspection(reference, digest, platforms, _inner(image.config))


def _inner(document: Mapping[str, object]) -> Mapping[str, object]:
    inner = document.get("config")
    return inner if isinstance(inner, Mapping) else {}
