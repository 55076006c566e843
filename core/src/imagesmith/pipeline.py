"""From a spec to a published image: choose the builder, check its features, reuse what stands under the
tag, lock, resolve the base, stage what was hashed, plan, build, finish, publish."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from imagesmith import features
from imagesmith._frozen import FrozenMap
from imagesmith._version import __version__
from imagesmith.builder import (
    BaseImage,
    Builder,
    BuildPlan,
    BuildRequest,
    Environment,
    LocalEngine,
    RegistryRepository,
)
from imagesmith.errors import (
    BuilderError,
    BuilderNotReady,
    ExistenceUnknown,
    ImagesmithError,
    StoreError,
    UsageError,
)
from imagesmith.events import Message, Phase, Reporter, silent
from imagesmith.places import Place, place_for
from imagesmith.settings import Settings, load_settings
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from imagesmith.builder import Feature, Support
    from imagesmith.plugins import Plugins
    from imagesmith.sources import Staged
    from imagesmith.stores import Store, StoredImage

__all__ = ["BuildResult", "Existence", "OnUnknown", "build", "exists", "render"]

OnUnknown: TypeAlias = Literal["error", "build", "assume"]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What stands now, and where."""

    reference: str
    """``[registry/]name:tag``"""
    digest: str
    """of the manifest or index; in the local engine the image id; empty when only assumed to exist"""
    platforms: tuple[str, ...]
    builder: str
    """``NAME VERSION`` of the builder that made the image"""
    reused: bool
    seconds: float
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class Existence:
    """Whether an image stands under the reference: True, False, or None with the cause."""

    found: bool | None
    cause: str | None
    reference: str
    digest: str | None = None
    builder: str = ""


def exists(spec: ImageSpec, *, settings: Settings | None = None, push: bool | None = None) -> Existence:
    """Ask the place where the spec's image would be published. Never raises for what a store answers."""
    settings = settings or _settings()
    from imagesmith.sources import digests  # noqa: PLC0415

    place = place_for(spec, push=push, env=settings.env)
    return _existence(place, _tag(spec, digests(spec), settings))


def render(
    spec: ImageSpec,
    *,
    builder: str | None = None,
    settings: Settings | None = None,
    plugins: Plugins | None = None,
) -> tuple[BuildPlan, ...]:
    """What a build would do, one plan per platform. No engine, no network: the base stays unresolved."""
    from imagesmith.sources import listed  # noqa: PLC0415

    settings = settings or _settings()
    plugins = plugins or _plugins(settings)
    chosen = _choose(spec, builder, settings, plugins)
    place = place_for(spec, env=settings.env)
    _check(spec, place, chosen, plugins)
    staged = listed(spec)
    local = isinstance(spec.base_image, ImageSpec) and not spec.base_image.registry
    base = BaseImage(_base_reference(spec, settings), local=local)
    requests = [
        _request(spec, platform, base, place, staged, chosen.name, settings) for platform in spec.platforms
    ]
    return tuple(_plan(chosen, request) for request in requests)


