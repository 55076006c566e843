"""TOML, YAML and JSON files to plain data; what is wrong is a SpecFileError that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from imagesmith.errors import Problem, SpecFileError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["READERS", "read_mapping"]


def read_mapping(path: Path) -> Mapping[str, object]:
    """The table that a file holds; an empty file is an empty one. The ending says how to read it."""
    try:
        data = READERS[path.suffix.lower()](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecFileError([Problem("", "is not UTF-8 text")], file=str(path)) from error
    except ValueError as error:
        raise SpecFileError([Problem("", str(error))], file=str(path)) from error
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        problem = Problem("", f"holds a {type(data).__name__}, not fields and their values")
        raise SpecFileError([problem], file=str(path))
    odd = [Problem(repr(key), "expected text as key") for key in data if not isinstance(key, str)]
    if odd:
        raise SpecFileError(odd, file=str(path))
    return data


def _toml(text: str) -> object:
    import tomllib  # noqa: PLC0415 - few specs need it

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from error


def _json(text: str) -> object:
    def mapping(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the key {key!r} stands twice in one object")
            found[key] = value
        return found

    if not text.strip():
        return None
    try:
        return json.loads(text, object_pairs_hook=mapping)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error}") from error


def _yaml(text: str) -> object:
    try:
        import yaml  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        raise UsageError("reading YAML needs PyYAML", hint="pip install 'imagesmith[yaml]'") from error

    class Loader(yaml.SafeLoader):
        """SafeLoader takes the last of two equal keys silently."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for key in keys:
                if keys.count(key) > 1 and key != "<<":
                    raise ValueError(
                        f"line {node.start_mark.line + 1}: the key {key!r} stands twice in one mapping"
                    )
            return dict(super().construct_mapping(node, deep))

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from error


READERS: Final[Mapping[str, Callable[[str], object]]] = {
    ".toml": _toml,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".json": _json,
}
"""File name ending -> how its text is read."""
