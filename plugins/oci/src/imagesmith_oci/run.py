"""One build: base, packages, layers, and where they go."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesmith import (
    BaseImageError,
    BuildFailed,
    BuildPlan,
    Built,
    Contribution,
    Environment,
    ImagesmithError,
    LayoutFolder,
    RegistryRepository,
    Reporter,
    StepDone,
    StepLog,
    StepStarted,
    final_user,
)
from imagesmith.stores import StoredImage
from imagesmith_oci import content
from imagesmith_oci.base import facts_of, layers_of
from imagesmith_oci.basefacts import Facts, place, user_id
from imagesmith_oci.groups import group, room
from imagesmith_oci.layers import Layer, LayerCache, key_of
from imagesmith_oci.packages import Packages, identity
from imagesmith_oci.prefix import RUNTIME, VENV, Prefix, Python, skeleton
from imagesmith_oci.push import Known, Pusher, oci_descriptor

if TYPE_CHECKING:
    from imagesmith.stores.layout import LayoutStore
    from imagesmith.stores.registry import RegistryStore
    from imagesmith_oci.options import Options
    from imagesmith_oci.tarball import TarWriter

__all__ = ["Run"]

NAME = "oci"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_OTHERS = 8
"""layers that are no packages, at most"""


@dataclass(frozen=True, slots=True)
class _Job:
    """A layer that is wanted: its name for people, its key, and what writes it."""

    name: str
    key: str
    fill: Callable[[TarWriter], None]
    below: tuple[str, ...] = ()


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
        """All layers stand in the destination afterwards.

        Raises:
            BuildFailed: a package cannot be had, or is damaged.
            BaseImageError: the base cannot carry what was asked for.
            StoreError: a registry, an index or a folder does not do its part.
        """
        from imagesmith_oci.fetch import VanishedError  # noqa: PLC0415

        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagesmith-oci-")))
            source = stack.enter_context(self._source())
            facts = facts_of(self._request.base, source, self._cache)
            target = stack.enter_context(self._target())
            for anew in (False, True):
                try:
                    return self._build(scratch, source, target, facts, anew=anew)
                except VanishedError as error:
                    if anew:
                        raise BuildFailed(
                            f"a package vanished after it was resolved: {error}",
                            builder=NAME,
                            step="packages",
                            hint="the index names a file that it does not have: tell who keeps it",
                        ) from error
        raise AssertionError("unreachable")

    def _build(
        self,
        scratch: Path,
        source: RegistryStore,
        target: RegistryStore | LayoutStore,
        facts: Facts,
        *,
        anew: bool,
    ) -> Built:
        known = None
        if isinstance(self._request.destination, RegistryRepository):
            known = Known(self._cache / "pushed", self._request.destination.repository)
            if self._request.ask_again:
                known.forget()
        base = layers_of(self._request.base)
        with contextlib.ExitStack() as stack:
            pusher = Pusher(target, source, known)
            stack.callback(pusher.close)
            pusher.base(base)
            python, contributed = self._python(facts)
            with self._step("packages", "packages: resolve", when=self._wants_packages) as say:
                packages = Packages(
                    self._environment, self._request, self._options, contributed, scratch, say
                )
                stack.callback(packages.close)
                jobs = self._jobs(packages, facts, python, len(base), anew=anew)
            made = self._made(jobs, pusher)
            pusher.finish()
        return Built(self._request.destination, "", contributed, self._image(base, made))

    # what there is

    @contextlib.contextmanager
    def _source(self) -> Iterator[RegistryStore]:
        """The repository of the base."""
        from imagesmith.stores.reference import parse  # noqa: PLC0415
        from imagesmith.stores.registry import open_repository  # noqa: PLC0415

        base = self._request.base
        if not layers_of(base):
            raise BaseImageError(
                f"the base image {base.reference} is in no registry",
                hint="its layers are read from a registry: push it to one, and name it there",
            )
        spec_base = self._request.spec.base_image
        own = getattr(spec_base, "registry_config", None)
        config = own or self._request.spec.registry_config
        name = parse(base.reference).repository_reference
        with open_repository(name, self._environment.env, config, mirrored=True) as store:
            yield store

    @contextlib.contextmanager
    def _target(self) -> Iterator[RegistryStore | LayoutStore]:
        match self._request.destination:
            case RegistryRepository(repository):
                from imagesmith.stores.registry import open_repository  # noqa: PLC0415

                config = self._request.spec.registry_config
                with open_repository(repository, self._environment.env, config) as store:
                    yield store
            case LayoutFolder(path):
                from imagesmith.stores.layout import LayoutStore  # noqa: PLC0415

                yield LayoutStore(path)
            case _:
                raise BuildFailed(
                    "the local engine is no destination yet",
                    builder=NAME,
                    hint="set registry= in the spec, or write a layout (--output)",
                )

    @property
    def _wants_packages(self) -> bool:
        return self._request.staged.has_requirements

    def _python(self, facts: Facts) -> tuple[Python | None, Contribution]:
        """The image's python, and what the configuration needs for it."""
        request, wanted = self._request, self._request.spec.python_version
        if request.conda is not None:
            version = request.conda.python or wanted or ""
            return Python(f"{request.conda.PREFIX}/bin/python", version), request.conda.contribution
        python = facts.python
        if python is None:
            if wanted is None and not self._wants_packages:
                return None, Contribution()
            raise BaseImageError(
                f"the base image {request.base.reference} has no python3",
                hint="choose a base that has one, or name a conda package: its python comes with it",
            )
        have, want = python.version.split("."), (wanted or "").split(".")
        if wanted and have[: len(want)] != want:
            raise BaseImageError(
                f"the base image {request.base.reference} carries python {python.version}, "
                f"the spec asks for {wanted}",
                hint="choose a base that has it, or name a conda package: its python comes with it",
            )
        return python, self._plan.contributed

    # what is wanted

    def _jobs(
        self, packages: Packages, facts: Facts, python: Python | None, base: int, *, anew: bool
    ) -> list[_Job]:
        jobs = list(self._conda())
        if self._request.conda is None and python is not None:
            jobs.append(self._skeleton(python))
        if self._wants_packages and python is not None:
            jobs += self._packages(packages, facts, python, room(base, len(jobs) + _OTHERS), anew=anew)
        return [*jobs, *self._files(facts)]

    def _conda(self) -> Iterator[_Job]:
        tree = self._request.conda
        if tree is None or tree.folder is None:
            return
        folder, top = tree.folder, tree.PREFIX.lstrip("/")
        parts = content.conda_parts(tree)
        few = room(len(layers_of(self._request.base)), _OTHERS) // 2
        for some in group({part: part.size for part in parts}, few):
            names = [part.name for part in some if part.name]
            digests = [content.digests(folder, part.files) if not part.name else [] for part in some]
            key = key_of("conda", top, [part.identity for part in some], digests)

            def fill(tar: TarWriter, some: tuple[content.CondaPart, ...] = some) -> None:
                content.write_conda(tar, folder, top, some)

            yield _Job(f"conda: {_listed(names)}", key, fill, content.ways(top))

    def _skeleton(self, python: Python) -> _Job:
        files, links = skeleton(python)

        def fill(tar: TarWriter) -> None:
            for path, text in files.items():
                tar.data(path, text.encode())
            for path, target in links.items():
                tar.link(path, target)

        return _Job(
            f"python {python.version}: {VENV}", key_of("venv", files, links), fill, content.ways(VENV)
        )

    def _packages(
        self, packages: Packages, facts: Facts, python: Python, most: int, *, anew: bool
    ) -> Iterator[_Job]:
        if facts.libc is None:
            raise BaseImageError(
                f"the base image {self._request.base.reference} has no C library that wheels know",
                hint="choose a base with glibc or musl, or another builder",
            )
        lock = packages.lock(python.version, facts.libc, anew=anew)
        root = self._request.conda.PREFIX if self._request.conda else VENV
        prefix = Prefix(root, python.minor)
        for some in group({package: package.size for package in lock.packages}, most):
            names = [f"{package.name} {package.version}" for package in some]
            key = key_of("wheels", prefix.root, prefix.minor, [identity(package) for package in some])
            if self._layers.get(key) is None:
                for package in some:
                    packages.want(package)
            yield _Job(f"packages: {_listed(names)}", key, packages.fill(prefix, some), content.ways(root))

    def _files(self, facts: Facts) -> Iterator[_Job]:
        staged = self._request.staged
        if staged.has_runtime and staged.folder is not None:
            runtime = staged.folder / "runtime"
            names = [inner for inner, entry in content.walk(runtime) if entry.is_file(follow_symlinks=False)]
            key = key_of("runtime", dict(zip(names, content.digests(runtime, names), strict=True)))

            def own(tar: TarWriter) -> None:
                content.write_tree(tar, runtime, RUNTIME.lstrip("/"))

            yield _Job("imagesmith's own modules", key, own, content.ways(RUNTIME))
        workdir = self._request.spec.workdir_or_default
        user = final_user(self._request)
        owner = user_id(facts, user)
        if owner is None:
            raise BaseImageError(
                f"the base image {self._request.base.reference} has no user {user.partition(':')[0]!r}",
                hint="name a user that it has, or a number",
            )
        source = staged.folder / "source" if staged.has_source and staged.folder is not None else None
        digests = {name: value for name, value in staged.digests.items() if name.startswith("source/")}
        ways = [sorted(facts.links.items()), sorted(facts.folders.items())]

        def files(tar: TarWriter) -> None:
            content.write_files(tar, source, workdir, owner, facts)

        key = key_of("files", workdir, owner, digests, ways)
        yield _Job(f"files: {workdir}", key, files, content.ways(place(facts, workdir)))

    # what is made

    def _made(self, jobs: list[_Job], pusher: Pusher) -> list[Layer]:
        """Every layer, from the cache or new; each is sent as soon as it is there."""
        made = []
        with ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="layer") as pool:
            running = [pool.submit(self._layer, job, pusher) for job in jobs]
            try:
                for number, (job, future) in enumerate(zip(jobs, running, strict=True)):
                    with self._step(f"layer-{number:02d}", job.name) as say:
                        layer, told = future.result()
                        say(told)
                    made.append(layer)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return made

    def _layer(self, job: _Job, pusher: Pusher) -> tuple[Layer, str]:
        try:
            known = self._layers.get(job.key)
            layer = known or self._layers.make(job.key, job.fill, job.below)
        except OSError as error:
            raise BuildFailed(
                f"{job.name}: cannot write to {self._cache}: {error.strerror}",
                builder=NAME,
                hint="make room there, or set IMAGESMITH_CACHE_DIR to a folder on another file system",
            ) from error
        sent = pusher.layer(layer)
        how = f"{'known' if known else 'written'}, {'sent' if sent else 'there'}"
        return layer, f"{layer.digest} {layer.size / 1e6:.1f} MB: {how}"

    def _image(self, base: list[Mapping[str, Any]], made: list[Layer]) -> StoredImage:
        config = self._request.base.config
        rootfs: Any = config.get("rootfs")
        below = list(rootfs.get("diff_ids", ())) if isinstance(rootfs, Mapping) else []
        parts = {key: config[key] for key in ("os", "architecture", "variant") if config.get(key)}
        layers = [*map(oci_descriptor, base), *(layer.descriptor for layer in made)]
        diff_ids = [*below, *(layer.diff_id for layer in made)]
        return StoredImage(
            "",
            {**parts, "rootfs": {"type": "layers", "diff_ids": diff_ids}},
            {"schemaVersion": 2, "mediaType": _MANIFEST, "layers": layers},
            _MANIFEST,
        )

    @contextlib.contextmanager
    def _step(self, step: str, name: str, *, when: bool = True) -> Iterator[Callable[[str], None]]:
        """Report a step from its start to its end; yields what takes its lines."""
        if not when:
            yield lambda _: None
            return
        started = time.monotonic()
        self._report(StepStarted(step, name))
        try:
            yield lambda line: self._report(StepLog(step, line))
        except ImagesmithError as error:
            told = error.message.partition("\n")[0]
            self._report(StepDone(step, time.monotonic() - started, error=told))
            raise
        self._report(StepDone(step, time.monotonic() - started))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