def build(
    spec: ImageSpec,
    *,
    builder: str | None = None,
    force: bool = False,
    push: bool | None = None,
    on_unknown: OnUnknown = "error",
    output: Path | None = None,
    report: Reporter = silent,
    settings: Settings | None = None,
    plugins: Plugins | None = None,
) -> BuildResult:
    """Build the image and publish it under its tag, or reuse the one that stands there.

    Args:
        spec: what to build.
        builder: a builder's name; unset: the spec's, the environment's, the project's, the default.
        force: build even when the tag stands already.
        push: publish in the spec's registry (the default when it names one) or leave the image in the
            local engine.
        on_unknown: what to do when it cannot be told whether the tag stands.
        output: an OCI layout folder to write instead.
        report: is called with each event.
        settings: instead of those of the working directory and the environment.
        plugins: instead of the installed ones.

    Raises:
        ImagesmithError: see ``imagesmith.errors``; nothing is published then.
    """
    started = time.monotonic()
    settings = settings or _settings()
    plugins = plugins or _plugins(settings)
    from imagesmith.sources import digests  # noqa: PLC0415

    chosen = _choose(spec, builder, settings, plugins)
    place = place_for(spec, push=push, output=output, env=settings.env)
    _check(spec, place, chosen, plugins)

    before = digests(spec)
    tag = _tag(spec, before, settings)
    reference = place.reference(tag)

    def reusable() -> BuildResult | None:
        return None if force else _reuse(spec, place, tag, on_unknown, started, report)

    report(Phase("checking", reference))
    if found := reusable():
        return found
    from imagesmith.lock import locked  # noqa: PLC0415

    cache = settings.cache_dir()
    with locked(cache / "locks", reference, report), _scratch(spec.name) as scratch, _log(
        cache, spec.name, report
    ) as (log, report):
        if found := reusable():  # the process we waited for has built it
            return found
        job = _Job(spec, chosen, place, settings, report)
        built_by = f"{chosen.name} {chosen.version}"
        try:
            digest = job.run(scratch, before, tag, built_by, plugins, on_unknown)
        except BuilderError as error:
            if hasattr(error, "log") and error.log is None:
                error.log = str(log)
            raise
    return BuildResult(
        reference, digest, spec.platforms, built_by, reused=False, seconds=time.monotonic() - started, log=log
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """One build that really happens."""

    spec: ImageSpec
    builder: Builder
    place: Place
    settings: Settings
    report: Reporter

    def run(
        self,
        scratch: Path,
        before: Mapping[str, str],
        tag: str,
        built_by: str,
        plugins: Plugins,
        on_unknown: OnUnknown,
    ) -> str:
        """The digest that was published."""
        from imagesmith import bases, finish, sources  # noqa: PLC0415

        readiness = self.builder.ready()
        if not readiness.ok:
            raise BuilderNotReady(
                f"the {self.builder.name} builder cannot build on this machine: {readiness.problem}",
                builder=self.builder.name,
                hint=readiness.hint,
            )
        self.report(Phase("resolving", _base_reference(self.spec, self.settings)))
        reference = _base_reference(self.spec, self.settings)
        if isinstance(self.spec.base_image, ImageSpec):
            reference = self._build_base(self.spec.base_image, plugins, on_unknown)
        resolved = bases.resolve(self.spec, reference, self.settings)

        self.report(Phase("staging"))
        staged = sources.stage(self.spec, scratch / "staged")
        sources.check_unchanged(before, staged)
        requests = [
            _request(self.spec, platform, resolved[platform], self.place, staged, self.builder.name, self.settings)
            for platform in self.spec.platforms
        ]
        plans = [_plan(self.builder, request) for request in requests]

        images: list[StoredImage] = []
        store = self.place.store()
        try:
            for plan in plans:
                self.report(Phase("building", f"{plan.request.platform} with {built_by}"))
                built = self.builder.build(plan, self.report)
                self.report(Phase("finishing", built.digest))
                images.append(
                    finish.finish(
                        store,
                        built.digest,
                        base=plan.request.base,
                        spec=self.spec,
                        contribution=built.contributed,
                        tag=tag,
                        builder=built_by,
                        version=__version__,
                        platform=plan.request.platform,
                    )
                )
            self.report(Phase("publishing", self.place.reference(tag)))
            digest = images[0].digest if len(images) == 1 else store.write_index(images)
            store.publish(digest, self.place.publish_name(tag))
        finally:
            for request in requests:
                if isinstance(request.destination, LocalEngine):
                    store.discard(request.destination.reference)
        return digest

    def _build_base(self, base: ImageSpec, plugins: Plugins, on_unknown: OnUnknown) -> str:
        self.report(Message(f"the base image is a spec: {base.name}"))
        result = build(
            base,
            builder=self.builder.name if base.builder is None else None,
            on_unknown=on_unknown,
            report=self.report,
            settings=self.settings,
            plugins=plugins,
        )
        self.report(Message(f"base {'reused' if result.reused else 'built'}: {result.reference}"))
        return result.reference


def _settings() -> Settings:
    return load_settings(Path.cwd(), dict(os.environ))


def _plugins(settings: Settings) -> Plugins:
    from imagesmith.plugins import Plugins  # noqa: PLC0415

    return Plugins(blocked=settings.blocked)


def _choose(spec: ImageSpec, argument: str | None, settings: Settings, plugins: Plugins) -> Builder:
    from imagesmith.plugins import choose  # noqa: PLC0415
    from imagesmith.runner import SubprocessRunner  # noqa: PLC0415

    name = choose(argument, spec.builder, settings.builder_env, settings.builder_project, plugins.names())
    return make_builder(plugins, name, settings, SubprocessRunner())


def make_builder(plugins: Plugins, name: str, settings: Settings, runner: object) -> Builder:
    """The builder of that name, given what it may touch."""
    entry = plugins.load(name)
    return entry.factory(
        Environment(
            runner=runner,  # type: ignore[arg-type]
            env=settings.env,
            cache_dir=settings.cache_dir() / name,
            options=settings.options.get(name, FrozenMap()),
        )
    )


def _check(spec: ImageSpec, place: Place, builder: Builder, plugins: Plugins) -> None:
    def others() -> Mapping[str, Mapping[Feature, Support]]:
        tables: dict[str, Mapping[Feature, Support]] = {}
        for name in plugins.names():
            with contextlib.suppress(ImagesmithError):
                tables[name] = make_builder(plugins, name, Settings(), None).features
        return tables

    features.check(spec, place.destination(), builder=builder.name, features=builder.features, others=others)


def _request(
    spec: ImageSpec,
    platform: str,
    base: BaseImage,
    place: Place,
    staged: Staged,
    builder: str,
    settings: Settings,
) -> BuildRequest:
    return BuildRequest(
        spec=spec,
        platform=platform,
        base=base,
        destination=place.destination(),
        staged=staged,
        secrets=staged.secrets,
        options=settings.options.get(builder, FrozenMap()),
    )


def _plan(builder: Builder, request: BuildRequest) -> BuildPlan:
    if reasons := builder.refusals(request):
        raise features.refusal(builder.name, reasons)
    return builder.plan(request)


def _tag(spec: ImageSpec, digests: Mapping[str, str], settings: Settings) -> str:
    from imagesmith.identity import content_tag  # noqa: PLC0415

    return content_tag(spec, digests=digests, default_base=settings.default_base(spec))


def _base_reference(spec: ImageSpec, settings: Settings) -> str:
    base = spec.base_image
    if isinstance(base, ImageSpec):
        return base.image_name()
    return base or settings.default_base(spec)


def _existence(place: Place, tag: str) -> Existence:
    reference = place.reference(tag)
    try:
        image = place.find(tag)
    except StoreError as error:
        return Existence(None, str(error), reference)
    if image is None:
        return Existence(False, None, reference)
    return Existence(True, None, reference, digest=image.digest, builder=image.builder)


def _reuse(
    spec: ImageSpec, place: Place, tag: str, on_unknown: OnUnknown, started: float, report: Reporter
) -> BuildResult | None:
    known = _existence(place, tag)
    reference = known.reference
    if known.found is None:
        if on_unknown == "error":
            raise ExistenceUnknown(
                f"cannot tell whether {reference} exists: {known.cause}",
                hint="mend the cause, or say what to do: on_unknown='build' or 'assume' (--on-unknown)",
            )
        report(Message(f"cannot tell whether {reference} exists: {known.cause}", "warning"))
        if on_unknown == "build":
            return None
    if known.found is False:
        return None
    return BuildResult(
        reference,
        known.digest or "",
        spec.platforms,
        known.builder,
        reused=True,
        seconds=time.monotonic() - started,
    )


@contextlib.contextmanager
def _scratch(name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"imagesmith-{name.replace('/', '-')}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _log(cache: Path, name: str, report: Reporter) -> Iterator[tuple[Path, Reporter]]:
    from imagesmith.buildlog import BuildLog, log_path  # noqa: PLC0415

    log = BuildLog(log_path(cache / "logs", name), report)
    try:
        yield log.path, log
    finally:
        log.close()
