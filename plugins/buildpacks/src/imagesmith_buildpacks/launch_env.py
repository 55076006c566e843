"""What the launcher would set at start, worked out once: so that programs need no launcher. Pure.

Follows the Buildpack API: first every layer's ``bin`` and ``lib``, then the files of ``env`` and
``env.launch``, buildpack by buildpack, layers in the order of their names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from imagesmith import Contribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Layer", "contribution", "launched"]

_FOLDERS = (("bin", "PATH"), ("lib", "LD_LIBRARY_PATH"))


@dataclass(frozen=True, slots=True)
class Layer:
    """A launch layer of a buildpack."""

    path: str
    """its folder in the image"""
    folders: frozenset[str] = frozenset()
    """which of ``bin`` and ``lib`` it has"""
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """file name -> content of ``env``"""
    env_launch: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """file name -> content of ``env.launch``"""


def launched(base: Mapping[str, str], buildpacks: Iterable[Iterable[Layer]]) -> dict[str, str]:
    """The environment of a process that the launcher starts in an image with this one."""
    env = dict(base)
    for layers in buildpacks:
        ordered = sorted(layers, key=lambda layer: layer.path)
        for layer in ordered:
            for name, key in _FOLDERS:
                if name in layer.folders:
                    env[key] = _joined(f"{layer.path}/{name}", ":", env.get(key, ""))
        for layer in ordered:
            for files in (layer.env, layer.env_launch):
                _apply(env, files)
    return env


def _apply(env: dict[str, str], files: Mapping[str, str]) -> None:
    for name, value in sorted(files.items()):
        key, _, action = name.partition(".")
        old, between = env.get(key, ""), files.get(f"{key}.delim", "")
        if action in ("", "override"):
            env[key] = value
        elif action == "prepend":
            env[key] = _joined(value, between, old)
        elif action == "append":
            env[key] = _joined(old, between, value) if old else value
        elif action == "default" and not old:
            env[key] = value


def _joined(first: str, between: str, second: str) -> str:
    return f"{first}{between}{second}" if second else first


def contribution(
    base: Mapping[str, str], path: str, buildpacks: Iterable[Iterable[Layer]], more: Mapping[str, str]
) -> Contribution:
    """The same for the image's configuration.

    Args:
        base: the environment of the base.
        path: the PATH that stands for an unset one.
        buildpacks: the launch layers of each, in the order in which they built.
        more: variables beside those of the layers.
    """
    known = {"PATH": path, **{key: value for key, value in base.items() if value or key != "PATH"}}
    env = launched(known, buildpacks)
    before = known["PATH"]
    now = env.pop("PATH")
    folders = tuple(now.removesuffix(before).strip(":").split(":")) if now.endswith(before) else ()
    changed = {key: value for key, value in env.items() if value != base.get(key) and key != "PATH"}
    if not now.endswith(before):  # a buildpack replaced PATH as a whole
        folders = tuple(each for each in now.split(":") if each not in before.split(":"))
    return Contribution(tuple(each for each in folders if each.startswith("/")), {**changed, **more})
