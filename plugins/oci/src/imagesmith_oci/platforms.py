"""What a platform and a libc are called: by uv, and in the names of wheels. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Libc", "machine", "tags", "uv_platform"]

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""those that uv resolves for"""
_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True)
class Libc:
    """The C library of an image."""

    kind: str
    """``glibc`` or ``musl``"""
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.kind} {self.major}.{self.minor}"


def machine(platform: str) -> str | None:
    """The machine of ``os/arch[/variant]`` as wheels call it; None where none can be resolved for."""
    system, _, rest = platform.partition("/")
    return _MACHINES.get(rest.partition("/")[0]) if system == "linux" else None


def uv_platform(platform: str, libc: Libc) -> str | None:
    """The value of ``--python-platform``; None where the libc is too old, or the machine is none of uv's."""
    name = machine(platform)
    if name is None or libc.major not in {1, 2}:
        return None
    if libc.kind == "musl":
        return f"{name}-unknown-linux-musl"
    fitting = [minor for minor in _GLIBC if minor <= libc.minor]
    return f"{name}-manylinux_2_{fitting[-1]}" if fitting else None


def tags(version: str, platform: str, libc: Libc) -> list[str]:
    """The tags of wheels that CPython of that version takes, the best first."""
    from packaging.tags import compatible_tags, cpython_tags  # noqa: PLC0415 - only to choose wheels

    major, minor = (int(part) for part in version.split(".")[:2])
    names = list(_platforms(platform, libc))
    return [
        str(tag)
        for tag in (
            *cpython_tags((major, minor), platforms=names),
            *compatible_tags((major, minor), f"cp{major}{minor}", names),
        )
    ]


def _platforms(platform: str, libc: Libc) -> Iterator[str]:
    name = machine(platform)
    if libc.kind == "musl":
        for minor in range(libc.minor, -1, -1):
            yield f"musllinux_1_{minor}_{name}"
    else:
        oldest = 5 if name == "x86_64" else 17
        for minor in range(libc.minor, oldest - 1, -1):
            yield f"manylinux_2_{minor}_{name}"
            if legacy := _LEGACY.get(minor):
                yield f"{legacy}_{name}"
    yield f"linux_{name}"
