"""The command line of buildx for a request. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import BuildRequest, LayoutFolder, LocalEngine, RegistryRepository, engine
from imagesmith_docker.render import CA_ID, CONDA, CONTEXT, TOOLS, secret_id, secret_targets

if TYPE_CHECKING:
    from imagesmith_docker.options import Options

__all__ = ["ARCHIVE", "LAYOUT", "build_argv", "by_hand", "link"]

ARCHIVE, LAYOUT = "image.tar", "layout"
"""below the build folder, where an image is left there"""


def build_argv(
    request: BuildRequest,
    options: Options,
    folder: Path,
    *,
    name: str | None = None,
    tools: Path | None = None,
    in_engine: bool = True,
    proxies: tuple[str, ...] = (),
) -> list[str]:
    """The command that builds what stands in ``folder``. ``name``: what the engine is to call the image.

    The client is run as it is: python-on-whales would give the same words, for a third of a second of
    imports.
    """
    argv = ["docker", "buildx", "build", "--file", str(folder / "Dockerfile"), "--platform", request.platform]
    argv += ["--progress", "rawjson", "--metadata-file", str(folder / "metadata.json")]
    argv += options.arguments()
    argv += ["--build-context", f"{CONTEXT}={folder / CONTEXT}"]
    if request.conda is not None:
        argv += ["--build-context", f"{CONDA}={link(request, folder, CONDA)}"]
    if tools is not None:
        argv += ["--build-context", f"{TOOLS}={tools}"]
    for context in options.build_contexts:
        source = context.source if context.is_image else Path(context.source).absolute()
        argv += ["--build-context", f"{context.name}={source}"]
    for secret in secret_targets(request):
        argv += ["--secret", f"id={secret_id(secret)},src={folder / 'secrets' / secret_id(secret)}"]
    if options.ca is not None:
        argv += ["--secret", f"id={CA_ID},src={Path(options.ca).absolute()}"]
    # by name: the value is in the environment. The engine keeps these out of keys and history.
    for proxy in proxies:
        argv += ["--build-arg", proxy]
    name = name or engine.planned_name(request)
    output = _output(request, options, folder, name, in_engine=in_engine)
    return [*argv, "--output", output, str(link(request, folder, "context"))]


def by_hand(options: Options, *, in_engine: bool) -> bool:
    """Whether the image is written to a file or folder here, and from there brought to its place: an engine
    that keeps images unpacks them, and then cannot set the times in their layers."""
    return in_engine and options.source_date_epoch is not None


def _output(request: BuildRequest, options: Options, folder: Path, name: str, *, in_engine: bool) -> str:
    """Where the image goes. OCI media types everywhere: the engine's cache may give us layers that an
    earlier build compressed with zstd, for which Docker's own types have no valid name."""
    end = ",rewrite-timestamp=true" if options.source_date_epoch is not None else ""
    pushed = f"{options.compressed()},oci-mediatypes=true{end}"
    archive = "compression=uncompressed,oci-mediatypes=true"  # read once and on this machine
    match request.destination:
        case LayoutFolder():
            return f"type=oci,tar=false,dest={folder / LAYOUT},{options.compressed()}{end}"
        case RegistryRepository() if by_hand(options, in_engine=in_engine):
            return f"type=oci,tar=false,dest={folder / LAYOUT},{options.compressed()}{end}"
        case RegistryRepository() as there if not in_engine:
            return f"type=image,name={there.reference},push=true,{pushed}"
        case RegistryRepository():
            # The engine pushes by name, and so could push the image of another build that ends just then:
            # this one has a name of its own, and is pushed under a lock.
            return f"type=image,name={name},{pushed}"
        case LocalEngine(reference) if by_hand(options, in_engine=in_engine):
            return f"type=docker,name={reference},dest={folder / ARCHIVE},{archive}{end}"
        case LocalEngine(reference) if in_engine:
            return f"type=image,name={reference},{pushed}"
        case LocalEngine(reference):
            return f"type=docker,name={reference},{archive}{end}"


def link(request: BuildRequest, folder: Path, use: str) -> Path:
    """What a folder of the core's is called in the command line."""
    return folder / f"{use}-{request.spec.name.replace('/', '-')}"
