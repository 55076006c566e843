"""The builder: readiness, plan, and one run of buildx for each platform."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from imagesmith import (
    BuilderNotReady,
    BuildPlan,
    BuildRequest,
    Built,
    Command,
    Environment,
    Feature,
    LocalEngine,
    Readiness,
    Reporter,
    Support,
    UsageError,
    engine,
)
from imagesmith_docker import __version__, client
from imagesmith_docker.abilities import abilities
from imagesmith_docker.failures import unusable
from imagesmith_docker.options import Options, parse
from imagesmith_docker.quoting import can_mount_at
from imagesmith_docker.render import leaves_files, render

FEATURES: Mapping[Feature, Support] = MappingProxyType(dict.fromkeys(Feature, Support.FULL))


class DockerBuilder:
    """Builds with ``docker buildx build``, on the local engine or on another builder that buildx knows."""

    name = "docker"
    version = __version__
    features = FEATURES

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._known: dict[str | None, client.BuilderFacts] = {}

    def ready(self) -> Readiness:
        """The docker client, buildx, and an answer from the builder in use."""
        runner, env = self._environment.runner, self._environment.env
        options, problems = parse({}, self._environment.options)
        details: list[str] = []
        if problems:
            name, reason = next(iter(problems.items()))
            return Readiness(False, problem=f"the setting {name}: {reason}", hint="see IMAGESMITH_DOCKER_*")
        try:
            details.append(f"buildx: {client.buildx_version(runner, env, Path(tempfile.gettempdir()))}")
            facts = client.inspect(runner, env, Path(tempfile.gettempdir()), options.builder)
            self._known = {options.builder: facts}
        except BuilderNotReady as error:
            # of the engine itself the core can tell more
            found = engine.probe(env) if "Docker daemon" in error.message else engine.Probe()
            return Readiness(
                False,
                tuple(details),
                problem=found.problem or error.message,
                hint=found.hint or error.hint,
            )
        details.append(f"builder: {facts.name} ({facts.driver})")
        if facts.in_engine:
            found = engine.probe(env)
            if found.problem:
                return Readiness(False, tuple(details), problem=found.problem, hint=found.hint)
            details.append(f"Docker engine: {found.detail}")
        able = abilities(runner, env, self._environment.cache_dir, facts)
        if able.problem:
            unfit = unusable(facts.name, able.problem)
            return Readiness(False, tuple(details), problem=unfit.message, hint=unfit.hint)
        details.append(f"it {able.told()}")
        return Readiness(True, tuple(details))

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        """Options that are none, paths that cannot be mounted, bases that would run steps of their own."""
        options, reasons = self._options(request)
        if isinstance(request.destination, LocalEngine):
            for name in options.attests:
                reasons[f"builder_options[{name!r}]"] = (
                    "an attestation stands beside its image in an index, which the local engine does not "
                    "keep: set registry= in the spec, or write a layout (--output)"
                )
        for number, (_, target) in enumerate(request.spec.pip_secret_mounts):
            if not can_mount_at(target):
                reasons[f"pip_secret_mounts[{number}]"] = (
                    f"{target!r}: a Dockerfile mounts only at paths of letters, digits and . _ - / @ + : ~"
                )
        config = request.base.config.get("config")
        if isinstance(config, Mapping) and config.get("OnBuild"):
            reasons["base_image"] = (
                f"{request.base.reference} has ONBUILD triggers, which a Dockerfile would run; "
                "choose the image that it is made from"
            )
        return reasons

    def plan(self, request: BuildRequest) -> BuildPlan:
        """The Dockerfile, the scripts it runs, and the command that builds it."""
        options, _ = self._options(request)
        return self._plan(request, options)

    def _plan(self, request: BuildRequest, options: Options) -> BuildPlan:
        from imagesmith_docker.command import build_argv  # noqa: PLC0415 - listing builders needs none of it

        apart = leaves_files(request, options)
        rendered = render(request, options, apart=apart)
        names = [step.name for step in rendered.steps]
        if apart:
            names.append(f"files: {request.spec.workdir_or_default}")
        tools = Path("…/tools") if rendered.lends_tools else None
        return BuildPlan(
            builder=self.name,
            request=request,
            files={"Dockerfile": rendered.dockerfile, **rendered.scripts},
            commands=(Command(tuple(build_argv(request, options, Path("…"), tools=tools))),),
            contributed=rendered.contributed,
            steps=tuple(names),
            files_apart=apart,
        )

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """One run of buildx; the image is left where it should go."""
        from imagesmith_docker.run import Run  # noqa: PLC0415 - a build that is reused needs none of it

        options, _ = self._options(plan.request)
        epoch = self._environment.env.get("SOURCE_DATE_EPOCH")
        if epoch and options.source_date_epoch is None:
            stated, problems = parse({}, {"source_date_epoch": epoch})
            if problems:
                raise UsageError(f"SOURCE_DATE_EPOCH: {problems['source_date_epoch']}")
            options = replace(options, source_date_epoch=stated.source_date_epoch)
            plan = self._plan(plan.request, options)
        return Run(self._environment, options, plan, report, self._known.get(options.builder)).build()

    def _options(self, request: BuildRequest) -> tuple[Options, dict[str, str]]:
        return parse(request.spec.builder_options, request.options)
