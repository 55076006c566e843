"""Another run image under an image that stands: one run of a lifecycle's rebaser."""

from __future__ import annotations

import contextlib
import json
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    BuildRequest,
    Built,
    Contribution,
    Environment,
    ImageSpec,
    LocalEngine,
    Message,
    RegistryRepository,
    Reporter,
)
from imagesmith.runner import Redactor
from imagesmith.sources import Staged
from imagesmith.stores.local import connect
from imagesmith_buildpacks.archive import Owner, of_texts
from imagesmith_buildpacks.checks import check_trust
from imagesmith_buildpacks.containers import Engine, Volume
from imagesmith_buildpacks.derived import rebased
from imagesmith_buildpacks.failures import explain
from imagesmith_buildpacks.images import engine_auth, find_builder
from imagesmith_buildpacks.labels import LABEL, METADATA, labels_of
from imagesmith_buildpacks.lifecycle import certificates, left, lifecycle_environment
from imagesmith_buildpacks.options import Options, parse
from imagesmith_buildpacks.progress import Progress
from imagesmith_buildpacks.site import Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagesmith import RegistryFacts
    from imagesmith.rebasing import RebaseRequest
    from imagesmith_buildpacks.builder_info import BuilderInfo

__all__ = ["rebase", "rebaser_argv"]

_FOLDER = "/imagesmith"
"""of the rebaser's report"""


def rebase(environment: Environment, request: RebaseRequest, report: Reporter) -> Built:
    """Put ``request.base`` under the image, and leave the result where it should go.

    Raises:
        BuildFailed: the image was not made by buildpacks, or the lifecycle refuses.
        BuilderNotReady: the builder image cannot be had.
        StoreError: engine or registry did not do their part.
    """
    told = _told(request)
    options, problems = parse({}, request.options)
    if problems:
        name, reason = next(iter(problems.items()))
        raise BuilderNotReady(
            f"the setting {name}: {reason}", builder="buildpacks", hint="see IMAGESMITH_BUILDPACKS_*"
        )
    if not options.machine_builder and isinstance(told.get("builder"), str):
        options = replace(options, builder=str(told["builder"]))
    with (
        tempfile.TemporaryDirectory(prefix="imagesmith-rebase-") as folder,
        contextlib.closing(connect(environment.env)) as client,
    ):
        site = _site(environment, request, options, told, Engine(client), Path(folder), report)
        check_trust(site)  # whoever made the image named it
        info = find_builder(site.docker, options.builder, request.platform, site.env, request.registry_config)
        report(Message(f"builder image {info.reference}: lifecycle {info.lifecycle}"))
        if told.get("apt"):
            rebased(site)
        elif site.repository is None and not request.base.local:
            name = request.base.reference
            login = engine_auth(name, site.env, request.registry_config)
            site.docker.pull(name, request.platform, login)
        digest = _run(site, request, info, derived=bool(told.get("apt")))
        image = left(site, digest)
    return Built(request.destination, digest, Contribution(labels=labels_of(image)))


def _told(request: RebaseRequest) -> Mapping[str, object]:
    """What the label of ours says. Raises BuildFailed where the image cannot be rebased at all."""
    if f"{METADATA}lifecycle.metadata" not in request.labels:
        raise BuildFailed(
            f"{request.image} was not made by buildpacks: it has no label {METADATA}lifecycle.metadata",
            builder="buildpacks",
            step="rebase",
            hint="build it again with the buildpacks builder",
        )
    try:
        found = json.loads(request.labels.get(LABEL, "{}"))
    except ValueError:
        found = {}
    told: Mapping[str, object] = found if isinstance(found, dict) else {}
    if told.get("conda"):
        raise BuildFailed(
            f"{request.image} has a conda environment below what buildpacks made, which has to be laid out "
            "on the new base",
            builder="buildpacks",
            step="rebase",
            hint="build it again: imagesmith build --force",
        )
    return told


def _site(
    environment: Environment,
    request: RebaseRequest,
    options: Options,
    told: Mapping[str, object],
    docker: Engine,
    folder: Path,
    report: Reporter,
) -> Site:
    """As for a build of nothing but what the run image got."""
    apt = told.get("apt")
    packages = [str(each) for each in apt] if isinstance(apt, list) else []
    spec = ImageSpec(
        apt_packages=packages, platform=request.platform, registry_config=request.registry_config
    )
    build = BuildRequest(spec, request.platform, request.base, request.destination, Staged())
    cache, redactor = environment.cache_dir, Redactor(())
    return Site(build, options, docker, environment.env, cache, folder, report, redactor)


def rebaser_argv(
    image: str,
    previous: str,
    *,
    run_image: str | None,
    daemon: bool,
    force: bool,
    insecure: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Program and arguments; flags come before the image."""
    words = ["/cnb/lifecycle/rebaser", "-previous-image", previous, "-report", f"{_FOLDER}/report.toml"]
    words += ["-run-image", run_image] if run_image else []
    words += ["-daemon"] if daemon else []
    words += ["-force"] if force else []
    words += [word for host in insecure for word in ("-insecure-registry", host)]
    return (*words, image)


def _run(site: Site, request: RebaseRequest, info: BuilderInfo, *, derived: bool) -> str:
    """The digest of the new image; in the local engine its id."""
    there = request.destination
    facts: tuple[RegistryFacts, ...] = ()
    daemon = isinstance(there, LocalEngine)
    image = there.reference if isinstance(there, (LocalEngine, RegistryRepository)) else ""
    if isinstance(there, RegistryRepository):
        named = {each.host: each for each in map(site.facts, (there.repository, request.base.reference))}
        facts = tuple(named.values())
    run_image = None if request.recorded or derived else request.base.reference
    hosts = tuple(each.host for each in facts)
    insecure = tuple(each.host for each in facts if each.insecure and site.network(each.host) is None)
    argv = rebaser_argv(
        image, request.image, run_image=run_image, daemon=daemon, force=request.force, insecure=insecure
    )
    env = {
        "CNB_PLATFORM_API": info.platform_api,
        "CNB_NO_COLOR": "true",
        **lifecycle_environment(site, facts),
    }
    volumes = (Volume("/var/run/docker.sock", site.socket(), bind=True),) if daemon else ()
    with site.docker.container(
        info.reference, argv, env=env, volumes=volumes, network=site.network(*hosts), platform=info.platform
    ) as container:
        container.put(_folder(info))
        if trusted := certificates(facts):
            container.put(of_texts({path.strip("/"): data for path, data in trusted.items()}))
        progress = Progress(site.report, site.redactor, "buildpacks: rebasing", prefix="rebaser-")
        container.start()
        code = container.follow(progress.line)
        progress.done(f"exit code {code}" if code else None)
        if code:
            raise explain(progress, code, registry=image.partition("/")[0])
        told = container.fetch(f"{_FOLDER}/report.toml") or {}
    written = tomllib.loads(told.get("report.toml", b"").decode(errors="replace")).get("image", {})
    if daemon:
        found = site.docker.inspect(image)
        return str(found["Id"]) if found else ""
    return str(written.get("digest") or "")


def _folder(info: BuilderInfo) -> bytes:
    """Where the rebaser, which runs as the builder's user, may write its report."""
    name = _FOLDER.strip("/")
    return of_texts({f"{name}/note": "the report of a rebase is written here\n"}, Owner(info.uid, info.gid))
