"""``builder_options`` and the machine's settings for this builder, checked. Pure, but for where we stand:
relative paths are made whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagesmith.builder_options import Kinds, checked, text, texts, yes_no

__all__ = ["Context", "Options", "parse"]

COMPRESSIONS = ("zstd", "gzip", "uncompressed", "estargz")
IMAGE = "docker-image://"
_CONTEXT_NAME = re.compile(r"[a-z][a-z0-9]*(?:[._-][a-z0-9]+)*")
_OWN_NAMES = ("imagesmith", "scratch", "context", "dockerfile")


@dataclass(frozen=True, slots=True)
class Context:
    """Files that steps may read, and that do not enter the image."""

    name: str
    source: str
    """``docker-image://REFERENCE``, or the path of a folder"""

    @property
    def is_image(self) -> bool:
        """Whether it is an image, rather than a folder of this machine."""
        return self.source.startswith(IMAGE)


@dataclass(frozen=True, slots=True)
class Options:
    """What may be said beside the spec's own fields; the names are those of ``builder_options``."""

    builder: str | None = None
    """a builder that ``docker buildx ls`` lists; unset: BUILDX_BUILDER, then the current one"""
    network: str | None = None
    """of the steps: ``default``, ``none``, ``host`` (where the engine allows it)"""
    compression: str | None = None
    """of all layers that are pushed; unset: zstd for new ones (gzip is for consumers from before 2021)"""
    cache_from: tuple[str, ...] = ()
    """as ``--cache-from``: ``type=registry,ref=…`` or a reference"""
    cache_to: tuple[str, ...] = ()
    add_host: tuple[str, ...] = ()
    """``host:ip``"""
    ulimit: tuple[str, ...] = ()
    """``nofile=1024:4096``"""
    shm_size: str | None = None
    ca: str | None = None
    """file of certificates that apt, uv and pip believe while they install, instead of the base's own"""
    no_cache: bool = False
    """run every step anew"""
    build_contexts: tuple[Context, ...] = ()
    """what packages and commands may read below ``/run/imagesmith/contexts``: a folder for each name"""
    provenance: str | None = None
    """``mode=min`` or ``mode=max``: how the image was built, as an attestation beside it"""
    sbom: str | None = None
    """``true`` or ``generator=IMAGE``: what the image holds, as an attestation beside it"""
    source_date_epoch: int | None = None
    """seconds since 1970 that stand as the time of all new files, where the engine can"""

    @property
    def exports_cache(self) -> bool:
        """Whether layers are written elsewhere (an inline cache is a part of the image)."""
        return any("type=inline" not in each for each in self.cache_to)

    @property
    def attests(self) -> tuple[str, ...]:
        """The options by which attestations are asked for."""
        return tuple(name for name in ("provenance", "sbom") if getattr(self, name) is not None)

    def compressed(self) -> str:
        """For ``--output``."""
        return (
            f"compression={self.compression},force-compression=true"
            if self.compression
            else "compression=zstd"
        )

    def arguments(self) -> list[str]:
        """For ``docker buildx build``; compression is said with the output."""
        found: list[str] = []
        for name in ("builder", "network", "shm_size"):
            if (value := getattr(self, name)) is not None:
                found += [_flag(name), value]
        for name in ("cache_from", "cache_to", "add_host", "ulimit"):
            found += [word for value in getattr(self, name) for word in (_flag(name), _placed(value))]
        for name in ("provenance", "sbom"):
            found.append(f"{_flag(name)}={getattr(self, name) or 'false'}")
        if self.source_date_epoch is not None:
            found += ["--build-arg", f"SOURCE_DATE_EPOCH={self.source_date_epoch}"]
        return [*found, "--no-cache"] if self.no_cache else found


def parse(declared: Mapping[str, object], machine: Mapping[str, object]) -> tuple[Options, dict[str, str]]:
    """The options, and option -> what is wrong with it. What the spec declares wins over the machine."""
    values, problems = checked(machine, _KINDS, "docker")
    said, wrong = checked(declared, {**_KINDS, "build_contexts": _declared}, "docker", "builder_options")
    if "build_contexts" in said:
        said["build_contexts"] = _merged(values.get("build_contexts", ()), said["build_contexts"])
    return Options(**{**values, **said}), problems | wrong


