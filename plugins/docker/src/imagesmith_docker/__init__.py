"""The Docker builder of imagesmith: a spec becomes a Dockerfile, and buildx builds it."""

from imagesmith import BuilderEntry, hookimpl

__version__ = "0.1.0"


@hookimpl
def imagesmith_builder() -> BuilderEntry:
    """Name and factory; the builder's modules load when it is made."""

    def factory(environment):  # type: ignore[no-untyped-def]
        from imagesmith_docker.builder import DockerBuilder  # noqa: PLC0415

        return DockerBuilder(environment)

    return BuilderEntry(name="docker", summary="Dockerfiles, built by docker buildx", factory=factory)
