"""The hooks of imagesmith: what a builder plugin says to the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from imagesmith.builder import BuilderEntry

__all__ = ["PROJECT", "hookimpl", "hookspec", "imagesmith_builder"]

PROJECT = "imagesmith"
"""The name of the markers, and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def imagesmith_builder() -> BuilderEntry:  # type: ignore[empty-body]
    """Say how to make the plugin's builder. Exactly one per plugin; it must not import heavy things.

    In ``imagesmith_mine/__init__.py``::

        from imagesmith.builder import Builder, BuilderEntry, Environment
        from imagesmith.hookspecs import hookimpl

        def make(environment: Environment) -> Builder:
            from imagesmith_mine.builder import MyBuilder  # imported when it is used

            return MyBuilder(environment)

        @hookimpl
        def imagesmith_builder() -> BuilderEntry:
            return BuilderEntry(name="mine", summary="builds with my tool", factory=make)

    and in its ``pyproject.toml``, where the entry point's name is the builder's name::

        [project.entry-points.imagesmith]
        mine = "imagesmith_mine"
    """
