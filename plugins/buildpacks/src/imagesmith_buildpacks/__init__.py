"""The buildpacks builder of imagesmith: the Cloud Native Buildpacks lifecycle, through the Docker Engine."""

from imagesmith import BuilderEntry, hookimpl

__version__ = "0.1.0"


@hookimpl
def imagesmith_builder() -> BuilderEntry:
    """Name and factory; the builder's modules load when it is made."""

    def factory(environment):  # type: ignore[no-untyped-def]
        from imagesmith_buildpacks.builder import BuildpacksBuilder  # noqa: PLC0415

        return BuildpacksBuilder(environment)

    return BuilderEntry(
        name="buildpacks", summary="Cloud Native Buildpacks, run in any builder image", factory=factory
    )
