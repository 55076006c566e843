"""A newer base under an image that stands already, without building it again.

Only some tools can change the layers below an image's own: the builder that made the image, which its label
names, says whether it can. It makes the files; the configuration stays the finished one.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

from imagesmith._frozen import FrozenMap
from imagesmith.builder import BaseImage, LocalEngine, RegistryRepository
from imagesmith.configuration import BASE_DIGEST, BASE_NAME, document
from imagesmith.errors import BaseImageError, BuilderError, BuilderNotReady, ImagesmithError, UsageError
from imagesmith.events import Phase, Reporter, silent
from imagesmith.existence import current_settings
from imagesmith.stores import STAGING

if TYPE_CHECKING:
    from imagesmith.builder import Builder, Built, Destination
    from imagesmith.plugins import Plugins
    from imagesmith.settings import Settings
    from imagesmith.stores import Store, StoredImage
    from imagesmith.stores.reference import Reference

__all__ = ["RebaseRequest", "RebaseResult", "Rebases", "rebase"]

_BUILDER = "io.imagesmith.builder"


@dataclass(frozen=True, slots=True)
class RebaseRequest:
    """What a builder is told."""

    image: str
    """the image that stands, by digest (in the local engine by name)"""
    config: Mapping[str, object]
    """its OCI image configuration document"""
    platform: str
    base: BaseImage
    """what it is to stand on"""
    recorded: bool
    """whether that is the base it was built on, by name"""
    destination: Destination
    """where the new image is left"""
    force: bool = False
    """also where the tool would rather not"""
    registry_config: str | None = None
    options: Mapping[str, object] = field(default_factory=FrozenMap)
    """the machine's settings for this builder"""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the image."""
        return _labels(self.config)


class Rebases(Protocol):
    """A builder that can put another base under its images."""

    def rebase(self, request: RebaseRequest, report: Reporter) -> Built:
        """Do it. The new image has the old one's own layers and configuration, labels of the tool aside.

        Raises:
            BuildFailed, BuilderNotReady: it cannot be done.
        """


@dataclass(frozen=True, slots=True)
class RebaseResult:
    """What stands now, and where."""

    reference: str
    digest: str
    """of the manifest or index; in the local engine the image id"""
    base: str
    """what it stands on: ``name@digest``"""
    platforms: tuple[str, ...]
    changed: bool
    """False: it stood on that base already"""
    seconds: float


