"""The builder: readiness, refusals, plan and build."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesmith import (
    BuildPlan,
    BuildRequest,
    Built,
    Command,
    Contribution,
    Environment,
    Feature,
    Readiness,
    Reporter,
    Support,
)
from imagesmith_oci import __version__
from imagesmith_oci.arguments import Arguments, UnknownArgumentError, arguments_of, misunderstood
from imagesmith_oci.options import Options, parse
from imagesmith_oci.platforms import machine
from imagesmith_oci.prefix import venv_contribution

if TYPE_CHECKING:
    from collections.abc import Mapping

FEATURES: Mapping[Feature, Support] = MappingProxyType(dict.fromkeys(Feature, Support.FULL))


class OciBuilder:
    """Writes layers and pushes them: nothing is installed on this machine, and no engine is asked."""

    name = "oci"
    version = __version__
    features = FEATURES
    reads_in_place = True
    """it reads the files of the work directory once, with ``Staged.read``: they need not be copied"""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def ready(self) -> Readiness:
        """uv is there, and the settings are good."""
        _, problems = parse({}, self._environment.options)
        if problems:
            name, reason = next(iter(problems.items()))
            return Readiness(False, problem=f"the setting {name}: {reason}", hint="see docs/oci.md")
        from imagesmith_oci.resolve import uv_version  # noqa: PLC0415

        try:
            found = uv_version()
        except ModuleNotFoundError:  # PackageNotFoundError is one
            return Readiness(False, problem="uv is not installed", hint="pip install uv")
        return Readiness(True, (f"uv {found}", self._steps()))

    def _steps(self) -> str:
        """Whether apt and commands can be run here; an answer that they can is kept as long as it fits."""
        from imagesmith_oci.hosts import steps_here  # noqa: PLC0415

        return steps_here(self._environment)

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        """Options and arguments that are none, platforms that nothing can be resolved for."""
        spec = request.spec
        _, reasons = parse(spec.builder_options, request.options)
        reasons |= misunderstood(request)
        if request.staged.has_requirements and machine(request.platform) is None:
            reasons["platform"] = (
                f"no packages can be resolved for {request.platform}, only for amd64 and arm64"
            )
        return reasons

    def plan(self, request: BuildRequest) -> BuildPlan:
        """What decides the layers, the command that resolves the packages, and the layers by name."""
        options, _ = parse(request.spec.builder_options, request.options)
        return BuildPlan(
            builder=self.name,
            request=request,
            files=_files(request, options),
            commands=_commands(request, options),
            contributed=_contribution(request),
            steps=tuple(_steps(request)),
        )

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """Layers, pushed; configuration and manifest are the core's."""
        from imagesmith_oci.run import Run  # noqa: PLC0415 - a build that is reused needs none of it

        options, _ = parse(plan.request.spec.builder_options, plan.request.options)
        return Run(self._environment, options, plan, report).build()


def _contribution(request: BuildRequest) -> Contribution:
    return request.conda.contribution if request.conda is not None else venv_contribution()


def _files(request: BuildRequest, options: Options) -> dict[str, str]:
    files = {"layers.json": json.dumps(_told(request, options), indent=2, ensure_ascii=False) + "\n"}
    if request.spec.apt_packages or request.spec.commands:
        from imagesmith_oci.userns_steps import apt_steps, command_steps  # noqa: PLC0415

        contributed = _contribution(request)
        for step in (*apt_steps(request, Contribution(), {}), *command_steps(request, contributed)):
            files[f"{step.id}.sh"] = step.script
            files[f"{step.id}-run.sh"] = step.runner
    return files


def _told(request: BuildRequest, options: Options) -> dict[str, object]:
    """All that decides the files of the image, beside what was staged and the base."""
    spec, staged = request.spec, request.staged
    told = spec.to_dict()  # credentials cut out
    packages: dict[str, object] = {}
    if staged.has_requirements:
        packages = {
            "requirements": dict(staged.texts),
            "files": list(staged.binaries),
            "options": {
                key: told[key]
                for key in ("pip_index", "pip_extra_index_url", "pip_extra_args")
                if told.get(key)
            },
            "build_env": dict(sorted(spec.build_env.items())),
            "secrets": [target for _, target in spec.pip_secret_mounts],
            "sdists": list(options.sdists),
            **({"byte_code": True} if options.byte_code else {}),
        }
    conda = request.conda
    return {
        "base": request.base.pinned,
        "platform": request.platform,
        "compression": options.compression,
        **({"conda": {"specs": conda.specs, "channels": conda.channels}} if conda else {}),
        **({"python": spec.python_version} if spec.python_version else {}),
        **({"packages": packages} if packages else {}),
        "workdir": {"path": spec.workdir_or_default, "user": spec.user},
        "files": list(staged.files),
        "runtime": staged.has_runtime,
    }


def _commands(request: BuildRequest, options: Options) -> tuple[Command, ...]:
    if not request.staged.has_requirements:
        return ()
    from imagesmith_oci.resolve import argv  # noqa: PLC0415

    try:
        arguments = arguments_of(request)
    except UnknownArgumentError:
        arguments = Arguments()
    name = f"{machine(request.platform)}-…"
    python = request.spec.python_version or "…"
    return (Command(tuple(argv("uv", arguments, options.sdists, name, python))),)


def _steps(request: BuildRequest) -> list[str]:
    spec, staged = request.spec, request.staged
    steps = [f"apt: {' '.join(sorted(set(spec.apt_packages)))}"] if spec.apt_packages else []
    if request.conda is not None:
        steps.append(f"conda files: {request.conda.PREFIX}")
    else:
        steps.append(f"python{' ' + spec.python_version if spec.python_version else ''}: /opt/venv")
    if staged.has_requirements:
        count = len(spec.packages) + (1 if spec.requirements else 0)
        steps.append(f"packages: {count} requirement{'s' if count != 1 else ''}")
    if staged.has_runtime:
        steps.append("imagesmith's own modules")
    steps.append(f"files: {spec.workdir_or_default}")
    return [*steps, *(f"command: {command}" for command in spec.commands)]
