"""The envd builder of imagesmith: a spec becomes a ``build.envd``, and envd builds it with BuildKit."""

from imagesmith import BuilderEntry, hookimpl

__version__ = "0.1.0"


@hookimpl
def imagesmith_builder() -> BuilderEntry:
    """Name and factory; the builder's modules load when it is made."""

    def factory(environment):  # type: ignore[no-untyped-def]
        from imagesmith_envd.builder import EnvdBuilder  # noqa: PLC0415

        return EnvdBuilder(environment)

    return BuilderEntry(name="envd", summary="envd and BuildKit, by build.envd files", factory=factory)
