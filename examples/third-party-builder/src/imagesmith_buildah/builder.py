"""The builder: a name, a feature table, and what it does."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from imagesmith import (
    BuilderNotReady,
    BuildPlan,
    BuildRequest,
    Built,
    Command,
    Environment,
    Feature,
    ImagesmithError,
    Readiness,
    RegistryRepository,
    Reporter,
    Support,
    redactions,
    silent,
)
from imagesmith.recipe import FEATURES, MOUNT, Steps, lay_out, recipe
from imagesmith_buildah import __version__
from imagesmith_buildah.tool import INSTALL, NAME, Buildah

OWN = (Feature.PLATFORM, Feature.MULTI_PLATFORM, Feature.REGISTRY, Feature.REGISTRY_CONFIG)
# What is not listed counts as impossible: builder_options, of which it has none, and the engine of Docker.
TABLE = dict.fromkeys([*FEATURES, *OWN], Support.FULL) | {Feature.OCI_LAYOUT: Support.NOT_YET}
IN_CONTAINER = ("run", "--user", "0:0", "--workingdir", "/")


class BuildahBuilder:
    """Runs the core's recipe: a layer for the environment, which is kept, and one for the rest."""

    name = NAME
    version = __version__
    features = TABLE

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def ready(self) -> Readiness:
        """The tool, and storage that it can use."""
        try:
            Buildah(self._environment, Path(tempfile.gettempdir())).step(silent, "buildah info", "info")
        except (ImagesmithError, OSError) as error:
            return Readiness(False, problem=str(error).partition("\n")[0], hint=INSTALL)
        return Readiness(True, ("buildah, and its storage",))

    def refusals(self, request: BuildRequest) -> Mapping[str, str]:
        """What the table cannot say: a base in the Docker engine is out of reach."""
        reason = f"{request.base.reference} stands in the local engine: give it a registry"
        return {"base_image": reason} if request.base.local else {}

    def plan(self, request: BuildRequest) -> BuildPlan:
        """The core's recipe; ``…`` stands for what is known when it runs."""
        made = recipe(request)
        argv = [["from", "--platform", request.platform, request.base.pinned]]
        argv += [[*IN_CONTAINER, "…", *step.argv] for step in made.steps]
        argv += [["push", "…", _target(request)]]
        commands = tuple(Command((NAME, *words)) for words in argv)
        names = tuple(step.name for step in made.steps)
        return BuildPlan(self.name, request, made.files, commands, made.contributed, names)

    def build(self, plan: BuildPlan, report: Reporter) -> Built:
        """Run the steps and push what they made. Of it, the environment alone stays in buildah's storage."""
        request, made = plan.request, recipe(plan.request)
        secrets = redactions(request)
        with tempfile.TemporaryDirectory(prefix="imagesmith-buildah-") as folder:
            buildah = Buildah(self._environment, Path(folder), secrets)
            start = buildah.access(request.base.pinned, request.spec.registry_config)
            start += ["--platform", request.platform, request.base.pinned]
            if made.environment:
                kept = f"localhost/imagesmith-environment:{made.key}"
                if not buildah.tries("inspect", "--type", "image", kept):
                    _layer(buildah, report, request, start, made.environment, kept)
                start = [kept]
            image = f"localhost/imagesmith-{uuid.uuid4().hex}"
            try:
                _layer(buildah, report, request, start, made.content, image)
                digest = _push(buildah, report, request, image)
            finally:
                buildah.tries("rmi", image)
        return Built(request.destination, digest, made.contributed)


def _layer(
    buildah: Buildah, report: Reporter, request: BuildRequest, start: list[str], steps: Steps, image: str
) -> None:
    """Run the steps in a container made of what ``start`` names, and keep it as an image."""
    name = f"imagesmith-{uuid.uuid4().hex}"
    shown = Path(tempfile.mkdtemp(dir=buildah.folder))
    bound = [f"--volume={path}:{at}:ro" for path, at in lay_out(request, recipe(request).files, shown)]
    try:
        buildah.step(report, f"start from {start[-1]}", "from", "--name", name, *start)
        for volume in _volumes(request):  # what steps write into one would be lost; the core puts it back
            buildah.step(report, f"volume: {volume}", "config", f"--volume={volume}-", name)
        for step in steps:
            buildah.step(report, step.name, *IN_CONTAINER, *bound, name, "--", *step.argv)
        buildah.tries("run", name, "--", "rmdir", MOUNT)
        buildah.step(report, "keep what was made", "commit", "--quiet", name, image)
    finally:
        buildah.tries("rm", name)


def _volumes(request: BuildRequest) -> Iterable[str]:
    config = request.base.config.get("config")
    volumes = config.get("Volumes") if isinstance(config, Mapping) else None
    return volumes if isinstance(volumes, Mapping) else ()


def _push(buildah: Buildah, report: Reporter, request: BuildRequest, image: str) -> str:
    """The digest of the manifest, as the registry has it."""
    target, digest = _target(request), buildah.folder / "digest"
    access = buildah.access(target.removeprefix("docker://"), request.spec.registry_config)
    buildah.step(report, f"push to {target}", "push", *access, f"--digestfile={digest}", image, target)
    if not digest.exists():
        raise BuilderNotReady("buildah names no digest of what it pushed", builder=NAME, hint=INSTALL)
    return digest.read_text(encoding="utf-8").strip()


def _target(request: BuildRequest) -> str:
    assert isinstance(request.destination, RegistryRepository)  # the table has no other
    return f"docker://{request.destination.reference}"
