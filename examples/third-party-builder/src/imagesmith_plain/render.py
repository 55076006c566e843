"""A request as a Dockerfile. Pure text: same request, same file."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from imagesmith import index_options, scripts

if TYPE_CHECKING:
    from imagesmith import BuildRequest

__all__ = ["dockerfile", "steps"]


def dockerfile(request: BuildRequest) -> str:
    """Packages, then files. Env, entrypoint, labels and the like are left to the core."""
    spec, staged = request.spec, request.staged
    lines = [f"FROM {request.base.pinned}", "USER 0"]
    if staged.has_requirements:
        pip = ["python", "-m", "pip", "install", "--no-cache-dir", *index_options(spec)]
        script = f"cd /tmp/requirements && {shlex.join([*pip, '-r', 'imagesmith.txt'])}"
        lines.append(_run(script, mounted="requirements"))
    if staged.has_source:
        lines.append(_run(_copy("/tmp/source", spec.workdir_or_default), mounted="source"))
    if staged.has_runtime:
        lines.append(_run(_copy("/tmp/runtime", "/opt/imagesmith"), mounted="runtime"))
    lines.append(_run(scripts.work_directory(request)))
    return "".join(f"{line}\n" for line in lines)


def steps(request: BuildRequest) -> tuple[str, ...]:
    """The same, as a person would say it."""
    packages = ("install packages",) if request.staged.has_requirements else ()
    return (*packages, f"copy files to {request.spec.workdir_or_default}")


def _run(script: str, mounted: str | None = None) -> str:
    """As a JSON list: Docker expands nothing in it, only the shell reads the script."""
    mount = f"--mount=type=bind,source={mounted},target=/tmp/{mounted} " if mounted else ""
    return f"RUN {mount}{json.dumps(['/bin/sh', '-ec', script])}"


def _copy(source: str, target: str) -> str:
    """Not Docker's COPY, which expands ``$`` in paths: symlinks, modes and odd names come along."""
    copy = shlex.join(["cp", "-dR", "--preserve=mode,timestamps", f"{source}/.", f"{target}/"])
    return f"{shlex.join(['mkdir', '-p', target])} && {copy}"
