"""One build: what it stands on, what buildpacks make, the files above that, the commands."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import BuildPlan, Built, Contribution, Environment, Message, Reporter, redactions
from imagesmith.runner import Redactor
from imagesmith.stores.local import connect
from imagesmith_buildpacks import families, source_layer
from imagesmith_buildpacks.assembly import assemble, put_together
from imagesmith_buildpacks.checks import check_python, check_run_image, uid_of_work_directory
from imagesmith_buildpacks.containers import Engine
from imagesmith_buildpacks.derived import prepare, run_image
from imagesmith_buildpacks.images import find_builder
from imagesmith_buildpacks.labels import own_label, stands_above
from imagesmith_buildpacks.lifecycle import build_layers
from imagesmith_buildpacks.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagesmith import BuildRequest, ImageSpec
    from imagesmith.stores import LayerFile
    from imagesmith_buildpacks.options import Options

__all__ = ["Run", "run_image_of"]


@dataclass(frozen=True, slots=True)
class Run:
    """What one build needs."""

    environment: Environment
    options: Options
    plan: BuildPlan
    report: Reporter

    def build(self) -> Built:
        """Build, and leave the image where it should go.

        Raises:
            BuildFailed: a step failed.
            BuilderNotReady: the builder image is none, or cannot be used.
            FeatureUnsupported: this builder image cannot do what was asked.
            StoreError: engine or registry did not do their part.
        """
        request = self.plan.request
        if request.staged.folder is None:
            raise ValueError("this plan was made for showing: its files are only listed")
        with contextlib.closing(connect(self.environment.env)) as client, _folder(request) as folder:
            site = Site(
                request,
                self.options,
                Engine(client),
                self.environment.env,
                self.environment.cache_dir,
                folder,
                self.report,
                Redactor(redactions(request)),
            )
            built = self._above(site) if stands_above(request) else self._build(site)
            return replace(built, lacks_files=self.plan.files_apart)

    def _above(self, site: Site) -> Built:
        """On an image with packages: nothing is left for buildpacks to do, only files and commands."""
        uid = uid_of_work_directory(site)
        layer = self._layer(site, uid)
        found = Contribution(labels=own_label(site))
        return put_together(site, run_image(site), layer, found)

    def _build(self, site: Site) -> Built:
        request, options = site.request, site.options
        info = find_builder(
            site.docker, options.builder, request.platform, site.env, request.spec.registry_config
        )
        family = families.family_of(info)
        self.report(
            Message(
                f"builder image {info.reference}: {family.name}, lifecycle {info.lifecycle}, "
                f"platform API {info.platform_api}"
            )
        )
        check_run_image(site, info, family)
        uid = uid_of_work_directory(site)
        ground = prepare(site, info)
        made = build_layers(site, info, family, ground)
        check_python(site, made.python, family)
        return assemble(site, made.image, self._layer(site, uid), made.contributed)

    def _layer(self, site: Site, uid: int) -> LayerFile:
        files = not self.plan.files_apart
        return source_layer.write(site.request, site.folder / "source.tar.gz", uid, files=files)


@contextlib.contextmanager
def _folder(request: BuildRequest) -> Iterator[Path]:
    """Beside the staged files, and gone with them: the core still needs the layers in it."""
    assert request.staged.folder is not None  # noqa: S101 - asked before
    folder = Path(tempfile.mkdtemp(prefix="buildpacks-", dir=request.staged.folder.parent))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def run_image_of(environment: Environment, options: Options, spec: ImageSpec) -> str | None:
    """The run image that the builder image names, its mirror on the spec's registry where there is one.

    Raises:
        BuilderNotReady: the builder image cannot be had, or is none.
        EngineError: the engine does not answer.
    """
    from imagesmith.stores.reference import parse  # noqa: PLC0415

    with contextlib.closing(connect(environment.env)) as client:
        info = find_builder(
            Engine(client), options.builder, spec.platforms[0], environment.env, spec.registry_config
        )
    host = parse(f"{spec.registry}/x").registry if spec.registry else None
    return info.run_image(host)
