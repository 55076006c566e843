"""Cloud Native Buildpacks: run images, and builders with the real lifecycle and a small python buildpack."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
from concurrent.futures import Executor, Future
from pathlib import Path

from . import engine, golang, images
from .console import RigError, part, run
from .state import Cnb

PART = "cnb"  # its name as an optional one
LIFECYCLE = Path(__file__).parent / "lifecycle"
LIFECYCLE_VERSION = "0.21.14"
PACK = Path(__file__).parent / "pack"
PACK_VERSION = "0.40.6"
BUILDPACKS = Path(__file__).parents[1] / "cnb" / "buildpacks"
PUBLIC_BUILDER = "IMAGESMITH_CNB_BUILDER"  # variable: a builder image to use instead of ours

RUN, RUN_NEXT = "cnb-run:3.11", "cnb-run:3.11-next"
RUN_PINNED, RUN_OTHER = "cnb-run:3.11-pinned", "cnb-run:3.13"
BUILDER, BUILDER_OLD, BUILDER_EXTENDED = "cnb-builder:3.11", "cnb-builder:old", "cnb-builder:extended"
PYTHON_ID, PYTHON_VERSION = "imagesmith-rig/python", "1.0.0"

# What a lifecycle of this version says of itself (its release's lifecycle.toml).
APIS = {
    "buildpack": {
        "deprecated": [],
        "supported": ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"],
    },
    "platform": {
        "deprecated": [],
        "supported": ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12", "0.13", "0.14", "0.15"],
    },
}
PHASES = ("analyzer", "builder", "creator", "detector", "exporter", "extender", "rebaser", "restorer")

RUN_DOCKERFILE = """\
ARG BASE
FROM ${BASE}
RUN echo run:x:1001: >> /etc/group && echo run:x:1001:1001::/home/run:/bin/sh >> /etc/passwd \\
 && install -d -o 1001 -g 1001 /home/run
ARG RELEASE
RUN echo "${RELEASE}" > /etc/run-image
USER 1001:1001
"""
BUILDER_DOCKERFILE = """\
ARG BASE
FROM ${BASE}
RUN echo build:x:1000: >> /etc/group && echo build:x:1000:1000::/home/build:/bin/sh >> /etc/passwd \\
 && install -d -o 1000 -g 1000 /home/build /workspace /layers && mkdir -p /platform/env
COPY cnb /cnb
ENV CNB_USER_ID=1000 CNB_GROUP_ID=1000
WORKDIR /workspace
USER 1000:1000
"""
VARIANT_DOCKERFILE = "ARG BASE\nFROM ${BASE}\n"


def start(pool: Executor) -> Future[None] | None:
    """Build the programs: the longest part, so begin it early. None where a public builder is used."""
    return None if os.environ.get(PUBLIC_BUILDER) else pool.submit(_programs)


def _programs() -> None:
    lifecycle()
    pack()


def lifecycle(architecture: str = "") -> Path:
    """Return the folder of the lifecycle's programs, for this machine unless another is named."""
    commands = [f"github.com/buildpacks/lifecycle/cmd/{name}" for name in ("launcher", "lifecycle")]
    variables = {"github.com/buildpacks/lifecycle/cmd.Version": LIFECYCLE_VERSION}
    name = f"lifecycle-{architecture}" if architecture else "lifecycle"
    return golang.build(name, LIFECYCLE, commands, variables, architecture)


def pack() -> Path:
    """Return the program ``pack``."""
    variables = {"github.com/buildpacks/pack/pkg/client.Version": PACK_VERSION}
    return golang.build("pack", PACK, ["github.com/buildpacks/pack"], variables) / "pack"


def reference(publisher: images.Publisher) -> Cnb | None:
    """Return what there is, None where it was not made or not from what stands here now."""
    public = os.environ.get(PUBLIC_BUILDER)
    if public:
        return Cnb(builder=public)
    made = key(publisher)
    names = (BUILDER, BUILDER_OLD, BUILDER_EXTENDED, RUN, RUN_NEXT, RUN_PINNED, RUN_OTHER)
    if not all(publisher.done(name, made) for name in names):
        return None
    return dataclasses.replace(Cnb(*map(publisher.reference, names)), pack=str(pack()))


def publish(publisher: images.Publisher) -> None:
    """Make all images, in both registries; the python bases must be there."""
    if reference(publisher):
        return
    with part("buildpacks: run images and builders"):
        for name, base, release in (
            (RUN, images.PYTHON311, "1"),
            (RUN_NEXT, images.PYTHON311, "2"),
            (RUN_OTHER, images.PYTHON313, "1"),
        ):
            run_image(publisher, name, base, release)
        _image(publisher, RUN_PINNED, RUN, VARIANT_DOCKERFILE, {"io.buildpacks.rebasable": "false"})
        builder_image(publisher, BUILDER, images.PYTHON311, RUN)
        old = {**APIS, "platform": {"deprecated": [], "supported": ["0.9", "0.10", "0.11"]}}
        labels = _builder_labels(publisher.reference(RUN), old)
        _image(publisher, BUILDER_OLD, BUILDER, VARIANT_DOCKERFILE, labels)
        extension = {
            "io.buildpacks.buildpack.order-extensions": json.dumps([{"group": [{"id": "some/one"}]}])
        }
        _image(publisher, BUILDER_EXTENDED, BUILDER, VARIANT_DOCKERFILE, extension)


