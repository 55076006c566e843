"""From a spec to a published image: choose the builder, check its features, reuse what stands under the
tag, lock, resolve the base, stage what was hashed, plan, build, finish, publish."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import conda_environments, features
from imagesmith._frozen import FrozenMap
from imagesmith._version import __version__
from imagesmith.base import RUNTIME_FLOOR, runs_imagesmith, stated_python
from imagesmith.builder import (
    BaseImage,
    Builder,
    BuildPlan,
    BuildRequest,
    Built,
    Environment,
    LocalEngine,
    RegistryRepository,
)
from imagesmith.errors import BuilderNotReady, BuildFailed, ImagesmithError
from imagesmith.events import Message, Phase, Reporter, silent
from imagesmith.existence import (
    Existence,
    OnUnknown,
    base_for,
    current_settings,
    exists,
    reusable,
    tag_for,
)
from imagesmith.places import Place, place_for
from imagesmith.settings import Settings
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imagesmith.builder import CondaPackage, CondaTree, Destination, Feature, Support
    from imagesmith.conda_environments import Environments
    from imagesmith.memory import Memory, Remembered
    from imagesmith.plugins import Plugins
    from imagesmith.runner import Runner
    from imagesmith.sources import Staged
    from imagesmith.stores import StoredImage

__all__ = ["BuildResult", "Existence", "OnUnknown", "build", "exists", "make_builder", "render"]


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
    conda: tuple[CondaPackage, ...] = ()
    """the packages of the conda environments that were laid out; empty when the image was reused"""


def render(
    spec: ImageSpec,
    *,
    builder: str | None = None,
    settings: Settings | None = None,
    plugins: Plugins | None = None,
) -> tuple[BuildPlan, ...]:
    """What a build would do, one plan per platform. No engine, no network: the base stays unresolved."""
    from imagesmith.sources import listed  # noqa: PLC0415

    settings = settings or current_settings()
    plugins = plugins or _plugins(settings)
    chosen = _choose(spec, builder, settings, plugins)
    with place_for(spec, settings) as place:
        _check(spec, place, chosen, plugins)
        staged = listed(spec)
        local = isinstance(spec.base_image, ImageSpec) and not spec.base_image.registry
        base = BaseImage(base_for(spec, chosen, settings, ask=False), local=local)
        job = _Job(spec, chosen, place, settings, silent)
        conda = conda_environments.shown(spec, chosen, base, settings)
        return tuple(job.plan(job.request(platform, base, staged, "", conda)) for platform in spec.platforms)


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
    from imagesmith.sources import digests  # noqa: PLC0415

    started = time.monotonic()
    settings = settings or current_settings()
    plugins = plugins or _plugins(settings)
    chosen = _choose(spec, builder, settings, plugins)
    with place_for(spec, settings, push=push, output=output) as place:
        _check(spec, place, chosen, plugins)
        before = digests(spec)
        tag = tag_for(spec, before, settings)
        reference = place.reference(tag)

        def reused(known: Existence) -> BuildResult:
            seconds = time.monotonic() - started
            return BuildResult(reference, known.digest or "", spec.platforms, known.builder, True, seconds)

        report(Phase("checking", reference))
        if not force and (known := reusable(place, tag, on_unknown, report)):
            return reused(known)
        from imagesmith.lock import locked  # noqa: PLC0415 - only a build needs it

        with locked(settings.cache_dir() / "locks", reference, report):
            # whoever held the lock before may have built it
            if not force and (known := reusable(place, tag, on_unknown, report)):
                return reused(known)
            with _scratch() as scratch, _log(settings, spec, report) as (log, logged):
                job = _Job(spec, chosen, place, settings, logged, force)
                try:
                    digest, conda = job.run(scratch, before, tag, plugins, on_unknown)
                except BuildFailed as error:
                    error.log = error.log or str(log)
                    raise
                seconds = time.monotonic() - started
                made_by = job.made_by
                return BuildResult(reference, digest, spec.platforms, made_by, False, seconds, log, conda)


@dataclass(frozen=True, slots=True)
class _Job:
    """One build that really happens."""

    spec: ImageSpec
    builder: Builder
    place: Place
    settings: Settings
    report: Reporter
    force: bool = False

    @property
    def made_by(self) -> str:
        """``NAME VERSION``."""
        return f"{self.builder.name} {self.builder.version}"

    def run(
        self,
        scratch: Path,
        before: Mapping[str, str],
        tag: str,
        plugins: Plugins,
        on_unknown: OnUnknown,
    ) -> tuple[str, tuple[CondaPackage, ...]]:
        """The digest that was published, and the conda packages in it."""
        from imagesmith import bases, sources  # noqa: PLC0415

        self._check_readiness()
        if isinstance(self.spec.base_image, ImageSpec):
            reference = self._build_base(self.spec.base_image, plugins, on_unknown)
        else:
            reference = base_for(self.spec, self.builder, self.settings, ask=True)
        self.report(Phase("resolving", reference))
        resolved = bases.resolve(self.spec, reference, self.settings)

        environments = conda_environments.solve_all(
            self.spec, self.builder, resolved, self.settings, scratch, self.report
        )
        self.report(Phase("staging"))
        staged = sources.stage(self.spec, scratch / "staged")
        sources.check_unchanged(before, staged)
        for note in staged.notes:
            self.report(Message(note))

        staged = self._with_runtime_or_warning(staged, resolved, environments)
        name = scratch.name.rpartition("-")[2].lower().replace("_", "x")
        requests = [
            self.request(platform, resolved[platform], staged, name, environments.tree(platform))
            for platform in self.spec.platforms
        ]
        plans = {request.platform: self.plan(request) for request in requests}
        known = {platform: self._known(plan) for platform, plan in plans.items()}
        for platform in plans:
            if known[platform] is None:
                environments.lay_out(platform, self.report)
        store = self.place.store()
        try:
            images = [self._one(plan, known[platform], tag) for platform, plan in plans.items()]
            self.report(Phase("publishing", self.place.reference(tag)))
            alone = len(images) == 1 and not images[0].attestations
            digest = images[0].digest if alone else store.write_index(images)
            store.publish(digest, self.place.publish_name(tag))
        finally:
            for request in requests:
                self._discard(request.destination)
        return digest, environments.packages

    def _memory(self) -> Memory:
        from imagesmith.memory import Memory  # noqa: PLC0415

        return Memory(self.settings.cache_dir() / "filesystems")

    def _known(self, plan: BuildPlan) -> Remembered | None:
        """An image that has the files this plan makes, where one stands."""
        known = None if self.force else self._memory().recall(plan, self.builder.version)
        return known if known and self.place.store().read(known.digest, plan.request.platform) else None

    def _one(self, plan: BuildPlan, known: Remembered | None, tag: str) -> StoredImage:
        """Build and finish one platform."""
        from imagesmith.finish import finish  # noqa: PLC0415
        from imagesmith.stores._attestations import carry_over  # noqa: PLC0415

        store, platform = self.place.store(), plan.request.platform
        if known:
            self.report(
                Message(f"the files are those of {known.digest}: only the configuration is made anew")
            )
            built = Built(plan.request.destination, known.digest, known.contributed)
        else:
            self.report(Phase("building", f"{platform} with {self.made_by}"))
            built = self.builder.build(plan, self.report)
        self.report(Phase("finishing", built.digest or platform))
        image = finish(
            store,
            built.image or built.digest,
            base=plan.request.base,
            spec=self.spec,
            contribution=built.contributed,
            tag=tag,
            builder=self.made_by,
            version=__version__,
            platform=platform,
        )
        if attested := carry_over(store, built.digest, image, self.place.publish_name(tag)):
            return replace(image, attestations=attested)  # not remembered: they are about this build
        self._memory().remember(plan, self.builder.version, image.digest, built.contributed)
        return image

    def _discard(self, destination: Destination) -> None:
        """Take away the name under which this build was staged, where it had one of its own."""
        match destination:
            case LocalEngine(reference):
                self.place.store().discard(reference)
            case RegistryRepository(staging_tag=tag) if self.settings.own_staging:
                self.place.store().discard(tag)

    def _with_runtime_or_warning(
        self, staged: Staged, bases: Mapping[str, BaseImage], environments: Environments
    ) -> Staged:
        found = [environments.python(platform) or stated_python(base) for platform, base in bases.items()]
        versions = [self.spec.python_version, *found]
        old = next((version for version in versions if not runs_imagesmith(version)), None)
        if old is None or not staged.has_runtime:
            return staged
        floor = ".".join(map(str, RUNTIME_FLOOR))
        text = f"the image's python {old} is older than {floor}: it cannot import imagesmith"
        self.report(Message(text, "warning"))
        return replace(staged, has_runtime=False)

    def request(
        self, platform: str, base: BaseImage, staged: Staged, build: str, conda: CondaTree | None
    ) -> BuildRequest:
        """What the builder is told."""
        return BuildRequest(
            spec=self.spec,
            platform=platform,
            base=base,
            destination=self.place.destination(build),
            staged=staged,
            secrets=staged.secrets,
            options=self.settings.options.get(self.builder.name, FrozenMap()),
            conda=conda,
        )

    def plan(self, request: BuildRequest) -> BuildPlan:
        """The builder's plan, once it has nothing against the request."""
        if reasons := self.builder.refusals(request):
            raise features.refusal(self.builder.name, reasons)
        return self.builder.plan(request)

    def _check_readiness(self) -> None:
        readiness = self.builder.ready()
        if not readiness.ok:
            raise BuilderNotReady(
                f"the {self.builder.name} builder cannot build on this machine: {readiness.problem}",
                builder=self.builder.name,
                hint=readiness.hint,
            )

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


