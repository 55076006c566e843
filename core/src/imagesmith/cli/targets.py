"""The TARGET argument of the commands."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagesmith.settings import Settings
    from imagesmith.spec import ImageSpec

__all__ = ["is_spec", "load", "settings"]

_SUFFIXES = {".py", ".toml", ".yaml", ".yml", ".json"}


def load(target: str) -> ImageSpec:
    """The spec that a target names; modules are looked for in the working directory first.

    Raises:
        UsageError, SpecError: it names none, or a wrong one.
    """
    from imagesmith import loading  # noqa: PLC0415

    with _working_directory_first():
        return loading.load(target)


def is_spec(target: str) -> bool:
    """Whether a target names a spec, rather than an image: a spec's file, or a module that can be found."""
    head, _, attribute = target.partition(":")
    if Path(head).suffix in _SUFFIXES or Path(target).suffix in _SUFFIXES:
        return True
    names = head.split(".")
    if not attribute.isidentifier() or not all(name.isidentifier() for name in names):
        return False
    from importlib.util import find_spec  # noqa: PLC0415

    with _working_directory_first():
        return find_spec(names[0]) is not None


def settings() -> Settings:
    """Those of the working directory and the environment."""
    from imagesmith.settings import load_settings  # noqa: PLC0415

    return load_settings(Path.cwd(), dict(os.environ))


@contextlib.contextmanager
def _working_directory_first() -> Iterator[None]:
    """Only while a spec is loaded: a ``docker`` folder there must not shadow what is imported later."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the spec's own code may have changed the path
            sys.path.remove(folder)
