"""What the last buildpack of ours kept of the layers: read back. Pure."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith_buildpacks.launch_env import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Python", "Record", "read"]

RECORD = "record"
"""the folder; its name is the first part of every path"""


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter in a layer, as it was found where the layer was made."""

    folder: str
    """the folder of PATH it is in"""
    version: str
    program: str
    """what it is, links followed: it may be one of the build image, which the run image has to have too"""


@dataclass(frozen=True, slots=True)
class Record:
    """The launch layers, and the python that comes first on PATH."""

    buildpacks: tuple[tuple[Layer, ...], ...] = ()
    """of each buildpack, in the order in which they built"""
    pythons: tuple[Python, ...] = ()
    """those of the layers"""

    def python(self, folders: tuple[str, ...]) -> Python | None:
        """The one that is found in these folders of PATH; None where none is known."""
        known = {each.folder: each for each in self.pythons}
        return next((known[folder] for folder in folders if folder in known), None)


def read(files: Mapping[str, bytes], group: bytes, layers: str) -> Record:
    """From the record's files, the lifecycle's ``group.toml``, and the folder of the layers in the image.

    Raises:
        ValueError: they are not what they should be.
    """
    found = tomllib.loads(group.decode())
    order = [str(each["id"]).replace("/", "_") for each in found.get("group", ())]
    places: dict[tuple[str, str], dict[str, bytes]] = {}
    for path, data in files.items():
        parts = path.split("/", 3)
        if len(parts) == 4 and parts[0] == RECORD:
            places.setdefault((parts[1], parts[2]), {})[parts[3]] = data
    by_buildpack: dict[str, list[Layer]] = {}
    pythons = []
    for (buildpack, name), held in sorted(places.items()):
        types = tomllib.loads(held.get("layer.toml", b"").decode()).get("types", {})
        if not types.get("launch"):
            continue
        path = f"{layers}/{buildpack}/{name}"
        by_buildpack.setdefault(buildpack, []).append(_layer(path, held))
        version, _, program = held.get("python", b"").decode().strip().partition("\n")
        if version:
            pythons.append(Python(f"{path}/bin", version, program))
    ordered = tuple(tuple(by_buildpack[each]) for each in order if each in by_buildpack)
    return Record(ordered, tuple(pythons))


def _layer(path: str, held: Mapping[str, bytes]) -> Layer:
    def texts(folder: str) -> dict[str, str]:
        return {
            name: data.decode("utf-8", "surrogateescape")
            for key, data in held.items()
            for top, _, name in [key.partition("/")]
            if top == folder and name and "/" not in name
        }

    folders = frozenset(name for name in ("bin", "lib") if f"{name}/" in held)
    return Layer(path, folders, texts("env"), texts("env.launch"))