def make_builder(plugins: Plugins, name: str, settings: Settings, runner: Runner) -> Builder:
    """The builder of that name, given what it may touch."""
    return plugins.load(name).factory(
        Environment(
            runner=runner,
            env=settings.env,
            cache_dir=settings.cache_dir() / name,
            options=settings.options.get(name, FrozenMap()),
        )
    )


def _plugins(settings: Settings) -> Plugins:
    from imagesmith.plugins import Plugins  # noqa: PLC0415

    return Plugins(blocked=settings.blocked)


def _choose(spec: ImageSpec, argument: str | None, settings: Settings, plugins: Plugins) -> Builder:
    from imagesmith.plugins import choose  # noqa: PLC0415
    from imagesmith.runner import SubprocessRunner  # noqa: PLC0415

    name = choose(argument, spec.builder, settings.builder_env, settings.builder_project, plugins.names())
    return make_builder(plugins, name, settings, SubprocessRunner())


def _check(spec: ImageSpec, place: Place, builder: Builder, plugins: Plugins) -> None:
    def others() -> Mapping[str, Mapping[Feature, Support]]:
        from imagesmith.runner import SubprocessRunner  # noqa: PLC0415

        tables: dict[str, Mapping[Feature, Support]] = {}
        for name in plugins.names():
            with contextlib.suppress(ImagesmithError):
                tables[name] = make_builder(plugins, name, Settings(), SubprocessRunner()).features
        return tables

    features.check(spec, place.destination(), builder=builder.name, features=builder.features, others=others)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="imagesmith-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _log(settings: Settings, spec: ImageSpec, report: Reporter) -> Iterator[tuple[Path, Reporter]]:
    from imagesmith.buildlog import BuildLog, log_path  # noqa: PLC0415

    name = re.sub(r"[^a-z0-9._-]+", "-", spec.name)
    log = BuildLog(log_path(settings.cache_dir() / "logs", name), report)
    try:
        yield log.path, log
    finally:
        log.close()
