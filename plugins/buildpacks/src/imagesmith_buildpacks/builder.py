"""The builder: readiness, refusals, plan, and one run of a lifecycle for each platform."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesmith import (
    BuildPlan,
    BuildRequest,
    Built,
    Command,
    Environment,
    Feature,
    ImageSpec,
    LayoutFolder,
    Readiness,
    Reporter,
    Support,
    engine,
    install_arguments,
)
from imagesmith.files_layer import can_be_apart
from imagesmith_buildpacks import __version__, render
from imagesmith_buildpacks.labels import stands_above
from imagesmith_buildpacks.options import Options, parse
from imagesmith_buildpacks.pip_environment import pip_arguments

if TYPE_CHECKING:
    from imagesmith.rebasing import RebaseRequest

FEATURES: Mapping[Feature, Support] = MappingProxyType(dict.fromkeys(Feature, Support.FULL))


class BuildpacksBuilder:
    """Plays the platform's part of Cloud Native Buildpacks: runs a builder image's lifecycle."""

    name = "buildpacks"
    version = __version__
    features = FEATURES

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def ready(self) -> Readiness:
        """An engine that answers. The builder image is fetched when it is needed."""
        options, problems = parse({}, self._environment.options)
        if problems:
            name, reason = next(iter(problems.items()))
            return Readiness(
                False, problem=f"the setting {name}: {reason}", hint="see IMAGESMITH_BUILDPACKS_*"
            )
        found = engine.probe(self._environment.env)
        if found.problem:
            return Readiness(False, problem=found.problem, hint=found.hint)
        return Readiness(True, (f"Docker engine: {found.detail}", f"builder image: {options.builder}"))

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        """Options that are none, arguments that no variable can say, places where a secret would stay."""
        _, reasons = self._options(request)
        if stands_above(request) and (request.staged.has_requirements or request.conda):
            reasons["base_image"] = (
                f"{request.base.reference} holds packages, which buildpacks above it would not see: name all "
                "packages in one spec, or another base"
            )
        config = request.base.config.get("config")
        if request.spec.commands and isinstance(config, Mapping) and config.get("Volumes"):
            reasons["base_image"] = (
                f"{request.base.reference} has volumes ({', '.join(config['Volumes'])}): what commands write "
                "there would not be kept; choose a base without them"
            )
        _, wrong = pip_arguments(install_arguments(request))
        if wrong:
            reasons["pip_extra_args"] = wrong
        if isinstance(request.destination, LayoutFolder):
            reasons |= _beyond_layouts(request)
        for number, (_, target) in enumerate(request.spec.pip_secret_mounts):
            if target.startswith((f"{render.LAYERS}/", f"{render.APP}/")):
                reasons[f"pip_secret_mounts[{number}]"] = (
                    f"{target!r}: what lies there when packages are installed may stay in the image"
                )
            elif target.startswith("/root/"):
                reasons[f"pip_secret_mounts[{number}]"] = (
                    f"{target!r}: packages are installed by the builder's own user, who may not look there"
                )
        return reasons

    def default_base(self, spec: ImageSpec, configured: str | None, *, ask: bool) -> str | None:
        """The run image: the option's, the machine's default base, else the one that the builder names."""
        options, problems = parse(spec.builder_options, self._environment.options)
        known = options.run_image or configured
        if known or problems:
            return known
        if not ask:
            return f"the run image of {options.builder}"
        from imagesmith_buildpacks.run import run_image_of  # noqa: PLC0415

        return run_image_of(self._environment, options, spec)

    def plan(self, request: BuildRequest) -> BuildPlan:
        """What buildpacks are given, and the command that runs in the builder image."""
        options, _ = self._options(request)
        run = render.Creator("…", request.base.pinned, cache_image=options.cache_image)
        return BuildPlan(
            builder=self.name,
            request=request,
            files=render.files(request, options),
            commands=(Command(run.argv()),),
            contributed=render.contributed(request),
            steps=render.steps(request),
            files_apart=can_be_apart(request),
        )

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """One run of the lifecycle's creator; the image is left where it should go."""
        from imagesmith_buildpacks.run import Run  # noqa: PLC0415 - a build that is reused needs none of it

        options, _ = self._options(plan.request)
        return Run(self._environment, options, plan, report).build()

    def rebase(self, request: RebaseRequest, report: Reporter) -> Built:
        """One run of the lifecycle's rebaser."""
        from imagesmith_buildpacks.rebase import rebase  # noqa: PLC0415

        return rebase(self._environment, request, report)

    def _options(self, request: BuildRequest) -> tuple[Options, dict[str, str]]:
        return parse(request.spec.builder_options, request.options)


def _beyond_layouts(request: BuildRequest) -> dict[str, str]:
    """What is done in the engine, from which a layout cannot be filled."""
    why = "not yet with --output: it is done in the engine; set registry= instead"
    found = {name: why for name in ("apt_packages", "commands") if getattr(request.spec, name)}
    if request.conda is not None:
        found["conda_packages" if request.spec.conda_packages else "python_version"] = why
    if request.base.local or stands_above(request):
        found["base_image"] = f"{request.base.reference}: {why}"
    return found
