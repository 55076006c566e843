"""Images with apt packages and a conda environment: the run image, and the builder where packages compile.

Both are kept in the engine under a name made of all that they hold; a run image that a registry must know
is pushed beside the application's, so that it can be rebased.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith import LocalEngine, Message, RegistryRepository, conda_check, engine, scripts
from imagesmith_buildpacks.archive import add_folder, add_tree, of_texts
from imagesmith_buildpacks.extra_buildpacks import PACKAGES, own
from imagesmith_buildpacks.render import LAYERS, apt_script, contributed
from imagesmith_buildpacks.steps import Step, derive

if TYPE_CHECKING:
    from pathlib import Path

    from imagesmith_buildpacks.builder_info import BuilderInfo
    from imagesmith_buildpacks.site import Site

__all__ = ["Ground", "prepare", "rebased", "recipe", "run_image"]

_NAME = "imagesmith-buildpacks"
_KEEP = 16
"""names of derived images of either kind, so that what stays in an engine has an end"""
TAG = "imagesmith-run"
"""how the tags of derived run images begin, in the repository of the image that stands on them"""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a lifecycle is run in, and what its image stands on."""

    builder: str
    """the builder image, in the engine"""
    named: str
    """the run image, by the name that a rebase starts from"""
    used: str
    """the same, by the content that is used now"""
    derived: str | None = None
    """the same in the engine, where it was made there"""


def run_image(site: Site) -> str:
    """The run image in the engine, with all that was asked for. Raises as ``prepare``."""
    base, made = site.request.base, recipe(site)
    if not base.local:
        site.present(base.pinned)
    return _derive(site, "run", base.pinned, made, _conda_archive(site)) if made else base.pinned


def prepare(site: Site, info: BuilderInfo) -> Ground:
    """Make them where they lack.

    Raises:
        BuildFailed: apt or the check of the conda environment failed.
        StoreError: engine or registry did not do their part.
    """
    request = site.request
    base, to_registry = request.base, site.repository is not None
    made = recipe(site)
    if not made and not (base.local and to_registry):
        if isinstance(request.destination, LocalEngine):
            site.present(base.pinned)
            with site.docker.container(base.pinned, ["/bin/true"]):
                pass  # engines unpack an image for its first container, and lifecycles ask for no other one
        return Ground(info.reference, base.reference, base.pinned)
    if not base.local:
        site.present(base.pinned)
    archives = _conda_archive(site)
    run = _derive(site, "run", base.pinned, made, [*archives, *_path_file(site)])
    builder = _derive(site, "builder", info.reference, made, archives) if made else info.reference
    return Ground(builder, *_named(site, run), run)


def rebased(site: Site) -> None:
    """The run image made anew on another base, under the name that is recorded. Raises as ``prepare``."""
    if not site.request.base.local:
        site.present(site.request.base.pinned)
    _named(site, _derive(site, "run", site.request.base.pinned, recipe(site), []))


def recipe(site: Site) -> dict[str, object]:
    """What is put on an image; empty where nothing is."""
    request, found = site.request, dict[str, object]()
    if request.spec.apt_packages:
        found["apt"] = apt_script(request)
    if request.conda is not None:
        packages = request.conda.packages
        found["conda"] = [[each.name, each.version, each.build, each.sha256] for each in packages]
    return found


def _derive(site: Site, use: str, image: str, made: dict[str, object], archives: list[Path]) -> str:
    """The name of ``image`` with all that was asked for, made when it is asked for the first time."""
    request = site.request
    known = site.docker.inspect(image)
    below = [str(known["Id"]) if known else image, request.platform]
    key = hashlib.sha256(json.dumps([below, made], sort_keys=True).encode()).hexdigest()[:24]
    name = f"{_NAME}/{use}:{key}"
    if site.docker.inspect(name) is not None:
        site.report(Message(f"the {use} image with apt and conda packages is there already: {name}"))
        return name
    texts = {"install.sh": scripts.for_installs(request, contributed(request), _proxies(site))}
    found: list[Step] = []
    where = " (for the build)" if use == "builder" else ""
    if "apt" in made:
        texts["apt.sh"] = apt_script(request)
        packages = " ".join(sorted(set(request.spec.apt_packages)))
        found.append(Step(f"apt: {packages}{where}", "apt.sh", "install.sh"))
    if request.conda is not None:
        texts["conda.sh"] = conda_check(request.conda)
        found.append(Step(f"conda: {request.conda.PREFIX}{where}", "conda.sh", "install.sh"))
    changes = []
    if use == "run":
        changes.append('LABEL io.buildpacks.rebasable="true"')
    derive(
        site.docker,
        image,
        name,
        found,
        texts,
        site.report,
        site.redactor,
        archives=archives,
        changes=changes,
        network=site.options.network,
        platform=request.platform,
        prefix=f"{use}-",
    )
    for old in site.docker.named(f"{_NAME}/{use}")[_KEEP:]:
        site.docker.forget(old)
    return name


def _proxies(site: Site) -> dict[str, str]:
    return {name: value for name, value in site.env.items() if name.lower().endswith("_proxy") and value}


def _conda_archive(site: Site) -> list[Path]:
    tree = site.request.conda
    if tree is None or tree.folder is None:
        return []
    path = site.folder / "conda.tar"
    prefix = tree.PREFIX.strip("/")
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        add_folder(archive, prefix)
        add_tree(archive, tree.folder, prefix)
    return [path]


def _path_file(site: Site) -> list[Path]:
    """What lets the conda environment see the packages that buildpacks install beside it."""
    tree = site.request.conda
    if tree is None or tree.python is None:
        return []
    python = f"python{'.'.join(tree.python.split('.')[:2])}"
    place = f"{tree.PREFIX.strip('/')}/lib/{python}/site-packages/imagesmith-buildpacks.pth"
    path = site.folder / "path.tar"
    packages = f"{LAYERS}/{own(PACKAGES).place.partition('/')[0]}/venv/lib/{python}/site-packages"
    path.write_bytes(of_texts({place: f"{packages}\n"}))
    return [path]


def _named(site: Site, image: str) -> tuple[str, str]:
    """The derived run image under the name that is recorded for rebases, and under that of its content.

    The first says what was put on which base; it means what was made last. Where the image is pushed it is
    a tag beside the application's: lifecycles read it there.
    """
    request = site.request
    told = json.dumps([request.base.reference, request.platform, recipe(site)], sort_keys=True)
    key = hashlib.sha256(told.encode()).hexdigest()[:24]
    there = site.repository
    if there is None:
        name = f"{_NAME}/run:base-{key}"
        site.docker.tag(image, name)
        return name, name
    from imagesmith.stores.registry import open_repository  # noqa: PLC0415

    target = RegistryRepository(there.repository, f"{TAG}-{key}")
    known = site.docker.inspect(image)
    layers = list(known["RootFS"]["Layers"]) if known else []
    with open_repository(there.repository, site.env, request.spec.registry_config) as store:
        found = store.read(target.staging_tag, request.platform)
    if found is not None and _layers(found.config) == layers:
        return target.reference, f"{there.repository}@{found.digest}"
    local = engine.local_store(site.env)
    try:
        digest = engine.push(local, image, target, site.facts(there.repository), site.cache)
    finally:
        local.close()
    return target.reference, f"{there.repository}@{digest}"


def _layers(config: Mapping[str, object]) -> list[object]:
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    return list(found) if isinstance(found, (list, tuple)) else []
