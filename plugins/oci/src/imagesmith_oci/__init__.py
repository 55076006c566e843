"""The oci builder of imagesmith: layers written on the host and pushed, with no engine at all."""

from imagesmith import BuilderEntry, hookimpl

__version__ = "0.1.0"


@hookimpl
def imagesmith_builder() -> BuilderEntry:
    """Name and factory; the builder's modules load when it is made."""

    def factory(environment):  # type: ignore[no-untyped-def]
        from imagesmith_oci.builder import OciBuilder  # noqa: PLC0415

        return OciBuilder(environment)

    return BuilderEntry(name="oci", summary="layers written here and pushed: no Docker, no root, no daemon", factory=factory)
