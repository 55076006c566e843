"""What to do where no engine answers: builders that need none are named, and never chosen in silence."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import features
from imagesmith.builder import LayoutFolder, LocalEngine, Support
from imagesmith.errors import BuilderNotReady, EngineError, ExistenceUnknown, ImagesmithError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from imagesmith.builder import Builder, Destination
    from imagesmith.plugins import Plugins
    from imagesmith.settings import Settings
    from imagesmith.spec import ImageSpec

    Make: TypeAlias = Callable[[str], Builder]

__all__ = ["naming_a_way_out", "way_out"]

_BUILD = "or build without an engine"
_INSTALL = "or install a builder that needs no engine (the guide lists them)"


@contextlib.contextmanager
def naming_a_way_out(
    spec: ImageSpec, chosen: str, destination: Destination, settings: Settings, plugins: Plugins, make: Make
) -> Iterator[None]:
    """Add to the hint of an error whose cause is that no engine answers how to build without one."""
    try:
        yield
    except (BuilderNotReady, EngineError, ExistenceUnknown) as error:
        from imagesmith.engine import probe  # noqa: PLC0415

        needed = isinstance(destination, LocalEngine) or plugins.load(chosen).needs_engine
        said = any(text in (error.hint or "") for text in (_BUILD, _INSTALL))  # by the build of the base
        if needed and not said and probe(settings.env).problem is not None:
            way = way_out(plugins, make, spec, destination)
            error.hint = f"{error.hint}; {way}" if error.hint else way
        raise


def way_out(
    plugins: Plugins, make: Make, spec: ImageSpec | None = None, destination: Destination | None = None
) -> str:
    """Part of a hint: the command for each installed builder that needs no engine and can build the spec."""
    local = isinstance(destination, LocalEngine)
    output = " --output image.tar" if local else ""
    there = LayoutFolder(Path("image.tar")) if local else destination
    able = [name for name in plugins.names() if _needs_none(plugins, name) and _can(make, name, spec, there)]
    if not able:
        return _INSTALL
    commands = ", ".join(f"imagesmith build … --builder {name}{output}" for name in able)
    return f"{_BUILD}: {commands}"


def _needs_none(plugins: Plugins, name: str) -> bool:
    try:
        return not plugins.load(name).needs_engine
    except ImagesmithError:
        return False


def _can(make: Make, name: str, spec: ImageSpec | None, destination: Destination | None) -> bool:
    """As far as its feature table says."""
    if spec is None:
        return True
    try:
        table = make(name).features
    except Exception:  # noqa: BLE001 - a stranger's code, asked only for the sake of a hint
        return False
    wanted = features.required(spec, destination)
    return all(table.get(feature) is Support.FULL for feature in wanted)
