"""Where a spec's image goes: which store, under which names. Decided from the spec and two options."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from imagesmith.builder import Destination, LayoutFolder, LocalEngine, RegistryRepository
from imagesmith.errors import EngineError, UsageError
from imagesmith.stores import STAGING

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith.settings import Settings
    from imagesmith.spec import ImageSpec
    from imagesmith.stores import Store, StoredImage
    from imagesmith.stores.shared import Registries

__all__ = ["Found", "Place", "place_for"]


@dataclass(frozen=True, slots=True)
class Found:
    """What stands under a reference."""

    digest: str
    builder: str
    """``NAME VERSION`` from its label; empty when it has none"""


@dataclass(frozen=True, slots=True)
class Archive:
    """One tar file, and the repository that engines shall know its image by."""

    file: Path
    repository: str


class Place:
    """One of the three stores, opened when first asked."""

    def __init__(
        self,
        target: Destination,
        env: Mapping[str, str],
        registry_config: str | None,
        *,
        own_staging: bool,
        documents: Path | None = None,
        archive: Archive | None = None,
        registries: Registries | None = None,
    ) -> None:
        """``archive``: the file that the image in the layout folder, which goes at the end, becomes."""
        self._target = target
        self._own_staging = own_staging
        self._env = env
        self._registry_config = registry_config
        self._documents = documents
        self._archive = archive
        self.registries = registries
        self._opened: Store | None = None

    def destination(self, build: str = "") -> Destination:
        """Where a builder leaves the image. ``build`` tells this build's from others where it must."""
        own = f"{STAGING}-{build}" if build else STAGING
        match self._target:
            case LocalEngine(name):
                return LocalEngine(f"{name}:{own}")
            case RegistryRepository(repository):
                return RegistryRepository(repository, own if self._own_staging else STAGING)
            case LayoutFolder():
                return self._target

    def reference(self, tag: str) -> str:
        """The name a person uses for the published image."""
        match self._target:
            case RegistryRepository(repository):
                return f"{repository}:{tag}"
            case LocalEngine(name):
                return f"{name}:{tag}"
            case LayoutFolder(path):
                return f"{self._archive.file if self._archive else path}:{tag}"

    def publish_name(self, tag: str) -> str:
        """What the store's ``publish`` wants to hear."""
        return self.reference(tag) if isinstance(self._target, LocalEngine) else tag

    def publish(self, digest: str, tag: str) -> None:
        """Let the tag lead to the image or index, which stands in the store; in one step.

        Raises:
            StoreError: it does not then.
        """
        if self._archive is None or not isinstance(self._target, LayoutFolder):
            self.store().publish(digest, self.publish_name(tag))
            return
        from imagesmith.stores.archive import write_archive  # noqa: PLC0415
        from imagesmith.stores.layout import LayoutStore  # noqa: PLC0415

        name = f"{self._archive.repository}:{tag}"
        write_archive(LayoutStore(self._target.path), digest, tag, name, self._archive.file)

    def store(self) -> Store:
        """Open it.

        Raises:
            StoreError: it cannot be reached, or its credentials cannot be read.
        """
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> Store:
        match self._target:
            case RegistryRepository(repository):
                from imagesmith.stores.registry import open_repository  # noqa: PLC0415

                return open_repository(
                    repository,
                    self._env,
                    self._registry_config,
                    kept=self._documents,
                    registries=self.registries,
                )
            case LocalEngine():
                from imagesmith.stores.local import LocalStore, connect  # noqa: PLC0415

                return LocalStore(connect(self._env), self._documents)
            case LayoutFolder(path):
                from imagesmith.stores.layout import LayoutStore  # noqa: PLC0415

                return LayoutStore(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        if self._archive is not None and isinstance(self._target, LayoutFolder):
            shutil.rmtree(self._target.path, ignore_errors=True)

    def find(self, tag: str) -> Found | None:
        """The published image, or None when there is none. Raises StoreError when it cannot be told."""
        if self._archive is not None:
            from imagesmith.stores.archive import find_in_archive  # noqa: PLC0415

            found = find_in_archive(self._archive.file, tag)
            return Found(found[0], _builder_label(found[1])) if found else None
        if isinstance(self._target, LayoutFolder) and not (self._target.path / "index.json").exists():
            return None
        digest = self.store().resolve(self.publish_name(tag))
        platforms = self.store().platforms(digest) if digest else ()
        image = self.store().read(digest, platforms[0]) if digest and platforms else None
        return Found(digest, _builder_label(image)) if digest and image else None


def place_for(
    spec: ImageSpec,
    settings: Settings,
    *,
    push: bool | None = None,
    output: Path | None = None,
    registries: Registries | None = None,
) -> Place:
    """The place of a spec's image.

    Raises:
        UsageError: ``push`` without a registry, or beside ``output``; ``output`` is another kind of file.
        EngineError: several platforms without a registry or a layout.
    """
    from imagesmith.stores.reference import repository_for  # noqa: PLC0415

    if push and not spec.registry:
        raise UsageError(
            "push was asked for, but the spec names no registry", hint="set registry= in the spec"
        )
    if push and output is not None:
        raise UsageError("push and output exclude each other", hint="leave one of them out")
    name = repository_for(spec.registry, spec.name)
    target: Destination
    archive = None
    if output is not None and output.suffix.lower() == ".tar" and not output.is_dir():
        archive = Archive(output, name)
        target = LayoutFolder(output.with_name(f".{output.name}.{secrets.token_hex(6)}"))
    elif output is not None:
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output} is a file", hint="name a folder, or a file that ends in .tar")
        target = LayoutFolder(output)
    elif spec.registry and push is not False:
        target = RegistryRepository(name)
    else:
        target = LocalEngine(name)
        if len(spec.platforms) > 1:
            raise EngineError(
                f"an image for {len(spec.platforms)} platforms needs a registry or an OCI layout: "
                "the local engine holds one platform",
                hint="set registry= in the spec, or name one platform",
            )
    return Place(
        target,
        settings.env,
        spec.registry_config,
        own_staging=settings.own_staging,
        documents=settings.documents(),
        archive=archive,
        registries=registries,
    )


def _builder_label(image: StoredImage) -> str:
    inner = image.config.get("config")
    labels = inner.get("Labels") if isinstance(inner, Mapping) else None
    return str(labels.get("io.imagesmith.builder", "")) if isinstance(labels, Mapping) else ""
