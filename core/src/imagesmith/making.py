"""One build that really happens: resolve the base, stage what was hashed, plan, build, finish, publish."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imagesmith import conda_environments, features
from imagesmith._frozen import FrozenMap
from imagesmith._version import __version__
from imagesmith.authoring import secrets_over
from imagesmith.base import RUNTIME_FLOOR, runs_imagesmith, stated_python
from imagesmith.builder import BuildRequest, Built, LocalEngine, RegistryRepository
from imagesmith.errors import BlobUnknown, BuilderNotReady, VerificationFailed
from imagesmith.events import Message, Phase, StepDone, StepStarted
from imagesmith.existence import base_for
from imagesmith.memory import Memory, files_of
from imagesmith.spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from imagesmith.builder import (
        BaseImage,
        Builder,
        BuildPlan,
        CondaPackage,
        CondaTree,
        Destination,
        PythonPackage,
    )
    from imagesmith.conda_environments import Environments
    from imagesmith.events import Reporter
    from imagesmith.memory import Remembered
    from imagesmith.places import Place
    from imagesmith.settings import Settings
    from imagesmith.sources import Staged
    from imagesmith.stores import StoredImage

__all__ = ["Job", "Made"]


@dataclass(frozen=True, slots=True)
class Made:
    """What was published, and what of its content is known."""

    digest: str
    packages: tuple[PythonPackage, ...] = ()
    conda: tuple[CondaPackage, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
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
        build_base: Callable[[ImageSpec, str, Reporter], str],
    ) -> Made:
        """Do it.

        Args:
            scratch: an empty folder, gone afterwards.
            before: the digests of the files that the tag was made of.
            tag: what to publish it under.
            build_base: builds a base that is a spec, with that builder unless it names one itself.

        Raises:
            ImagesmithError: nothing is published then.
        """
        from imagesmith import bases, sources  # noqa: PLC0415

        late = not self.spec.conda_packages and not isinstance(self.spec.base_image, ImageSpec)
        if not late:
            self._check_readiness()
        if isinstance(self.spec.base_image, ImageSpec):
            reference = build_base(self.spec.base_image, self.builder.name, self.report)
        else:
            reference = base_for(self.spec, self.builder, self.settings, ask=True)
        self.report(Phase("resolving", reference))
        resolved = bases.resolve(self.spec, reference, self.settings, self.place.registries)

        environments = conda_environments.solve_all(
            self.spec, self.builder, resolved, self.settings, scratch, self.report
        )
        self.report(Phase("staging"))
        staged = sources.stage(self.spec, scratch / "staged", in_place=before)
        sources.check_unchanged(before, staged)
        for note in staged.notes:
            self.report(Message(note))

        staged = self._with_runtime_or_warning(staged, resolved, environments)
        name = scratch.name.rpartition("-")[2].lower().replace("_", "x")
        requests = [
            self.request(platform, resolved[platform], staged, name, environments.tree(platform))
            for platform in self.spec.platforms
        ]
        laid_out: set[str] = set()

        def prepare(platform: str) -> None:
            if not laid_out:
                if late:
                    self._check_readiness()
                if not getattr(self.builder, "reads_in_place", False):
                    sources.copy_in(staged)
            if platform not in laid_out:
                environments.lay_out(platform, self.report)
                laid_out.add(platform)

        try:
            made = self._make(requests, prepare, tag)
        except BlobUnknown as error:
            self.report(Message(f"{error.message}: building again, and believing no memory of it", "warning"))
            made = self._make([replace(each, ask_again=True) for each in requests], prepare, tag)
        return replace(made, conda=environments.packages)

    def _make(self, requests: Sequence[BuildRequest], prepare: Callable[[str], None], tag: str) -> Made:
        """Build what has to be built, finish and publish. ``prepare``: is called before a builder is."""
        plans = [self.plan(request) for request in requests]
        known = [self._known(plan) for plan in plans]
        for plan, remembered in zip(plans, known, strict=True):
            if remembered is None:
                prepare(plan.request.platform)
        store = self.place.store()
        try:
            built = [self._build(plan, remembered) for plan, remembered in zip(plans, known, strict=True)]
            images = [self._finish(plan, left, tag) for plan, left in zip(plans, built, strict=True)]
            self.report(Phase("publishing", self.place.reference(tag)))
            alone = len(images) == 1 and not images[0].attestations
            digest = images[0].digest if alone else store.write_index(images)
            self.place.publish(digest, tag)
        finally:
            for request in requests:
                self._discard(request.destination)
        for plan, left, image in zip(plans, built, images, strict=True):
            if not image.attestations:  # those are about this build
                self._memory().remember(
                    plan,
                    self.builder.version,
                    image.digest,
                    left.contributed,
                    layer_apart=left.lacks_files,
                )
        packages = dict.fromkeys(package for left in built for package in left.packages)
        return Made(digest, tuple(packages))

    def _memory(self) -> Memory:
        return Memory(self.settings.cache_dir() / "filesystems")

    def _known(self, plan: BuildPlan) -> Remembered | None:
        """An image that has the files this plan makes, where one stands."""
        distrusted = self.force or plan.request.ask_again
        known = None if distrusted else self._memory().recall(plan, self.builder.version)
        return known if known and self.place.store().read(known.digest, plan.request.platform) else None

    def _build(self, plan: BuildPlan, known: Remembered | None) -> Built:
        """The files of one platform."""
        if known is None:
            self.report(Phase("building", f"{plan.request.platform} with {self.made_by}"))
            built = self.builder.build(plan, self.report)
            if not built.lacks_files:
                return built
            # the copies: whoever waited for the builder may have gone on editing
            return self._with_files(plan, plan.request.staged.copied(), built)
        place = plan.request.destination
        if known.files == files_of(plan):
            self.report(
                Message(f"the files are those of {known.digest}: only the configuration is made anew")
            )
            return Built(place, known.digest, known.contributed, lacks_files=known.layer_apart)
        self.report(Message(f"all but the files of the work directory is as in {known.digest}"))
        built = Built(place, known.digest, known.contributed, lacks_files=True)
        return self._with_files(plan, plan.request.staged, built, instead=True)

    def _with_files(self, plan: BuildPlan, staged: Staged, built: Built, *, instead: bool = False) -> Built:
        """What was built with the files of the work directory over it, or ``instead`` of its last layer."""
        from imagesmith.files_layer import write_files  # noqa: PLC0415 - few builds need it
        from imagesmith.sources import unwritable  # noqa: PLC0415

        request, store = plan.request, self.place.store()
        if not plan.files_apart or request.staged.folder is None:
            raise VerificationFailed(
                f"{self.made_by} left out files that its plan does not leave out",
                hint="this is a mistake of the builder: report it to its authors",
            )
        image = built.image or store.read(built.digest, request.platform)
        if image is None:
            return built  # finishing says so
        name, began = f"files: {request.spec.workdir_or_default}", time.monotonic()
        self.report(StepStarted("files", name))
        path = request.staged.folder.parent / f"files-{request.platform.replace('/', '-')}.tar"
        try:
            layer = write_files(replace(request, staged=staged), image, path)
        except OSError as error:
            raise unwritable(path.parent, error) from error
        with_files = store.add_layer(image, layer, instead=instead)
        self.report(StepDone("files", seconds=time.monotonic() - began))
        return replace(built, image=with_files)

    def _finish(self, plan: BuildPlan, built: Built, tag: str) -> StoredImage:
        """The image of one platform, with what is attested about it."""
        from imagesmith.finish import finish  # noqa: PLC0415
        from imagesmith.stores._attestations import carry_over  # noqa: PLC0415

        store, platform = self.place.store(), plan.request.platform
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
        attested = carry_over(store, built.digest, image, self.place.publish_name(tag))
        return replace(image, attestations=attested) if attested else image

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
            secrets=secrets_over(base, self.spec, staged),
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
