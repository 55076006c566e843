"""The builder: readiness, plan, and one run of envd for each platform."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesmith import (
    BuilderNotReady,
    BuildPlan,
    BuildRequest,
    Built,
    Command,
    Environment,
    Feature,
    Readiness,
    Reporter,
    Support,
    engine,
)
from imagesmith.files_layer import can_be_apart
from imagesmith_envd import __version__
from imagesmith_envd.render import MOUNT, build_argv, render

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL, NOT_YET, IMPOSSIBLE = Support.FULL, Support.NOT_YET, Support.IMPOSSIBLE

FEATURES: Mapping[Feature, Support] = MappingProxyType(
    dict.fromkeys(Feature, FULL)
    | {
        Feature.OCI_LAYOUT: NOT_YET,
        Feature.BUILDER_OPTIONS: IMPOSSIBLE,
    }
)

_SCHEMES = ("tcp", "unix")


class EnvdBuilder:
    """Builds with envd on the Docker engine, or on a BuildKit address given by the machine's settings."""

    name = "envd"
    version = __version__
    features = FEATURES

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        address = environment.options.get("address")
        self._address = str(address) if address else None

    def _binary(self) -> str | None:
        """The envd beside this Python, else the one on PATH."""
        beside = Path(sysconfig.get_path("scripts")) / "envd"
        return (
            str(beside)
            if os.access(beside, os.X_OK)
            else shutil.which("envd", path=self._environment.env.get("PATH"))
        )

    def ready(self) -> Readiness:
        """The envd binary, and an answer from the engine."""
        binary = self._binary()
        if binary is None:
            return Readiness(False, problem="there is no envd", hint="pip install envd")
        details = [f"envd: {binary}"]
        if self._address:
            scheme = self._address.partition("://")[0]
            if scheme not in _SCHEMES:
                return Readiness(
                    False,
                    tuple(details),
                    problem=f"the BuildKit address {self._address!r} is not tcp://host:port or unix:///path",
                    hint="set IMAGESMITH_ENVD_ADDRESS, or [tool.imagesmith.envd] address",
                )
            if problem := engine.unreachable(self._address):
                return Readiness(
                    False,
                    tuple(details),
                    problem=f"no BuildKit answers at {self._address}: {problem}",
                    hint="start buildkitd there, or unset IMAGESMITH_ENVD_ADDRESS to use the Docker engine",
                )
            return Readiness(True, (*details, f"BuildKit: {self._address}"))
        found = engine.probe(self._environment.env)
        if found.problem:
            return Readiness(False, tuple(details), problem=found.problem, hint=found.hint)
        return Readiness(True, (*details, f"Docker engine: {found.detail}"))

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        """A base that the engine in use cannot see, a work directory that envd's own files would hide."""
        reasons = {}
        workdir = request.spec.workdir_or_default
        if f"{workdir}/".startswith(f"{MOUNT}/"):
            reasons["workdir"] = f"{workdir!r}: envd shows its own files there while it builds"
        if request.base.local and self._address:
            reasons["base_image"] = (
                f"{request.base.reference} stands in the local engine, which the BuildKit at {self._address} "
                "cannot see: give the base's spec a registry"
            )
        return reasons

    def plan(self, request: BuildRequest) -> BuildPlan:
        """``build.envd``, the files beside it, and the command that builds it."""
        apart = can_be_apart(request)
        rendered = render(request, apart=apart)
        names = [step.name for step in rendered.steps]
        if apart:
            names.append(f"files: {request.spec.workdir_or_default}")
        argv = build_argv("envd", Path("…"), self._address, request, engine.planned_name(request))
        return BuildPlan(
            builder=self.name,
            request=request,
            files={"build.envd": rendered.build_envd, **rendered.files},
            commands=(Command(tuple(argv)),),
            contributed=rendered.contributed,
            steps=tuple(names),
            files_apart=apart,
        )

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """One run of envd; the image is pushed where it should go."""
        from imagesmith_envd.run import Run  # noqa: PLC0415 - a build that is reused needs none of it

        binary = self._binary()
        if binary is None:
            raise BuilderNotReady("there is no envd", builder=self.name, hint="pip install envd")
        return Run(self._environment, binary, self._address, plan, report).build()
