"""The core's own modules that the spec's code needs inside the image it describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesmith import _contents as contents
from imagesmith.container import RUNTIME_MODULES

if TYPE_CHECKING:
    from imagesmith.requirements import Closure

__all__ = ["stage_runtime", "wants_runtime"]

_PACKAGE: Final = "imagesmith"


def wants_runtime(requirements: Closure | None) -> bool:
    """Not where the spec's own packages name imagesmith: the one they install is the one that runs."""
    return requirements is None or _PACKAGE not in requirements.names


def stage_runtime(folder: Path) -> None:
    """Copy the modules to ``folder/runtime/imagesmith``. They do not enter the tag. Raises OSError.

    They stand first on the path; ``__init__`` itself lets a whole imagesmith behind them be found.
    """
    home = Path(__file__).parent
    target = folder / "runtime" / _PACKAGE
    contents.make_folder(target.parent)
    contents.make_folder(target)
    for name in RUNTIME_MODULES:
        contents.write(target / name, (home / name).read_text(encoding="utf-8"))
