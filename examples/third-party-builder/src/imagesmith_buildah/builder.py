"""The builder: a name, a feature table, and what it does."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    BuildPlan,
    Built,
    Command,
    Feature,
    LocalEngine,
    Readiness,
    Support,
    engine,
    python_mismatch,
    stated_python,
)
from imagesmith.hints import hint_for
from imagesmith_plain import __version__
from imagesmith_plain.progress import Progress
from imagesmith_plain.render import dockerfile, steps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith import BuildRequest, Environment, Reporter

FULL, NOT_YET = Support.FULL, Support.NOT_YET
FEATURES: dict[Feature, Support] = {
    Feature.BASE_IMAGE: FULL,
    Feature.COPY: FULL,
    Feature.PACKAGES: FULL,
    Feature.PIP_EXTRA_INDEX_URL: FULL,
    Feature.PIP_INDEX: FULL,
    Feature.PLATFORM: FULL,
    Feature.PYTHON_VERSION: FULL,
    Feature.REQUIREMENTS: FULL,
    Feature.SOURCE_ROOT: FULL,
    Feature.LOCAL_ENGINE: FULL,
    # The core makes these; a builder has nothing to do for them but not to stand in the way.
    Feature.ENTRYPOINT: FULL,
    Feature.ENV: FULL,
    Feature.LABELS: FULL,
    Feature.USER: FULL,
    Feature.WORKDIR: FULL,
    # Could be done, is not done. What is not listed at all counts as impossible.
    Feature.APT_PACKAGES: NOT_YET,
    Feature.COMMANDS: NOT_YET,
    Feature.REGISTRY: NOT_YET,
}


class PlainBuilder:
    """Builds with docker buildx, into the local engine."""

    name = "plain"
    version = __version__
    features = FEATURES

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def ready(self) -> Readiness:
        """The docker client, and an engine that answers."""
        docker = self._docker()
        if docker is None:
            return Readiness(False, problem="there is no docker client", hint="install docker and buildx")
        found = engine.probe(self._environment.env)
        if found.problem:
            return Readiness(False, problem=found.problem, hint=found.hint)
        return Readiness(True, (f"docker: {docker}", f"engine: {found.detail}"))

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        """What the table cannot say, because it depends on a value or on the base."""
        reasons = {}
        if request.secrets:
            reasons["pip_index"] = "indexes with a password are not supported by the plain builder"
        if mismatch := python_mismatch(request.base, request.spec.python_version):
            reasons["python_version"] = mismatch
        resolved = request.base.digest is not None  # for `render` it is not: nothing is known of the base
        if resolved and request.staged.has_requirements and stated_python(request.base) is None:
            reasons["base_image"] = f"{request.base.reference} does not say that it has a python"
        return reasons

    def plan(self, request: BuildRequest) -> BuildPlan:
        """The Dockerfile and the command; ``…`` stands for folders that are known when it runs."""
        return BuildPlan(
            builder=self.name,
            request=request,
            files={"Dockerfile": dockerfile(request)},
            commands=(Command(_argv("docker", request, Path("…/Dockerfile"), Path("…/staged"))),),
            steps=steps(request),
        )

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """Run docker buildx on the staged files."""
        request, env = plan.request, self._environment.env
        docker, staged = self._docker(), request.staged.folder
        if docker is None:
            raise BuilderNotReady("there is no docker client", builder=self.name, hint="install docker")
        assert staged is not None, "a plan of `render` cannot be built"
        with tempfile.TemporaryDirectory(prefix="plain-") as folder:
            file = Path(folder) / "Dockerfile"
            file.write_text(plan.files["Dockerfile"], encoding="utf-8")
            progress = Progress(report)
            kept = {key: env[key] for key in ("PATH", "HOME", "DOCKER_CONFIG") if key in env}
            done = self._environment.runner.run(
                _argv(docker, request, file, staged),
                env=kept | engine.docker_variables(env),
                cwd=Path(folder),
                on_line=progress.line,
            )
        if done.returncode != 0:
            step, tail = progress.failure()
            raise BuildFailed(
                f"docker buildx failed{f' at {step}' if step else ''}",
                builder=self.name,
                step=step,
                returncode=done.returncode,
                tail=tail,
                hint=hint_for("\n".join(tail)) or "imagesmith render shows the Dockerfile",
            )
        return Built(request.destination, self._digest(request))

    def _digest(self, request: BuildRequest) -> str:
        assert isinstance(request.destination, LocalEngine)  # the feature table has no other
        with contextlib.closing(engine.local_store(self._environment.env)) as store:
            image = store.read(request.destination.reference, request.platform)
        if image is None:
            raise BuilderNotReady("docker buildx left no image in the engine", builder=self.name)
        return image.digest

    def _docker(self) -> str | None:
        return shutil.which("docker", path=self._environment.env.get("PATH"))


def _argv(docker: str, request: BuildRequest, file: Path, context: Path) -> tuple[str, ...]:
    assert isinstance(request.destination, LocalEngine)
    return (
        *(docker, "buildx", "build", "--progress=plain", "--provenance=false", "--load"),
        *("--platform", request.platform, "--tag", request.destination.reference),
        *("--file", str(file), str(context)),
    )
