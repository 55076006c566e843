"""Whether this process runs in the image of a spec. Reads ``os.environ`` and nothing else."""

from __future__ import annotations

import os
import re
import sys

from imagesmith._checks import MARKER
from imagesmith.errors import Problem, SpecError

TYPE_CHECKING = False  # typing is not imported at run time: it costs 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Final

    from imagesmith.spec import ImageSpec

__all__ = ["MARKER", "RUNTIME_MODULES", "imports", "is_container", "pin", "running_python"]

RUNTIME_MODULES: Final[tuple[str, ...]] = (
    "__init__.py",
    "_checks.py",
    "_fields.py",
    "_frozen.py",
    "_urls.py",
    "_version.py",
    "container.py",
    "errors.py",
    "identity.py",
    "py.typed",
    "spec.py",
)
"""The files of this package that an image needs to run the spec's own code; they import no others."""


def is_container(spec: ImageSpec) -> bool:
    """True only in a process whose image was built from this spec."""
    marker = os.environ.get(MARKER)
    return bool(marker) and marker == spec.id


class imports:  # noqa: N801 - reads as a statement: ``with imports(spec):``
    """A with-block of imports that must work inside the spec's image and may fail elsewhere.

    Outside, a missing module ends the block without an error and leaves the names unbound.
    """

    def __init__(self, spec: ImageSpec) -> None:
        self._inside = is_container(spec)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return not self._inside and isinstance(error, ImportError)


def running_python() -> str:
    """Minor version of this interpreter."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def pin(names: Sequence[str]) -> tuple[str, ...]:
    """``name==version`` as installed here, extras kept (see ``ImageSpec.from_env``)."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - not free, and rare

    if isinstance(names, str):
        raise SpecError(
            [Problem("pinned_packages", f"expected a list, got str ({names!r})", f"write [{names!r}]")]
        )
    pinned: list[str] = []
    problems: list[Problem] = []
    for index, name in enumerate(names):
        path = f"pinned_packages[{index}]"
        named = re.fullmatch(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(\[[^\]]*\])?", name)
        if named is None:
            problems.append(Problem(path, f"{name!r} is no plain package name; the version comes from here"))
            continue
        try:
            pinned.append(f"{name}=={version(named[1])}")
        except PackageNotFoundError:
            if os.environ.get(MARKER):
                pinned.append(name)
            else:
                problems.append(
                    Problem(path, f"{name!r} is not installed here, so it has no version to pin to")
                )
    if problems:
        raise SpecError(problems)
    return tuple(pinned)