def run_image(
    publisher: images.Publisher, name: str, base: str, release: str, architecture: str = ""
) -> None:
    """Make what applications stand on."""
    labels = {**_distro(publisher, base, architecture), "io.buildpacks.rebasable": "true"}
    arguments = {"RELEASE": release}
    _image(publisher, name, base, RUN_DOCKERFILE, labels, arguments, architecture=architecture)


def builder_image(
    publisher: images.Publisher, name: str, base: str, run_image: str, architecture: str = ""
) -> None:
    """Make what applications are built in; it names ``run_image``."""
    labels = {
        **_builder_labels(publisher.reference(run_image), APIS),
        **_distro(publisher, base, architecture),
    }
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        _lay_out(files / "cnb", lifecycle(architecture), publisher.reference(run_image))
        _image(publisher, name, base, BUILDER_DOCKERFILE, labels, files=files, architecture=architecture)


def _image(
    publisher: images.Publisher,
    name: str,
    base: str,
    dockerfile: str,
    labels: dict[str, str],
    arguments: dict[str, str] | None = None,
    files: Path | None = None,
    architecture: str = "",
) -> None:
    options = ["--platform", f"linux/{architecture}"] if architecture else []
    options += ["--build-arg", f"BASE={publisher.reference(base)}"]
    for argument, value in (arguments or {}).items():
        options += ["--build-arg", f"{argument}={value}"]
    for label, value in labels.items():
        options += ["--label", f"{label}={value}"]
    engine.build(publisher.host, dockerfile, publisher.reference(name), options, files)
    publisher.push(name, key(publisher))


def _lay_out(folder: Path, programs: Path, run_image: str) -> None:
    """Write what a builder has at /cnb."""
    target = folder / "lifecycle"
    shutil.copytree(programs, target)
    for phase in PHASES:
        (target / phase).symlink_to("lifecycle")
    shutil.copytree(
        BUILDPACKS / "python", folder / "buildpacks" / PYTHON_ID.replace("/", "_") / PYTHON_VERSION
    )
    order = f'[[order]]\n[[order.group]]\nid = "{PYTHON_ID}"\nversion = "{PYTHON_VERSION}"\n'
    (folder / "order.toml").write_text(order, encoding="utf-8")
    (folder / "run.toml").write_text(f"[[images]]\nimage = {json.dumps(run_image)}\n", encoding="utf-8")


def _builder_labels(run_image: str, apis: object) -> dict[str, str]:
    python = {"id": PYTHON_ID, "version": PYTHON_VERSION}
    metadata = {
        "description": "A small python buildpack, for tests",
        "buildpacks": [python],
        "images": [{"image": run_image, "mirrors": []}],
        "stack": {"runImage": {"image": run_image, "mirrors": []}},
        "lifecycle": {
            "version": LIFECYCLE_VERSION,
            "api": {"buildpack": "0.7", "platform": "0.7"},
            "apis": apis,
        },
        "createdBy": {"name": "imagesmith rig", "version": ""},
    }
    layers = {PYTHON_ID: {PYTHON_VERSION: {"api": "0.10", "layerDiffID": ""}}}
    return {
        "io.buildpacks.builder.metadata": json.dumps(metadata),
        "io.buildpacks.buildpack.order": json.dumps([{"group": [python]}]),
        "io.buildpacks.buildpack.layers": json.dumps(layers),
    }


def _distro(publisher: images.Publisher, name: str, architecture: str) -> dict[str, str]:
    """Return the labels that say which distribution an image is."""
    argv = ["docker", "run", "--rm", "--network=none"]
    argv += ["--platform", f"linux/{architecture}"] if architecture else []
    text = run(
        [*argv, publisher.reference(name), "cat", "/etc/os-release"], env={"DOCKER_HOST": publisher.host}
    )
    found = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', text, re.MULTILINE))
    if len(found) != 2:
        raise RigError(f"the os-release of {publisher.reference(name)} names no ID and VERSION_ID")
    return {
        "io.buildpacks.base.distro.name": found["ID"],
        "io.buildpacks.base.distro.version": found["VERSION_ID"],
    }


def key(publisher: images.Publisher) -> str:
    """Identify what all of it is made from."""
    files = [Path(__file__), *(file for file in (BUILDPACKS / "python").rglob("*") if file.is_file())]
    parts = [file.read_bytes() for file in sorted(files)]
    parts += [publisher.made_from(name).encode() for name in (images.PYTHON311, images.PYTHON313)]
    parts += [golang.place("lifecycle", LIFECYCLE).name.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
