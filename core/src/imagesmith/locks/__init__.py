"""Lock files as requirements: what they pin, as requirements that the image's own python chooses from.

``uv.lock`` is exported by uv itself, ``pylock.toml`` and ``poetry.lock`` are read here. Nothing asks a
network. Of a project its main dependencies are taken: no extras, no development groups.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from imagesmith.locks.pins import Locked
    from imagesmith.spec import ImageSpec

__all__ = ["is_lock", "read_lock"]

_NAMES: Final = re.compile(r"uv\.lock|poetry\.lock|pylock(\.[^.]+)?\.toml")


def is_lock(path: str) -> bool:
    """Whether a file of this name is a lock file that ``read_lock`` reads."""
    return _NAMES.fullmatch(Path(path).name) is not None


def read_lock(path: str, shown: str, spec: ImageSpec) -> Locked:
    """What the lock file pins for the image of ``spec``. ``shown`` is its path for messages.

    Raises SourceError when it cannot be read, is not for this image, or needs a tool that is absent.
    """
    # not at the top: a spec without a lock file pays for none of them
    from imagesmith.locks.pins import read_text  # noqa: PLC0415

    file = Path(path)
    text = read_text(file, shown)
    if file.name == "uv.lock":
        from imagesmith.locks.uv import read_uv  # noqa: PLC0415

        return read_uv(file, text, shown, spec)
    if file.name == "poetry.lock":
        from imagesmith.locks.poetry import read_poetry  # noqa: PLC0415

        return read_poetry(text, shown, spec)
    from imagesmith.locks.pylock import read_pylock  # noqa: PLC0415

    return read_pylock(text, shown, spec)
