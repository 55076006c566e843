"""A builder for imagesmith that needs no daemon: buildah."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith import BuilderEntry, hookimpl

if TYPE_CHECKING:
    from imagesmith import Builder, Environment

__version__ = "1.0.0"


def make(environment: Environment) -> Builder:
    """Make the builder; its modules load here, not when builders are listed."""
    from imagesmith_buildah.builder import BuildahBuilder

    return BuildahBuilder(environment)


@hookimpl
def imagesmith_builder() -> BuilderEntry:
    """Tell the core what there is."""
    return BuilderEntry("buildah", "buildah, without a daemon", factory=make, needs_engine=False)
