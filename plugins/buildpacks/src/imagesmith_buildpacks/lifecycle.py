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

from imagesmith import BuilderNotReady, Contribution, Message, stated_python
from imagesmith.base import base_environment
from imagesmith.configuration import search_path
from imagesmith_buildpacks import creator, families, launch_env, render
from imagesmith_buildpacks.auth import registry_auth
from imagesmith_buildpacks.containers import Volume
from imagesmith_buildpacks.extra_buildpacks import FINISH, PACKAGES, from_folders, own
from imagesmith_buildpacks.labels import labels_of
from imagesmith_buildpacks.pip_environment import PIP_CONF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagesmith import RegistryFacts
    from imagesmith_buildpacks.builder_info import BuilderInfo
    from imagesmith_buildpacks.derived import Ground
    from imagesmith_buildpacks.extra_buildpacks import Lent
    from imagesmith_buildpacks.families import Family
    from imagesmith_buildpacks.site import Site

__all__ = ["Layers", "build_layers", "certificates", "lifecycle_environment"]

CERTIFICATES = "/platform/imagesmith/certificates"
_SYSTEM_CERTIFICATES = "/etc/ssl/certs"


@dataclass(frozen=True, slots=True)
class Layers:
    """What buildpacks made."""

    digest: str
    """of the image that a lifecycle left: of its manifest, or its id in the engine"""
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
    with _cache_of(site):
        try:
            made = creator.create(site.docker, ground.builder, info, run, inputs, site.report, site.redactor)
        except creator.UnknownLayer:
            without = replace(run, previous=_nowhere(run.image))
            made = creator.create(
                site.docker, ground.builder, info, without, inputs, site.report, site.redactor
            )
    _keep_sbom(site, made)
    found = _contribution(site, info, made)
    stated = stated_python(site.request.base)
    own = None if site.request.conda is not None else made.record.python(found.path)
    version = own or found.env.get("PYTHON_VERSION") or stated
    labels = labels_of(site, made.digest)
    env = dict(found.env)
    if version and version != stated:
        env["PYTHON_VERSION"] = version
    return Layers(made.digest, Contribution(found.path, env, labels), version)


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
            there.reference, ground.used, cache_image=site.options.cache_image, insecure=insecure
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


def _nowhere(image: str) -> str:
    """A name in the same repository under which nothing stands."""
    return f"{image.rpartition(':')[0]}:imagesmith-none"


def lifecycle_environment(site: Site, facts: tuple[RegistryFacts, ...]) -> dict[str, str]:
    """Logins, proxies and certificates, of the lifecycle alone; buildpacks see the proxies of it."""
    env = {"CNB_REGISTRY_AUTH": registry_auth(facts)}
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
    if site.repository is None:
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
    )


def _volume(site: Site, use: str) -> str:
    """Of a repository, not of a tag: so that the next version of an image finds what the last one left."""
    return f"imagesmith-buildpacks-{use}-{_key(site)}"


def _key(site: Site) -> str:
    there = site.repository
    name = there.repository if there else site.local_name.rpartition(":")[0]
    told = [name, site.request.platform, site.options.builder]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _cache_of(site: Site) -> Iterator[None]:
    """One build at a time works on a repository's cache."""
    site.cache.mkdir(parents=True, exist_ok=True)
    with FileLock(site.cache / f"{_key(site)}.lock"):
        yield
