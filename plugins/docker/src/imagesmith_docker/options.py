"""``builder_options`` and the machine's settings for this builder, checked. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Options", "parse"]

COMPRESSIONS = ("zstd", "gzip", "uncompressed", "estargz")
_ATTESTATIONS = ("provenance", "sbom", "attest")


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
            found += [word for value in getattr(self, name) for word in (_flag(name), value)]
        return [*found, "--no-cache"] if self.no_cache else found


def parse(declared: Mapping[str, object], machine: Mapping[str, object]) -> tuple[Options, dict[str, str]]:
    """The options, and option -> what is wrong with it. What the spec declares wins over the machine."""
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for where, given in (("", machine), ("builder_options", declared)):
        for name, value in given.items():
            try:
                values[name] = _checked(name, value)
            except ValueError as error:
                problems[f"{where}[{name!r}]" if where else name] = str(error)
    return Options(**values), problems


def _checked(name: str, value: object) -> object:
    known = [each.name for each in fields(Options)]
    if name in _ATTESTATIONS:
        raise ValueError(
            "not yet supported: an attestation names the image before its configuration is finished"
        )
    if name not in known:
        near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ValueError(f"no option of the docker builder; {hint}")
    return _KINDS[name](value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or value.startswith("-") or "\n" in value:
        raise ValueError(f"expected text, got {value!r}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_text(value),)
    if not isinstance(value, Sequence):
        raise ValueError(f"expected text or a list of texts, got {value!r}")  # noqa: TRY004 - of one kind
    return tuple(_text(each) for each in value)


def _yes_no(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:  # from a variable of the environment
        return words[value.lower()]
    raise ValueError(f"expected true or false, got {value!r}")


def _compression(value: object) -> str:
    if value not in COMPRESSIONS:
        raise ValueError(f"{value!r} is none of {', '.join(COMPRESSIONS)}")
    return str(value)


_KINDS: Mapping[str, Callable[[object], object]] = {
    "builder": _text,
    "ca": _text,
    "network": _text,
    "compression": _compression,
    "cache_from": _texts,
    "cache_to": _texts,
    "add_host": _texts,
    "ulimit": _texts,
    "shm_size": _text,
    "no_cache": _yes_no,
}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
