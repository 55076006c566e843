"""A builder for imagesmith that writes a Dockerfile and runs docker buildx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith import BuilderEntry, hookimpl

if TYPE_CHECKING:
    from imagesmith import Builder, Environment

__version__ = "1.0.0"


def make(environment: Environment) -> Builder:
    """Make the builder; its modules load here, not when builders are listed."""
    from imagesmith_plain.builder import PlainBuilder

    return PlainBuilder(environment)


@hookimpl
def imagesmith_builder() -> BuilderEntry:
    """Tell the core what there is."""
    return BuilderEntry(name="plain", summary="a Dockerfile and docker buildx", factory=make)
