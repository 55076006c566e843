"""From a request to a run of the lifecycle, and from what it leaves to what the configuration needs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from imagesmith import (
    BuilderNotReady,
    BuildFailed,
    Contribution,
    LayoutFolder,
    Message,
    engine,
    stated_python,
)
from imagesmith.base import base_environment
from imagesmith.configuration import search_path
from imagesmith_buildpacks import creator, exchange, families, launch_env, render
from imagesmith_buildpacks.auth import registry_auth
from imagesmith_buildpacks.containers import Volume
from imagesmith_buildpacks.extra_buildpacks import FINISH, PACKAGES, from_folders, own
from imagesmith_buildpacks.images import python_version
from imagesmith_buildpacks.labels import labels_of, own_label
from imagesmith_buildpacks.pip_environment import PIP_CONF

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from imagesmith import RegistryFacts, RegistryRepository
    from imagesmith.stores import StoredImage
    from imagesmith_buildpacks.builder_info import BuilderInfo
    from imagesmith_buildpacks.derived import Ground
    from imagesmith_buildpacks.extra_buildpacks import Lent
    from imagesmith_buildpacks.families import Family
    from imagesmith_buildpacks.record import Python
    from imagesmith_buildpacks.site import Site

__all__ = ["Layers", "build_layers", "certificates", "left", "lifecycle_environment"]

CERTIFICATES = "/platform/imagesmith/certificates"
_SYSTEM_CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True, slots=True)
class Layers:
    """What buildpacks made."""

    image: StoredImage
    """what a lifecycle left: in the registry, in the engine, or as files"""
    contributed: Contribution
    python: str | None
    """version of the one that comes first on PATH; None where it is the base's, which does not say"""


def build_layers(site: Site, info: BuilderInfo, family: Family, ground: Ground) -> Layers:
    """Let buildpacks make their layers and put them on the run image.

    Raises:
        BuildFailed, BuilderNotReady, StoreError: see ``creator.create``.
    """
    facts = _registries(site, ground)
    run = _creator(site, ground, facts)
    inputs = _inputs(site, info, family, ground, facts)
    exported = site.folder / "exported" if run.exchange else None

    def create(run: render.Creator) -> creator.Made:
        told = (site.report, site.redactor, exported)
        return creator.create(site.docker, ground.builder, info, run, inputs, *told)

    with _cache_of(site):
        try:
            made = create(run)
        except creator.UnknownLayer:
            try:
                made = create(replace(run, previous=_nowhere(run.image)))
            except creator.UnknownLayer as again:
                raise again.error from None
    image = left(site, made.digest, exported)
    _keep_sbom(site, made)
    found = _contribution(site, info, made)
    stated = stated_python(site.request.base)
    own = None if site.request.conda is not None else made.record.python(found.path)
    version = _version(site, own, ground) if own else found.env.get("PYTHON_VERSION") or stated
    labels = labels_of(image) | own_label(site)
    env = dict(found.env)
    if version and version != stated:
        env["PYTHON_VERSION"] = version
    return Layers(image, Contribution(found.path, env, labels), version)


def _version(site: Site, python: Python, ground: Ground) -> str:
    """The version that a layer's python has in the run image. Raises BuildFailed where it has none there."""
    if python.program.startswith(f"{render.LAYERS}/"):
        return python.version
    reference = ground.derived or site.request.base.pinned
    if not ground.derived and not site.request.base.local:
        site.present(reference)
    found = python_version(site.docker, reference, python.program, site.cache)
    if found is None:
        raise BuildFailed(
            f"the buildpacks installed packages for {python.program}, and the base image "
            f"{site.request.base.reference} has no python there that runs",
            builder="buildpacks",
            step="python",
            hint="choose a base that has it, such as the builder's own run image, or a builder that brings a "
            "python along",
        )
    return found


def left(site: Site, digest: str, exported: Path | None = None) -> StoredImage:
    """The image that a lifecycle left. Raises BuilderNotReady where there is none."""
    there, platform = site.repository, site.request.platform
    if exported is not None:
        return exchange.new_image(exported, lambda descriptor: _base_layer(site, descriptor))
    if there is not None:
        from imagesmith.stores.registry import open_repository  # noqa: PLC0415

        with open_repository(there.repository, site.env, site.request.spec.registry_config) as store:
            found = store.read(digest, platform)
    else:
        with contextlib.closing(engine.local_store(site.env)) as local:
            found = local.read(digest or site.local_name, platform)
    if found is None:
        raise BuilderNotReady("the lifecycle left no image", builder="buildpacks", hint="see the log")
    return found


