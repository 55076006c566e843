"""``builder_options`` of the spec and settings of the machine (``IMAGESMITH_OCI_*``). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith.builder_options import yes_no

if TYPE_CHECKING:
    from imagesmith_oci.layers import Compression

__all__ = ["Options", "parse"]

_KNOWN = ("byte_code", "compression", "sdists")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, checked."""

    compression: Compression = "zstd"
    sdists: tuple[str, ...] = ()
    """canonical names of packages whose wheel may be built here, where it is pure Python"""
    byte_code: bool = False
    """compile the modules of packages here"""


def parse(spec: Mapping[str, object], machine: Mapping[str, object]) -> tuple[Options, dict[str, str]]:
    """The options, and what is wrong with them by field; those of the spec win."""
    problems: dict[str, str] = {}
    for where, given in (("builder_options", spec), ("oci", machine)):
        for name in given:
            if name not in _KNOWN:
                problems[_field(where, name)] = f"there is no such option; known: {', '.join(_KNOWN)}"
    compression: Compression = "zstd"
    sdists: tuple[str, ...] = ()
    byte_code = False
    for where, given in (("oci", machine), ("builder_options", spec)):
        if "compression" in given:
            value = given["compression"]
            if value in {"zstd", "gzip"}:
                compression = "gzip" if value == "gzip" else "zstd"
            else:
                problems[_field(where, "compression")] = f"{value!r} is neither 'zstd' nor 'gzip'"
        if "sdists" in given:
            names = _names(given["sdists"])
            if names is None:
                problems[_field(where, "sdists")] = "expected a list of package names"
            else:
                sdists = names
        if "byte_code" in given:
            try:
                byte_code = yes_no(given["byte_code"])
            except ValueError as error:
                problems[_field(where, "byte_code")] = str(error)
    return Options(compression, sdists, byte_code), problems


def _field(where: str, name: str) -> str:
    return f"builder_options[{name!r}]" if where == "builder_options" else f"IMAGESMITH_OCI_{name.upper()}"


def _names(value: object) -> tuple[str, ...] | None:
    listed = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(listed, Sequence) or not all(isinstance(name, str) for name in listed):
        return None
    return tuple(sorted({re.sub(r"[-_.]+", "-", name).lower() for name in listed}))
