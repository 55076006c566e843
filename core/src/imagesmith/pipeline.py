"""From a spec to a published image: choose the builder, check its features, reuse what stands under the
tag, lock, resolve the base, stage what was hashed, plan, build, finish, publish."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import conda_environments, features
from imagesmith._frozen import FrozenMap
from imagesmith.builder import BaseImage, Builder, BuildPlan, Environment
from imagesmith.errors import BuildFailed, ImagesmithError
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
from imagesmith.lock import last_move, locked
from imagesmith.making import Job
from imagesmith.places import Place, place_for
from imagesmith.settings import Settings
from imagesmith.spec import ImageSpec
from imagesmith.stores.shared import Registries
from imagesmith.without_engine import naming_a_way_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imagesmith.builder import CondaPackage, Feature, PythonPackage, Support
    from imagesmith.plugins import Plugins
    from imagesmith.runner import Runner

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
    packages: tuple[PythonPackage, ...] = ()
    """what the requirements led to; empty when no files were made, or the builder does not tell"""


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
        job = Job(spec, chosen, place, settings, silent)
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
        output: an OCI layout folder to write instead; or one file, ``NAME.tar``, that engines load.
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
    registries = Registries()
    chosen = _choose(spec, builder, settings, plugins, registries)
    make = partial(_maker, plugins, settings)
    with (
        registries,
        place_for(spec, settings, push=push, output=output, registries=registries) as place,
        naming_a_way_out(spec, chosen.name, place.destination(), settings, plugins, make),
    ):
        _check(spec, place, chosen, plugins)
        before = digests(spec)
        tag = tag_for(spec, before, settings)
        reference = place.reference(tag)

        def reused(known: Existence) -> BuildResult:
            seconds = time.monotonic() - started
            return BuildResult(reference, known.digest or "", spec.platforms, known.builder, True, seconds)

        def build_base(base: ImageSpec, chosen: str, report: Reporter) -> str:
            report(Message(f"the base image is a spec: {base.name}"))
            result = build(
                base,
                builder=chosen if base.builder is None else None,
                on_unknown=on_unknown,
                report=report,
                settings=settings,
                plugins=plugins,
            )
            report(Message(f"base {'reused' if result.reused else 'built'}: {result.reference}"))
            return result.reference

        locks = settings.cache_dir() / "locks"
        looked = last_move(locks)
        report(Phase("checking", reference))
        if not force and (known := reusable(place, tag, on_unknown, report)):
            return reused(known)
        with locked(locks, reference, report, since=looked) as others:
            if others and not force and (known := reusable(place, tag, on_unknown, report)):
                return reused(known)
            with _scratch() as scratch, _log(settings, spec, report) as (log, logged):
                job = Job(spec, chosen, place, settings, logged, force)
                try:
                    made = job.run(scratch, before, tag, build_base)
                except BuildFailed as error:
                    error.log = error.log or str(log)
                    raise
                seconds = time.monotonic() - started
                what = (made.conda, made.packages)
                return BuildResult(
                    reference, made.digest, spec.platforms, job.made_by, False, seconds, log, *what
                )


def make_builder(
    plugins: Plugins,
    name: str,
    settings: Settings,
    runner: Runner,
    registries: Registries | None = None,
) -> Builder:
    """The builder of that name, given what it may touch. Raises PluginError."""
    return plugins.make(
        name,
        Environment(
            runner=runner,
            env=settings.env,
            cache_dir=settings.cache_dir() / name,
            options=settings.options.get(name, FrozenMap()),
            registries=registries,
        ),
    )


def _maker(plugins: Plugins, settings: Settings, name: str, registries: Registries | None = None) -> Builder:
    from imagesmith.runner import SubprocessRunner  # noqa: PLC0415

    return make_builder(plugins, name, settings, SubprocessRunner(), registries)


def _plugins(settings: Settings) -> Plugins:
    from imagesmith.plugins import Plugins  # noqa: PLC0415

    return Plugins(blocked=settings.blocked)


def _choose(
    spec: ImageSpec,
    argument: str | None,
    settings: Settings,
    plugins: Plugins,
    registries: Registries | None = None,
) -> Builder:
    from imagesmith.plugins import choose  # noqa: PLC0415

    name = choose(argument, spec.builder, settings.builder_env, settings.builder_project, plugins.names())
    return _maker(plugins, settings, name, registries)


def _check(spec: ImageSpec, place: Place, builder: Builder, plugins: Plugins) -> None:
    def others() -> Mapping[str, Mapping[Feature, Support]]:
        tables: dict[str, Mapping[Feature, Support]] = {}
        for name in plugins.names():
            with contextlib.suppress(ImagesmithError):
                tables[name] = _maker(plugins, Settings(), name).features
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
