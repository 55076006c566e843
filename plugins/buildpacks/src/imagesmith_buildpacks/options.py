"""``builder_options`` and the machine's settings for this builder, checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from imagesmith.builder_options import Kinds, checked, text, texts, yes_no

__all__ = ["DEFAULT_BUILDER", "Options", "parse"]

DEFAULT_BUILDER = "docker.io/paketobuildpacks/builder-jammy-base:latest"
"""A public builder image that makes python applications."""
_KNOWN = ("docker.io/paketobuildpacks/builder", "docker.io/heroku/builder:", "gcr.io/buildpacks/builder")
"""How the names of builder images begin whose buildpacks may be near the registry's credentials."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Options:
    """What may be said beside the spec's own fields; the names are those of ``builder_options``."""

    builder: str = DEFAULT_BUILDER
    """the CNB builder image"""
    run_image: str | None = None
    """the base where the spec names none; unset: the builder's own run image"""
    buildpacks: tuple[str, ...] = ()
    """folders with buildpacks of one's own; they build before the builder's"""
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """what buildpacks see beside ``build_env``, such as ``BP_…``"""
    cache_image: str | None = None
    """a reference under which layers are kept between builds; unset: a volume of the engine"""
    trust: bool = False
    """let buildpacks of a builder that is not well known run where the registry's login is"""
    network: str | None = None
    """of the build's containers: ``host``, ``none``, a network's name; unset: the engine's default, and
    ``host`` where a registry listens on this machine only"""
    machine_builder: bool = False
    """whether the machine's settings name the builder, and so vouch for it"""

    @property
    def trusted(self) -> bool:
        """Whether buildpacks may run in the container that is told the registry's login."""
        return self.trust or self.machine_builder or self.builder.startswith(_KNOWN)


def parse(declared: Mapping[str, object], machine: Mapping[str, object]) -> tuple[Options, dict[str, str]]:
    """The options, and option -> what is wrong with it. What the spec declares wins over the machine."""
    values, problems = checked(machine, _KINDS, "buildpacks")
    said, wrong = checked(declared, _KINDS, "buildpacks", "builder_options")
    values |= said
    values["machine_builder"] = "builder" in machine and "builder" not in declared
    return Options(**values), problems | wrong


def _reference(value: object) -> str:
    from imagesmith.stores.reference import parse as read  # noqa: PLC0415

    found = read(text(value))
    tag = found.tag or ("latest" if found.digest is None else None)
    digest = f"@{found.digest}" if found.digest else ""
    return f"{found.repository_reference}{f':{tag}' if tag else ''}{digest}"


def _variables(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a table of variables, got {value!r}")  # noqa: TRY004 - of one kind
    for key, held in value.items():
        if not isinstance(key, str) or not _NAME.fullmatch(key) or not isinstance(held, str):
            raise ValueError(f"{key!r} = {held!r} is no variable: letters, digits and _, and a text")
    return MappingProxyType(dict(value))


_KINDS: Kinds = {
    "builder": _reference,
    "run_image": _reference,
    "buildpacks": texts,
    "env": _variables,
    "cache_image": _reference,
    "trust": yes_no,
    "network": text,
}