def _merged(machine: Sequence[Context], declared: Sequence[Context]) -> tuple[Context, ...]:
    named = {context.name: context for context in (*machine, *declared)}
    return tuple(named[name] for name in sorted(named))


def _compression(value: object) -> str:
    if value not in COMPRESSIONS:
        raise ValueError(f"{value!r} is none of {', '.join(COMPRESSIONS)}")
    return str(value)


def _provenance(value: object) -> str | None:
    modes = {"min": "mode=min", "max": "mode=max", "mode=min": "mode=min", "mode=max": "mode=max"}
    if isinstance(value, str) and value in modes:
        return modes[value]
    try:
        return "mode=min" if yes_no(value) else None
    except ValueError as error:
        raise ValueError(f"expected true, false, 'min' or 'max', got {value!r}") from error


def _sbom(value: object) -> str | None:
    try:
        return "true" if yes_no(value) else None
    except ValueError:
        image = text(value).removeprefix("generator=")
        _check_reference(image)
        return f"generator={image}"


def _epoch(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**33:
        raise ValueError(f"expected whole seconds since 1970, got {value!r}")
    return value


def _contexts(value: object) -> tuple[Context, ...]:
    """A table, or ``name=source`` texts (in a variable of the environment: one, or several by commas)."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, Mapping):
        pairs = [each.partition("=") for each in texts(value)]
        value = {name.strip(): source.strip() for name, _, source in pairs}
    return tuple(_context(name, source) for name, source in sorted(value.items()))


def _context(name: str, source: object) -> Context:
    if not isinstance(name, str) or not _CONTEXT_NAME.fullmatch(name) or len(name) > 100:
        raise ValueError(f"{name!r} is no name: lower-case letters, digits and single . _ - between them")
    if name.startswith(_OWN_NAMES[0]) or name in _OWN_NAMES:
        raise ValueError(f"the name {name!r} is taken: choose one that does not begin with 'imagesmith'")
    place = text(source)
    if place in (".", "..") or place.startswith(("/", "./", "../")):
        return Context(name, place)
    image = place.removeprefix(IMAGE)
    _check_reference(image)
    return Context(name, IMAGE + image)


def _check_reference(image: str) -> None:
    from imagesmith import InvalidReference  # noqa: PLC0415
    from imagesmith.stores.reference import parse as parse_reference  # noqa: PLC0415

    try:
        parse_reference(image)
    except InvalidReference as error:
        hint = "an image reference, or (in the machine's settings) a folder that begins with / or ./"
        raise ValueError(f"{image!r} is no image: expected {hint}") from error


def _declared(value: object) -> tuple[Context, ...]:
    """A tag names what a spec asks for. The files of a folder would be in the image's, and not in its tag."""
    contexts = _contexts(value)
    for context in contexts:
        if not context.is_image:
            raise ValueError(
                f"{context.name}: a folder's files are in no tag, so an edit would be missed: name an image, "
                "use the field copy, or set the folder as IMAGESMITH_DOCKER_BUILD_CONTEXTS on the machine"
            )
    return contexts


_KINDS: Kinds = {
    "builder": text,
    "network": text,
    "compression": _compression,
    "cache_from": texts,
    "cache_to": texts,
    "add_host": texts,
    "ulimit": texts,
    "shm_size": text,
    "ca": text,
    "no_cache": yes_no,
    "build_contexts": _contexts,
    "provenance": _provenance,
    "sbom": _sbom,
    "source_date_epoch": _epoch,
}


def _placed(value: str) -> str:
    """A cache's folder by its whole path: buildx runs in a folder of its own."""
    if "type=local" not in value.split(","):
        return value
    parts = [part.partition("=") for part in value.split(",")]
    return ",".join(
        f"{key}={Path(path).absolute()}" if key in ("src", "dest") else key + equals + path
        for key, equals, path in parts
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
