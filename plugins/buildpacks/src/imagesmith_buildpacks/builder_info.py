"""What a CNB builder image says of itself, and whether that suffices. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from imagesmith import BuilderNotReady
from imagesmith_buildpacks.families import Group, Member

__all__ = ["PLATFORM_APIS", "BuilderInfo", "distro_of", "lifecycle_warning", "read", "run_image_mismatch"]

PLATFORM_APIS = ("0.12", "0.13", "0.14")
"""Versions of the platform API that this builder speaks; 0.12 brought ``run.toml``."""

METADATA = "io.buildpacks.builder.metadata"
ORDER = "io.buildpacks.buildpack.order"
EXTENSIONS = "io.buildpacks.buildpack.order-extensions"
_DISTRO = "io.buildpacks.base.distro"


@dataclass(frozen=True, slots=True)
class BuilderInfo:
    """A builder image, as its labels and environment describe it."""

    reference: str
    platform: str
    """``os/arch[/variant]``"""
    lifecycle: str
    """version of the lifecycle in it"""
    platform_api: str
    """the highest version that both sides speak"""
    user: str
    """``uid:gid`` that buildpacks run as"""
    run_images: tuple[tuple[str, ...], ...] = ()
    """each run image with its mirrors, the first one meant"""
    buildpacks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """id -> version"""
    order: tuple[Group, ...] = ()
    distro: tuple[str, str] | None = None
    """name and version, such as ``("ubuntu", "22.04")``; None where it does not say"""

    @property
    def uid(self) -> int:
        """Of the user that buildpacks run as."""
        return int(self.user.partition(":")[0])

    @property
    def gid(self) -> int:
        """Of its group."""
        return int(self.user.partition(":")[2])

    def run_image(self, registry: str | None) -> str | None:
        """The run image it names, its mirror on that registry if there is one; None: it names none."""
        if not self.run_images:
            return None
        near = (name for name in self.run_images[0] if registry and name.startswith(f"{registry}/"))
        return next(near, self.run_images[0][0])


def read(reference: str, config: Mapping[str, object]) -> BuilderInfo:
    """From an OCI image configuration document.

    Raises:
        BuilderNotReady: it is no CNB builder, or not one that can be driven.
    """
    inner = _object(config, "config")
    labels = {key: str(value) for key, value in _object(inner, "Labels").items()}
    if METADATA not in labels:
        raise _unfit(reference, f"it is no CNB builder image: it has no label {METADATA}", _CHOOSE)
    metadata = _json(reference, labels, METADATA)
    if not isinstance(metadata, Mapping):
        raise _unfit(reference, f"its label {METADATA} is no JSON object", _CHOOSE)
    if _json(reference, labels, EXTENSIONS):
        raise _unfit(
            reference,
            "it has image extensions, which need a build with more than one container",
            "choose a builder without extensions",
        )
    lifecycle = _object(metadata, "lifecycle")
    env = _environment(inner)
    platform = [config.get("os"), config.get("architecture"), config.get("variant")]
    return BuilderInfo(
        reference=reference,
        platform="/".join(str(part) for part in platform if part),
        lifecycle=str(lifecycle.get("version") or "unknown"),
        platform_api=_negotiate(reference, lifecycle),
        user=_user(reference, env),
        run_images=_run_images(metadata),
        buildpacks={
            str(each.get("id")): str(each.get("version"))
            for each in _list(metadata, "buildpacks")
            if isinstance(each, Mapping)
        },
        order=_order(_json(reference, labels, ORDER)),
        distro=distro_of(config),
    )


def distro_of(config: Mapping[str, object]) -> tuple[str, str] | None:
    """Name and version of an image's distribution, where its labels say so."""
    labels = _object(_object(config, "config"), "Labels")
    name, version = labels.get(f"{_DISTRO}.name"), labels.get(f"{_DISTRO}.version")
    return (str(name), str(version)) if name and version else None


def run_image_mismatch(
    info: BuilderInfo,
    ours: tuple[str, str] | None,
    platform: str,
    theirs: tuple[str, str] | None,
    reference: str,
) -> str | None:
    """Why what the builder makes would not run on that image; None where nothing speaks against it.

    Args:
        info: the builder.
        ours: its distribution; one that is not known is believed to fit.
        platform: the run image's.
        theirs: the run image's distribution.
        reference: the run image's name.
    """
    if info.platform.split("/")[:2] != platform.split("/")[:2]:
        return f"{reference} is for {platform}, the builder {info.reference} for {info.platform}"
    if ours is not None and theirs is not None and not _same_distro(ours, theirs):
        return (
            f"{reference} is {' '.join(theirs)}, the builder {info.reference} builds for "
            f"{' '.join(ours)}: what it compiles may not run there"
        )
    return None


