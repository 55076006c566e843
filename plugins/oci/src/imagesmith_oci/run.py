"""One build: base, apt, packages, files, commands, and where it all goes."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    BuildPlan,
    Built,
    Contribution,
    Environment,
    ImagesmithError,
    LayoutFolder,
    LocalEngine,
    Message,
    PythonPackage,
    RegistryRepository,
    Reporter,
    StepDone,
    StepLog,
    StepStarted,
    redactions,
)
from imagesmith.stores import LayerFile, LayerFiles, StoredImage
from imagesmith_oci.base import Base, BaseLayer, Origins
from imagesmith_oci.layers import LayerCache, key_of
from imagesmith_oci.packages import READ, Packages
from imagesmith_oci.push import Known, Pusher
from imagesmith_oci.tidy import tidy
from imagesmith_oci.wanted import Job, Wanted, python_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from imagesmith.stores.layout import LayoutStore
    from imagesmith.stores.registry import RegistryStore
    from imagesmith_oci.options import Options
    from imagesmith_oci.userns import Step

__all__ = ["Run"]

NAME = "oci"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(slots=True)
class _Step:
    """What goes on: ``say`` takes its lines."""

    say: Callable[[str], None]
    cached: bool = False


class Run:
    """Used once."""

    def __init__(self, environment: Environment, options: Options, plan: BuildPlan, report: Reporter) -> None:
        self._environment = environment
        self._options = options
        self._plan = plan
        self._request = plan.request
        self._report = report
        self._cache = environment.cache_dir
        self._layers = LayerCache(self._cache / "layers", options.compression)

    def build(self) -> Built:
        """All layers stand in the destination afterwards, or are told to the core as files.

        Raises:
            BuildFailed: a package cannot be had or is damaged, or a step fails.
            BuilderNotReady: this host does not let apt and commands be run.
            BaseImageError: the base cannot carry what was asked for.
            StoreError: a registry, an index or a folder does not do its part.
        """
        from imagesmith_oci.fetch import VanishedError  # noqa: PLC0415

        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagesmith-oci-")))
            base = stack.enter_context(self._base())
            target = stack.enter_context(self._target())
            stack.callback(tidy, self._cache)
            try:
                return self._build(scratch, base, target, anew=False)
            except VanishedError:  # what was resolved before may be gone by now
                pass
            try:
                return self._build(scratch, base, target, anew=True)
            except VanishedError as error:
                raise BuildFailed(
                    f"a package vanished after it was resolved: {error}",
                    builder=NAME,
                    step="packages",
                    hint="the index names a file that it does not have: tell who keeps it",
                ) from error

    def _build(
        self, scratch: Path, base: Base, target: RegistryStore | LayoutStore | None, *, anew: bool
    ) -> Built:
        self._check_host()
        if not anew:
            self._warn()
        known = self._known()
        with contextlib.ExitStack() as stack:
            apt = self._apt(scratch, base)
            facts = base.facts(apt)
            python, contributed = python_of(self._request, facts, self._plan.contributed)
            wants = self._request.staged.has_requirements
            with self._step("resolve", "resolve packages", when=wants) as step:
                packages = Packages(
                    self._environment, self._request, self._options, contributed, scratch, step.say
                )
                stack.callback(packages.close)
                below = len(base.layers) + (1 if apt else 0)
                jobs = Wanted(self._request, facts, python, below).jobs(packages, anew=anew)
                step.cached = packages.known
            pusher = None
            if target is not None:
                pusher = Pusher(target, base, known, self._handed(target))
                stack.callback(pusher.close)
                pusher.base(base.layers)
            made = [*self._sent(apt, pusher), *self._made(jobs, pusher)]
            made += self._sent(self._commands(scratch, base, made, jobs[-1], contributed), pusher)
            if pusher is not None:
                pusher.finish()
        files = self._engine_files(base, made, known) if target is None else None
        told = tuple(
            PythonPackage(each.name, each.version, each.file, each.sha256, each.url)
            for each in packages.found
        )
        image = self._image(base.layers, made, files)
        return Built(self._request.destination, "", contributed, image, told)

    # where it comes from and goes

    def _base(self) -> Base:
        env = self._environment
        return Base(self._request, env.env, self._cache, env.registries)

    @contextlib.contextmanager
    def _target(self) -> Iterator[RegistryStore | LayoutStore | None]:
        """None: the local engine, which the core gives the layers together with the image."""
        match self._request.destination:
            case RegistryRepository(repository):
                from imagesmith.stores.registry import open_repository  # noqa: PLC0415

                config = self._request.spec.registry_config
                env = self._environment
                with open_repository(repository, env.env, config, registries=env.registries) as store:
                    yield store
            case LayoutFolder(path):
                from imagesmith.stores.layout import LayoutStore  # noqa: PLC0415

                yield LayoutStore(path)
            case LocalEngine():
                yield None

    def _handed(self, target: RegistryStore | LayoutStore) -> Callable[[Future[None]], None] | None:
        """What takes uploads that are not at their end yet: the core waits for them, where it can."""
        registries = self._environment.registries
        repository = getattr(target, "repository", None)
        return functools.partial(registries.sending, repository) if registries and repository else None

    def _known(self) -> Known | None:
        match self._request.destination:
            case RegistryRepository(repository):
                place = repository
            case LocalEngine():
                place = f"engine {self._environment.env.get('DOCKER_HOST', '')}"
            case _:
                return None
        known = Known(self._cache / "pushed", place)
        if self._request.ask_again:
            known.forget()
        return known

    def _engine_files(self, base: Base, made: Sequence[LayerFile], known: Known | None) -> LayerFiles:
        """The layers for an engine: those it lacks, and a way to the others."""
        origins = Origins(self._cache / "origins")
        for each in base.layers:
            origins.note(each)
        for layer in made:
            told = (layer.digest, layer.diff_id, layer.size, layer.media_type)
            origins.note(BaseLayer(*told, file=str(layer.path)))
        ours = {layer.digest: layer.path for layer in made}
        lower = {layer.digest: layer for layer in base.layers}
        new = {digest: path for digest, path in ours.items() if known is None or digest not in known}

        def get(descriptor: Mapping[str, object]) -> Path:
            digest = str(descriptor["digest"])
            if digest in ours:
                return ours[digest]
            with self._base() as again:
                return again.download(lower[digest])

        for digest in new:
            if known is not None:
                known.add(digest)
        return LayerFiles(new, get)

    # what is made

    def _made(self, jobs: Sequence[Job], pusher: Pusher | None) -> list[LayerFile]:
        """Every layer, from the cache or new; each is sent as soon as it is there."""
        made = []
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="layer") as pool:
            for job in jobs:
                if job.want is not None and self._layers.get(job.key) is None:
                    job.want()
            running = [pool.submit(self._layer, job, pusher) for job in jobs]
            try:
                for number, (job, future) in enumerate(zip(jobs, running, strict=True)):
                    with self._step(f"layer-{number:02d}", job.name) as step:
                        layer, step.cached, told = future.result()
                        step.say(told)
                    made.append(layer)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return made

    def _layer(self, job: Job, pusher: Pusher | None) -> tuple[LayerFile, bool, str]:
        try:
            known = self._layers.get(job.key)
            layer = known or self._layers.make(job.key, job.fill, job.below)
        except OSError as error:
            raise BuildFailed(
                f"{job.name}: cannot write to {self._cache}: {error.strerror}",
                builder=NAME,
                hint="make room there, or set IMAGESMITH_CACHE_DIR to a folder on another file system",
            ) from error
        sent = pusher is not None and pusher.layer(layer)
        told = f"{layer.digest} {layer.size / 1e6:.1f} MB{', sent' if sent else ''}"
        return layer, known is not None, told

    def _sent(self, layer: LayerFile | None, pusher: Pusher | None) -> list[LayerFile]:
        if layer is None:
            return []
        if pusher is not None:
            pusher.layer(layer)
        return [layer]

    def _warn(self) -> None:
        """Of secret files that nothing here reads: packages are resolved, and not installed in the image."""
        for number, (_, target) in enumerate(self._request.spec.pip_secret_mounts):
            if target.rpartition("/")[2].lstrip(".") not in READ:
                text = (
                    f"pip_secret_mounts[{number}]: {target} is not read, only {' and '.join(READ)} files are"
                )
                self._report(Message(text, "warning"))

    # what is run

    def _check_host(self) -> None:
        spec = self._request.spec
        if not spec.apt_packages and not spec.commands:
            return
        from imagesmith_oci.userns import available  # noqa: PLC0415 - few specs need it

        found = available(self._environment, self._request.platform)
        if not found.ok:
            raise BuilderNotReady(
                f"apt_packages and commands cannot be run on this machine: {found.problem}",
                builder=NAME,
                hint=found.hint,
            )

    def _apt(self, scratch: Path, base: Base) -> LayerFile | None:
        if not self._request.spec.apt_packages:
            return None
        from imagesmith_oci.userns import apt_steps  # noqa: PLC0415

        steps = apt_steps(self._request, Contribution(), self._environment.env)
        return self._captured("apt", scratch, base, (), None, steps)

    def _commands(
        self, scratch: Path, base: Base, made: Sequence[LayerFile], last: Job, contributed: Contribution
    ) -> LayerFile | None:
        if not self._request.spec.commands:
            return None
        from imagesmith_oci.userns import command_steps  # noqa: PLC0415

        passing = made[-1] if last.passing else None
        steps = command_steps(self._request, contributed)
        return self._captured("commands", scratch, base, made, passing, steps)

    def _captured(
        self,
        name: str,
        scratch: Path,
        base: Base,
        made: Sequence[LayerFile],
        passing: LayerFile | None,
        steps: Sequence[Step],
    ) -> LayerFile | None:
        """What steps change over the layers below, as a layer; None where they change nothing."""
        from imagesmith_oci import userns  # noqa: PLC0415

        diff_ids = [*(each.diff_id for each in base.layers), *(layer.diff_id for layer in made)]
        key = key_of(name, diff_ids, self._request.platform, userns.key_of(steps))
        if known := self._layers.get(key):
            for step in steps:
                self._report(StepStarted(step.id, step.name))
                self._report(StepDone(step.id, cached=True))
            return known if known.size else None
        lowers = [userns.Lower(each.diff_id, functools.partial(base.open, each)) for each in base.layers]
        lowers += [
            userns.Lower(layer.diff_id, functools.partial(_opened, layer), keep=layer is not passing)
            for layer in made
        ]
        into = scratch / f"{name}.tar"
        into.unlink(missing_ok=True)
        found = userns.run_steps(
            self._environment,
            self._request.platform,
            lowers,
            steps,
            self._report,
            into=into,
            redact=redactions(self._request),
        )
        layer = self._layers.pack(key, into if found.entries else None)
        into.unlink(missing_ok=True)
        return layer if layer.size else None

    def _image(
        self, base: Sequence[BaseLayer], made: Sequence[LayerFile], files: LayerFiles | None
    ) -> StoredImage:
        config: Mapping[str, Any] = self._request.base.config
        parts = {key: config[key] for key in ("os", "architecture", "variant") if config.get(key)}
        diff_ids = [*(layer.diff_id for layer in base), *(layer.diff_id for layer in made)]
        layers = [*(layer.descriptor for layer in base), *(layer.descriptor for layer in made)]
        return StoredImage(
            "",
            {**parts, "rootfs": {"type": "layers", "diff_ids": diff_ids}},
            {"schemaVersion": 2, "mediaType": _MANIFEST, "layers": layers},
            _MANIFEST,
            files=files,
        )

    @contextlib.contextmanager
    def _step(self, step: str, name: str, *, when: bool = True) -> Iterator[_Step]:
        """Report a step from its start to its end."""
        if not when:
            yield _Step(lambda _: None)
            return
        started = time.monotonic()
        self._report(StepStarted(step, name))
        going = _Step(lambda line: self._report(StepLog(step, line)))
        try:
            yield going
        except ImagesmithError as error:
            told = error.message.partition("\n")[0]
            self._report(StepDone(step, time.monotonic() - started, error=told))
            raise
        self._report(StepDone(step, time.monotonic() - started, cached=going.cached))


def _opened(layer: LayerFile) -> contextlib.closing[BinaryIO]:
    return contextlib.closing(layer.path.open("rb"))
