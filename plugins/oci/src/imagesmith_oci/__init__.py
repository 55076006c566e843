"""The oci builder of imagesmith: layers written on the host and pushed, with no engine at all."""

from imagesmith import Builder, BuilderEntry, Environment, hookimpl

__version__ = "0.1.0"


def _make(environment: Environment) -> Builder:
    from imagesmith_oci.builder import OciBuilder  # noqa: PLC0415 - listing builders needs none of it

    return OciBuilder(environment)


@hookimpl
def imagesmith_builder() -> BuilderEntry:
    """Name and factory; the builder's modules load when it is made."""
    return BuilderEntry(
        name="oci",
        summary="layers written here and pushed: no Docker, no root, no daemon",
        factory=_make,
        needs_engine=False,
    )