def _same_distro(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Debian's images say ``12`` or ``12.5``, Ubuntu's always ``22.04``."""
    if one[0] != other[0]:
        return False
    parts = zip(one[1].split("."), other[1].split("."), strict=False)
    return all(mine == yours for mine, yours in parts)


def lifecycle_warning(version: str) -> str | None:
    """What is known to be wrong with a lifecycle that writes into an engine; None: nothing."""
    try:
        parts = tuple(int(part) for part in version.split("+", maxsplit=1)[0].split(".")[:3])
    except ValueError:
        return None
    for first, last, trouble in _BROKEN:
        if first <= parts <= last:
            return f"lifecycle {version} {trouble}; a registry= in the spec avoids it"
    return None


_BROKEN = (
    ((0, 21, 2), (0, 21, 2), "fails to write into an engine (No such image)"),
    ((0, 21, 0), (0, 21, 5), "cannot talk to engines older than Docker 25"),
    ((0, 21, 10), (0, 21, 11), "writes images without their layers' identities into an engine"),
    ((0, 21, 15), (0, 21, 17), "writes broken manifests into an engine"),
)
_CHOOSE = (
    "name a builder image (IMAGESMITH_BUILDPACKS_BUILDER, or builder_options={'builder': …}), such as "
    "docker.io/heroku/builder:24"
)


def _negotiate(reference: str, lifecycle: Mapping[str, object]) -> str:
    offered = _list(_object(_object(lifecycle, "apis"), "platform"), "supported")
    shared = [version for version in PLATFORM_APIS if version in {str(each) for each in offered}]
    if not shared:
        known = ", ".join(str(each) for each in offered) or "none"
        raise _unfit(
            reference,
            f"its lifecycle {lifecycle.get('version')} speaks the platform APIs {known}, "
            f"not one of {', '.join(PLATFORM_APIS)}",
            "choose a builder image with lifecycle 0.17 or newer",
        )
    return shared[-1]


def _user(reference: str, env: Mapping[str, str]) -> str:
    uid, gid = env.get("CNB_USER_ID", ""), env.get("CNB_GROUP_ID", "")
    if not uid.isdecimal() or not gid.isdecimal():
        raise _unfit(reference, "its environment lacks CNB_USER_ID or CNB_GROUP_ID", _CHOOSE)
    return f"{uid}:{gid}"


def _run_images(metadata: Mapping[str, object]) -> tuple[tuple[str, ...], ...]:
    stack = _object(_object(metadata, "stack"), "runImage")
    found = []
    for each in (*_list(metadata, "images"), stack):
        if isinstance(each, Mapping) and each.get("image"):
            names = (str(each["image"]), *(str(name) for name in _list(each, "mirrors")))
            found.append(names)
    return tuple(dict.fromkeys(found))


def _order(document: object) -> tuple[Group, ...]:
    groups = []
    for entry in document if isinstance(document, list) else ():
        members = _list(entry, "group") if isinstance(entry, Mapping) else []
        groups.append(
            Group(
                tuple(
                    Member(str(each["id"]), str(each.get("version") or ""), bool(each.get("optional")))
                    for each in members
                    if isinstance(each, Mapping) and each.get("id")
                )
            )
        )
    return tuple(groups)


def _environment(config: Mapping[str, object]) -> dict[str, str]:
    pairs = (str(item).partition("=") for item in _list(config, "Env"))
    return {key: value for key, _, value in pairs}


def _json(reference: str, labels: Mapping[str, str], name: str) -> object:
    try:
        found: object = json.loads(labels.get(name) or "null")
    except ValueError:
        raise _unfit(reference, f"its label {name} is no JSON", _CHOOSE) from None
    return found


def _object(parent: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(parent: Mapping[str, object], key: str) -> list[object]:
    value = parent.get(key)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []


def _unfit(reference: str, why: str, hint: str) -> BuilderNotReady:
    return BuilderNotReady(
        f"the builder image {reference} cannot be used: {why}", builder="buildpacks", hint=hint
    )
