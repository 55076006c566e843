"""The distribution of a new builder: a small one that works, to be changed piece by piece."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from imagesmith._version import __version__
from imagesmith.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

__all__ = ["check_name", "files", "write"]

_NAME = re.compile(r"[a-z][a-z0-9]*")
_PREFIX = re.compile(r"imagesmith[-_. ]*", re.IGNORECASE)
_LONGEST = 40
_RESERVED = frozenset(
    {"base", "blocked", "builder", "cache", "conda", "conformance", "cuda", "debug", "id", "on", "own",
     "progress", "rig"}
)  # fmt: skip
"""``IMAGESMITH_BASE_IMAGE`` and its like are settings of imagesmith, not options of a builder."""
_PLACES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "__init__.py": "src/@MODULE@/__init__.py",
    "builder.py": "src/@MODULE@/builder.py",
    "render.py": "src/@MODULE@/render.py",
    "py.typed": "src/@MODULE@/py.typed",
    "test_conformance.py": "tests/test_conformance.py",
}
"""Template -> where it goes."""


def check_name(name: str, installed: Collection[str] = ()) -> None:
    """See that a builder may have this name.

    Args:
        name: of the builder; its distribution is called ``imagesmith-NAME``.
        installed: names that are taken.

    Raises:
        UsageError: it may not; the hint has a name that is near.
    """
    near = re.sub(r"^[^a-z]+|[^a-z0-9]", "", _PREFIX.sub("", name, count=1).lower())[:_LONGEST]
    guess = f"did you mean '{near}'? " if near and near != name and near not in _RESERVED else ""
    if _PREFIX.match(name):
        text = f"'{name}' is a distribution's name: the builder is named without imagesmith"
        raise UsageError(text, hint=f"{guess}its distribution will be imagesmith-{near or 'NAME'}")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UsageError(
            f"'{name}' is no name for a builder: it is one word of lower-case letters and digits that begins "
            f"with a letter, at most {_LONGEST} of them (IMAGESMITH_NAME_OPTION sets its options)",
            hint=guess.removesuffix(" ") or "such as: mine",
        )
    if name in _RESERVED:
        raise UsageError(
            f"'{name}' is no name for a builder: IMAGESMITH_{name.upper()}… are settings of imagesmith",
            hint="choose another word",
        )
    if name in installed:
        raise UsageError(
            f"a builder named '{name}' is installed here: two of one name are refused",
            hint="choose another name (imagesmith builders lists those that are taken)",
        )


def files(name: str) -> Mapping[str, str]:
    """Path -> text of the whole distribution. Pure but for reading the templates of this package."""
    major, minor = __version__.split(".")[:2]
    values = {
        "@NAME@": name,
        "@MODULE@": f"imagesmith_{name}",
        "@CLASS@": f"{name.capitalize()}Builder",
        "@TEST@": f"Test{name.capitalize()}",
        "@CORE@": f">={__version__},<{major}.{int(minor) + 1}",
    }

    def filled(text: str) -> str:
        for key, value in values.items():
            text = text.replace(key, value)
        return text

    templates = resources.files("imagesmith.skeleton") / "files"
    return {
        filled(place): filled((templates / f"{template}.txt").read_text(encoding="utf-8"))
        for template, place in _PLACES.items()
    }


def write(name: str, folder: Path) -> tuple[Path, ...]:
    """Write the distribution into a folder that is not there yet. Returns the files.

    Raises:
        UsageError: the folder is there, or its parent is not.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        raise UsageError(
            f"{folder} is there already; nothing was written", hint="name another one: --path"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder.parent} is no folder", hint="make it first, or name another one: --path"
        ) from None
    written = []
    for path, text in files(name).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        written.append(file)
    return tuple(written)
