"""One run of a lifecycle's creator in the builder image: what it is given, and what it leaves."""

from __future__ import annotations

import io
import tarfile
import tomllib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, ImagesmithError
from imagesmith_buildpacks import exchange, record
from imagesmith_buildpacks.archive import Owner, add_folder, add_text, add_tree, of_texts
from imagesmith_buildpacks.containers import Volume
from imagesmith_buildpacks.extra_buildpacks import FINISH, own
from imagesmith_buildpacks.failures import explain
from imagesmith_buildpacks.progress import Progress
from imagesmith_buildpacks.render import APP, LAYERS, PLATFORM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imagesmith import Reporter
    from imagesmith.runner import Redactor
    from imagesmith_buildpacks.builder_info import BuilderInfo
    from imagesmith_buildpacks.containers import Engine
    from imagesmith_buildpacks.extra_buildpacks import Lent
    from imagesmith_buildpacks.render import Creator

__all__ = ["Inputs", "Made", "UnknownLayer", "create"]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the container is filled with."""

    app: Mapping[str, bytes | str]
    """files of the application, by path in its folder"""
    staged: Path | None
    """a folder whose content joins them: wheels and projects"""
    platform_env: Mapping[str, str]
    order: str
    run: str
    secrets: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """absolute path in the container -> content"""
    buildpacks: tuple[Lent, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """of the lifecycle itself, its logins among them"""
    volumes: tuple[Volume, ...] = ()
    network: str | None = None
    exchange: Mapping[str, bytes] | None = None
    """files of the folder through which images are exchanged, by path in it; unset: there is none"""


@dataclass(frozen=True, slots=True)
class Made:
    """What a creator left."""

    digest: str
    """of the manifest; empty where it stands in no registry"""
    record: record.Record
    sbom: Mapping[str, bytes]
    """path below ``sbom/`` -> document"""


def create(
    docker: Engine,
    image: str,
    info: BuilderInfo,
    run: Creator,
    inputs: Inputs,
    report: Reporter,
    redactor: Redactor,
    exported: Path | None = None,
) -> Made:
    """Run it to its end. ``image`` is the builder image, or one derived from it.

    ``exported``: a folder for the image that it leaves in the one of exchange.

    Raises:
        UnknownLayer: it has to be run without an earlier image.
        BuildFailed, BuilderNotReady, RegistryError: it ended with an error.
        EngineError: the engine did not do its part.
    """
    env = {
        "CNB_PLATFORM_API": info.platform_api,
        "CNB_NO_COLOR": "true",
        "SOURCE_DATE_EPOCH": "0",
        "CNB_USER_ID": str(info.uid),
        "CNB_GROUP_ID": str(info.gid),
        **inputs.env,
    }
    volumes = (Volume(LAYERS), Volume(APP), *inputs.volumes)
    argv = run.argv()
    with docker.container(
        image, argv, env=env, volumes=volumes, network=inputs.network, platform=info.platform
    ) as container:
        container.put(_platform(inputs, info))
        container.put(_app(inputs, info))
        if inputs.exchange is not None:
            top = exchange.FOLDER.strip("/")
            texts = {f"{top}/{path}": data for path, data in inputs.exchange.items()}
            container.put(of_texts(texts, Owner(info.uid, info.gid)))
        progress = Progress(report, redactor, "buildpacks: start", prefix="creator-")
        container.start()
        code = container.follow(progress.line)
        progress.done(f"exit code {code}" if code else None)
        if code:
            error = explain(progress, code, registry=run.image.partition("/")[0])
            raise UnknownLayer(error) if _wants_no_previous(progress) else error
        told = container.fetch(f"{LAYERS}/report.toml") or {}
        kept = container.fetch(f"{LAYERS}/{own(FINISH).place.partition('/')[0]}/{record.RECORD}") or {}
        group = container.fetch(f"{LAYERS}/group.toml") or {}
        sbom = container.fetch(f"{LAYERS}/sbom") or {}
        if exported is not None:
            container.copy(f"{exchange.FOLDER}/{exchange.place(run.image)}", exported)
    digest = _digest(told.get("report.toml", b""))
    try:
        known = record.read(kept, group.get("group.toml", b""), LAYERS)
    except (ValueError, KeyError) as error:
        raise BuilderNotReady(
            f"the lifecycle {info.lifecycle} left no readable group.toml: {error}",
            builder="buildpacks",
            hint="choose another builder image",
        ) from error
    return Made(digest, known, {path: data for path, data in sbom.items() if not path.endswith("/")})


class UnknownLayer(Exception):
    """A layer was taken over from an earlier image of which nothing is known here."""

    def __init__(self, error: ImagesmithError) -> None:
        super().__init__(str(error))
        self.error = error


def _wants_no_previous(progress: Progress) -> bool:
    """Our buildpack knows nothing of a layer of it, or the engine no longer has it unpacked."""
    return any(
        line.startswith("imagesmith: nothing is known of the layer")
        or ("get history for image" in line and "does not exist" in line)
        for line in progress.tail
    )


def _digest(report: bytes) -> str:
    image = tomllib.loads(report.decode(errors="replace")).get("image", {})
    return str(image.get("digest") or "")


def _platform(inputs: Inputs, info: BuilderInfo) -> bytes:
    """Settings, variables, secrets and buildpacks, each where the lifecycle or a buildpack looks for it."""
    buffer = io.BytesIO()
    builder = Owner(info.uid, info.gid)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        top = PLATFORM.strip("/")
        for folder in (top, f"{top}/env", f"{top}/imagesmith"):
            add_folder(archive, folder)
        for name, value in inputs.platform_env.items():
            add_text(archive, f"{top}/env/{name}", value)
        add_text(archive, f"{top}/imagesmith/order.toml", inputs.order)
        add_text(archive, f"{top}/imagesmith/run.toml", inputs.run)
        for path, data in inputs.secrets.items():
            add_text(archive, path.strip("/"), data, builder, mode=0o400)
        for each in inputs.buildpacks:
            place = f"cnb/buildpacks/{each.place}"
            add_folder(archive, place)
            add_tree(archive, each.folder, place, programs="bin")
    return buffer.getvalue()


def _app(inputs: Inputs, info: BuilderInfo) -> bytes:
    """The application's folder, first itself: its owner and mode are those that the image gets."""
    buffer = io.BytesIO()
    owner, top = Owner(info.uid, info.gid), APP.strip("/")
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        add_folder(archive, top, owner, mode=0o775)
        if inputs.staged is not None:
            add_tree(archive, inputs.staged, top, owner)
        for name, text in inputs.app.items():
            add_text(archive, f"{top}/{name}", text, owner)
    return buffer.getvalue()