def _base_layer(site: Site, descriptor: Mapping[str, object]) -> Path:
    """A layer of the base, for an engine that lacks it. Raises RegistryError."""
    from imagesmith.stores.reference import parse  # noqa: PLC0415
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415
    from imagesmith.stores.transfer import download_blob  # noqa: PLC0415

    digest, config = str(descriptor["digest"]), site.request.spec.registry_config
    path = site.folder / digest.partition(":")[2]
    repository = parse(site.request.base.reference).repository_reference
    with open_repository(repository, site.env, config, mirrored=True) as store:
        download_blob(store, digest, path)
    return path


def _keep_sbom(site: Site, made: creator.Made) -> None:
    """What buildpacks say is in their layers, for the newest image of the repository."""
    if not made.sbom:
        return
    folder = site.cache / "sbom" / _key(site)
    shutil.rmtree(folder, ignore_errors=True)
    for path, data in made.sbom.items():
        file = folder / path.removeprefix("sbom/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    site.report(Message(f"bill of materials (SBOM) of the layers: {folder}"))


def _contribution(site: Site, info: BuilderInfo, made: creator.Made) -> Contribution:
    request = site.request
    more = {
        # for those who start programs by the launcher
        "CNB_APP_DIR": render.APP,
        "CNB_LAYERS_DIR": render.LAYERS,
        "CNB_PLATFORM_API": info.platform_api,
    }
    below = render.contributed(request)
    base = {**base_environment(request.base.config), **below.env}
    path = search_path(request.base.config, below.path)
    found = launch_env.contribution(base, path, made.record.buildpacks, more)
    # conda's python comes first: it sees what was installed beside it
    return Contribution((*below.path, *found.path), {**below.env, **found.env})


def _registries(site: Site, ground: Ground) -> tuple[RegistryFacts, ...]:
    if site.repository is None and site.options.cache_image is None:
        return ()
    names = [site.repository.repository, ground.named] if site.repository else []
    names += [site.options.cache_image] if site.options.cache_image else []
    found = {facts.host: facts for facts in map(site.facts, names)}
    return tuple(found.values())


def _creator(site: Site, ground: Ground, facts: tuple[RegistryFacts, ...]) -> render.Creator:
    there = site.repository
    insecure = tuple(each.host for each in facts if each.insecure and site.network(each.host) is None)
    if there is not None:
        return render.Creator(
            there.reference,
            ground.used,
            cache_image=site.options.cache_image,
            previous=_previous(site, there),
            insecure=insecure,
        )
    if site.exchanges:
        cache = site.options.cache_image
        return render.Creator(
            exchange.IMAGE, ground.used, cache_image=cache, exchange=exchange.FOLDER, insecure=insecure
        )
    repository = site.local_name.rpartition(":")[0]
    previous = next(iter(site.docker.named(repository)), None)
    return render.Creator(
        site.local_name,
        ground.used,
        daemon=True,
        cache_image=site.options.cache_image,
        previous=previous,
        insecure=insecure,
    )


def _previous(site: Site, there: RegistryRepository) -> str | None:
    """The earlier image, whose layers may be taken over. None: what stands under the staging tag. Not where
    that is another platform's, nor where the registry turned out to have lost a layer."""
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415

    with open_repository(there.repository, site.env, site.request.spec.registry_config) as store:
        platforms = store.platforms(there.staging_tag)
    ours = site.request.platform.split("/")[:2]
    fits = not site.request.ask_again and all(each.split("/")[:2] == ours for each in platforms)
    return None if fits else _nowhere(there.reference)


def _nowhere(image: str) -> str:
    """A name in the same repository under which nothing stands."""
    return f"{image.rpartition(':')[0]}:imagesmith-none"


def lifecycle_environment(site: Site, facts: tuple[RegistryFacts, ...]) -> dict[str, str]:
    """Logins, proxies and certificates, of the lifecycle alone; buildpacks see the proxies of it."""
    env = {"CNB_EXPERIMENTAL_MODE": "quiet"} if site.exchanges else {}
    env |= {"CNB_REGISTRY_AUTH": registry_auth(facts)}
    env |= {name: value for name, value in site.env.items() if name.lower().endswith("_proxy") and value}
    if any(each.ca for each in facts):
        env["SSL_CERT_DIR"] = f"{CERTIFICATES}:{_SYSTEM_CERTIFICATES}"
    return env


def _buildpacks(
    site: Site, info: BuilderInfo, family: Family
) -> tuple[tuple[Lent, ...], tuple[families.Group, ...]]:
    """What is lent to the builder, and the groups to try. Raises UsageError for a folder that is none."""
    finish = own(FINISH)
    extra = from_folders(site.options.buildpacks, Path(site.request.spec.root or "."))
    before = tuple(each.member for each in extra)
    if site.request.conda is not None:
        packages = own(PACKAGES)
        group = families.Group((*before, packages.member, finish.member))
        return (*extra, packages, finish), (group,)
    groups = families.group_order(info, family, before=before, last=finish.member)
    if not groups:
        raise BuilderNotReady(
            f"the builder image {info.reference} does not say in which order its buildpacks build",
            builder="buildpacks",
            hint="choose a builder image with the label io.buildpacks.buildpack.order",
        )
    return (*extra, finish), groups


def certificates(facts: tuple[RegistryFacts, ...]) -> dict[str, bytes]:
    """Those of the registries' own authorities, by path; the lifecycle is told of their folder."""
    held = [each.ca for each in facts if each.ca is not None]
    return {f"{CERTIFICATES}/{number}.pem": file.read_bytes() for number, file in enumerate(held)}


def _inputs(
    site: Site, info: BuilderInfo, family: Family, ground: Ground, facts: tuple[RegistryFacts, ...]
) -> creator.Inputs:
    request, options = site.request, site.options
    staged = request.staged
    secret_texts = {name: request.secrets[name].reveal() for name in staged.texts if name in request.secrets}
    app: dict[str, bytes | str] = {
        **render.app_texts(staged.texts),
        **family.files(request.spec.python_version),
    }
    if secret_texts:  # with the credentials that stand in some of them
        app |= {name: text for name, text in render.app_texts(secret_texts).items() if text}
    folder = staged.folder / "requirements" if staged.folder and staged.has_requirements else None
    secrets = {
        target: request.secrets[f"pip_secret_mounts[{number}]"].reveal()
        for number, (_, target) in enumerate(request.spec.pip_secret_mounts)
    }
    if "pip.conf" in request.secrets:
        secrets[PIP_CONF] = request.secrets["pip.conf"].reveal()
    secrets |= certificates(facts)
    lent, groups = _buildpacks(site, info, family)
    volumes = [] if options.cache_image else [Volume("/cache", _volume(site, "build"))]
    if site.repository is None and not site.exchanges:
        volumes.append(Volume("/launch-cache", _volume(site, "launch")))
        volumes.append(Volume("/var/run/docker.sock", site.socket(), bind=True))
    return creator.Inputs(
        app=app,
        staged=folder if folder and folder.is_dir() else None,
        platform_env={
            **family.environment(request.spec.python_version),
            **render.platform_environment(request, options),
        },
        order=families.order_toml(groups),
        run=render.run_toml(ground.named, ground.used),
        secrets=secrets,
        buildpacks=lent,
        env=lifecycle_environment(site, facts),
        volumes=tuple(volumes),
        network=site.network(*(each.host for each in facts)),
        exchange=exchange.sparse(request.base) if site.exchanges else None,
    )


def _volume(site: Site, use: str) -> str:
    """Of a repository, not of a tag: so that the next version of an image finds what the last one left."""
    return f"imagesmith-buildpacks-{use}-{_key(site)}"


def _key(site: Site) -> str:
    there = site.repository
    name = there.repository if there else site.local_name.rpartition(":")[0]
    if isinstance(site.request.destination, LayoutFolder):
        name = site.request.spec.name
    told = [name, site.request.platform, site.options.builder]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _cache_of(site: Site) -> Iterator[None]:
    """One build at a time works on a repository's cache."""
    site.cache.mkdir(parents=True, exist_ok=True)
    with FileLock(site.cache / f"{_key(site)}.lock"):
        yield