def rebase(
    image: str,
    *,
    run_image: str | None = None,
    output: str | None = None,
    force: bool = False,
    registry_config: str | None = None,
    report: Reporter = silent,
    settings: Settings | None = None,
    plugins: Plugins | None = None,
) -> RebaseResult:
    """Put the newest image of its base's name under ``image``.

    Args:
        image: ``registry/name:tag`` (asked of that registry), or ``name:tag`` in the local engine.
        run_image: another base than the one it was built on.
        output: the name that it gets; unset: its own.
        force: also where the tool would rather not.
        registry_config: as a spec's.
        report: is called with each event.
        settings: instead of those of the working directory and the environment.
        plugins: instead of the installed ones.

    Raises:
        ImagesmithError: see ``imagesmith.errors``; nothing is published then.
    """
    from imagesmith.inspection import names_host  # noqa: PLC0415
    from imagesmith.stores.reference import parse  # noqa: PLC0415

    started = time.monotonic()
    settings = settings or current_settings()
    name = parse(image)
    target = parse(output) if output else name
    in_registry = names_host(image)
    if target.repository_reference != name.repository_reference:
        raise UsageError(
            f"{output} is in another repository than {image}",
            hint="give it another tag in its own repository",
        )
    if target.tag is None:
        raise UsageError(f"{target} names no tag", hint="say under which tag the new image goes: --output")
    with contextlib.closing(_open(name, settings, registry_config, in_registry=in_registry)) as store:
        ref = (name.digest or name.tag or "latest") if in_registry else image
        there = _destination(image, name, settings, in_registry=in_registry)
        job = _Job(store, image, name, in_registry, settings, there, registry_config, report, force)
        platforms = store.platforms(ref)
        if not platforms:
            raise ImagesmithError(f"there is no image {image}", hint="check its name and tag")
        try:
            done = [job.one(ref, platform, run_image, plugins) for platform in platforms]
            report(Phase("publishing", output or image))
            images = [each for each, _, _ in done]
            digest = images[0].digest if len(images) == 1 else store.write_index(images)
            store.publish(digest, target.tag if in_registry else str(output or image))
        finally:
            job.discard()
    changed = any(each for _, _, each in done)
    return RebaseResult(output or image, digest, done[0][1], platforms, changed, time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Job:
    store: Store
    image: str
    name: Reference
    in_registry: bool
    settings: Settings
    destination: Destination
    """where a builder leaves a new image"""
    registry_config: str | None
    report: Reporter
    force: bool

    def one(
        self, ref: str, platform: str, run_image: str | None, plugins: Plugins | None
    ) -> tuple[StoredImage, str, bool]:
        """One platform's new image, its base, and whether anything had to be done."""
        old = self.store.read(ref, platform)
        if old is None:
            raise ImagesmithError(f"there is no image {self.image} for {platform}")
        labels = _labels(old.config)
        recorded = labels.get(BASE_NAME, "")
        builder = self._builder(labels, plugins)
        if not (run_image or recorded):
            raise UsageError(f"{self.image} does not say what it stands on", hint="name it: --run-image")
        reference = run_image or recorded
        self.report(Phase("resolving", reference))
        base = self._base(reference, platform, local=not run_image and BASE_DIGEST not in labels)
        pinned = f"{base.reference}@{base.digest}"
        if base.digest == labels.get(BASE_DIGEST) and not self.force:
            return old, pinned, False
        request = RebaseRequest(
            f"{self.name.repository_reference}@{old.digest}" if self.in_registry else self.image,
            old.config,
            platform,
            base,
            reference == recorded,
            self.destination,
            self.force,
            self.registry_config,
            self.settings.options.get(builder.name, FrozenMap()),
        )
        self.report(Phase("rebasing", f"{platform} onto {pinned}"))
        built = cast("Rebases", builder).rebase(request, self.report)
        new = self.store.read(built.digest, platform)
        if new is None:
            raise BuilderNotReady(
                f"the {builder.name} builder left no image under {built.digest}", builder=builder.name
            )
        return self._finish(old, new, base, built), pinned, True

    def _finish(self, old: StoredImage, new: StoredImage, base: BaseImage, built: Built) -> StoredImage:
        """The old configuration, with the labels that the new base and the tool have changed."""
        below = _layers(base.config)
        if _layers(new.config)[: len(below)] != below:
            raise BaseImageError(
                f"the rebased image does not stand on {base.pinned}: the name means another image by now",
                hint="try again",
            )
        inner = old.config.get("config")
        config = dict(inner) if isinstance(inner, Mapping) else {}
        origin = {BASE_NAME: base.reference}
        if base.digest and not base.local:
            origin[BASE_DIGEST] = base.digest
        config["Labels"] = dict(sorted({**_labels(old.config), **built.contributed.labels, **origin}.items()))
        made_by = _labels(old.config).get(_BUILDER, "")
        return self.store.write_config(new, document(new.config, base.config, config, builder=made_by))

    def _builder(self, labels: Mapping[str, str], plugins: Plugins | None) -> Builder:
        from imagesmith.pipeline import make_builder  # noqa: PLC0415
        from imagesmith.plugins import Plugins as Installed  # noqa: PLC0415
        from imagesmith.runner import SubprocessRunner  # noqa: PLC0415

        name = labels.get(_BUILDER, "").partition(" ")[0]
        if not name:
            raise ImagesmithError(
                f"{self.image} was not made by imagesmith: it has no label {_BUILDER}",
                hint="build it with imagesmith, with a builder that can rebase",
            )
        plugins = plugins or Installed(blocked=self.settings.blocked)
        builder = make_builder(plugins, name, self.settings, SubprocessRunner())
        if not hasattr(builder, "rebase"):
            raise BuilderError(
                f"{self.image} was made by the {name} builder, which cannot put another base under an image",
                builder=name,
                hint="build it again: imagesmith build --force",
            )
        readiness = builder.ready()
        if not readiness.ok:
            raise BuilderNotReady(
                f"the {name} builder cannot work on this machine: {readiness.problem}",
                builder=name,
                hint=readiness.hint,
            )
        return builder

    def _base(self, reference: str, platform: str, *, local: bool) -> BaseImage:
        from imagesmith.stores.reference import parse  # noqa: PLC0415

        name = parse(reference)
        ref = reference if local else (name.digest or name.tag or "latest")
        opened = _open(name, self.settings, self.registry_config, in_registry=not local)
        with contextlib.closing(opened) as store:
            found = store.read(ref, platform)
        if found is None:
            raise BaseImageError(
                f"there is no base image {reference} for {platform}", hint="name another one: --run-image"
            )
        return BaseImage(reference if local else str(name), found.digest, found.config, local=local)

    def discard(self) -> None:
        """Take away the name under which the new image was left, where it is of this run alone."""
        match self.destination:
            case LocalEngine(reference):
                self.store.discard(reference)
            case RegistryRepository(staging_tag=tag) if self.settings.own_staging:
                self.store.discard(tag)


def _destination(image: str, name: Reference, settings: Settings, *, in_registry: bool) -> Destination:
    own = f"{STAGING}-{secrets.token_hex(4)}"
    if in_registry:
        return RegistryRepository(name.repository_reference, own if settings.own_staging else STAGING)
    return LocalEngine(f"{image.rpartition(':')[0] if name.tag else image}:{own}")


def _open(name: Reference, settings: Settings, registry_config: str | None, *, in_registry: bool) -> Store:
    if not in_registry:
        from imagesmith.stores.local import LocalStore, connect  # noqa: PLC0415

        return LocalStore(connect(settings.env))
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415

    return open_repository(name.repository_reference, settings.env, registry_config)


def _labels(config: Mapping[str, object]) -> dict[str, str]:
    inner = config.get("config")
    labels = inner.get("Labels") if isinstance(inner, Mapping) else None
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, Mapping) else {}


def _layers(config: Mapping[str, object]) -> list[object]:
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    return list(found) if isinstance(found, (list, tuple)) else []
