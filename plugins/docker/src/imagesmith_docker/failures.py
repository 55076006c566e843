"""Why a build failed, as the error a person reads. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, BuildFailed, ImagesmithError
from imagesmith.hints import hint_for

if TYPE_CHECKING:
    from imagesmith_docker.progress import Progress

__all__ = ["TOO_OLD", "explain", "lost", "unanswered", "unusable"]

TOO_OLD = (
    "use Docker Engine 23 or newer with docker-buildx 0.13 or newer, or choose another buildx builder "
    "(docker buildx ls, IMAGESMITH_DOCKER_BUILDER)"
)

_EXIT = re.compile(r"exit code: (\d+)")
_ENGINE = re.compile(
    r"[Cc]annot connect to the Docker daemon|connection refused|error reading from server"
    r"|transport is closing|unexpected EOF|context deadline exceeded|no builder .* found"
    r"|failed to find (?:driver|instance)|error during connect|no such host|connect: no such file"
)
_LOST = re.compile(
    r"failed to prepare extraction snapshot|snapshot \S+ does not exist"
    r"|failed to get reader from content store|content digest sha256:\w+: not found"
)
_TOO_OLD = re.compile(r"unsupported frontend capability (\S+)|Unknown flag|unknown flag: (\S+)")
_SEE = "docker buildx inspect and docker info say more of it"
_OWN_HINTS = (
    (
        "server gave HTTP response to HTTPS client",
        "tell the builder that this registry speaks plain HTTP (insecure-registries, buildkitd.toml)",
    ),
    (
        "exporter is not supported for the docker driver",
        "turn on the engine's containerd image store, or choose another buildx builder (builder_options)",
    ),
    ("authorization failed", "log in to the registry (docker login), or name a registry_config"),
)


def explain(progress: Progress, returncode: int) -> ImagesmithError:
    """The error for a build that ended with ``returncode``."""
    said = [line for line in progress.said if not line.startswith(("WARNING", "time="))]
    reason = next((line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")), "")
    reason = reason.removeprefix("failed to solve: ") or " ".join(said[-3:])
    tail, step = progress.tail, progress.step
    text = "\n".join((*tail, progress.error, reason))
    code = _EXIT.search(progress.error) or _EXIT.search(reason)
    if too_old := _TOO_OLD.search(text):
        return BuilderNotReady(
            f"the engine or its buildx is too old: {too_old[0]}",
            builder="docker",
            hint=TOO_OLD,
        )
    if code is None and unanswered(text):
        where = f" during the step '{step}'" if step else ""
        return BuilderNotReady(
            f"the engine does not answer{where}: {reason or progress.error}",
            builder="docker",
            hint="is it running? docker buildx inspect and imagesmith doctor say more; nothing was published",
        )
    status = int(code[1]) if code else None
    own = next(
        (line.removeprefix("imagesmith: ") for line in reversed(tail) if line.startswith("imagesmith: ")),
        None,
    )
    if own:
        message = own
    elif step is None or status is None:
        message = f"docker buildx failed: {reason or progress.error or f'exit code {returncode}'}"
    else:
        message = f"{step} failed with exit code {status}"
    hint = _own_hint(text) or hint_for(text)
    return BuildFailed(
        message,
        builder="docker",
        step=step,
        returncode=status,
        tail=() if own and len(tail) == 1 else tail,
        hint=hint,
    )


def unanswered(problem: str) -> bool:
    """Whether buildx could not speak to the engine at all."""
    return _ENGINE.search(problem) is not None


def lost(problem: str) -> bool:
    """Whether the engine threw away what it was building on, because others' images went: it passes."""
    return _LOST.search(problem) is not None


def unusable(builder: str, problem: str) -> BuilderNotReady:
    """The error for an engine that failed a trial build."""
    if unanswered(problem):
        message = f"the buildx builder {builder} does not answer: {problem}"
        hint = "start the engine, or choose a builder that docker buildx ls shows as running"
    else:
        message = f"the engine of the builder {builder} cannot build: {problem}"
        hint = TOO_OLD if _TOO_OLD.search(problem) else _own_hint(problem) or hint_for(problem) or _SEE
    return BuilderNotReady(message, builder="docker", hint=hint)


def _own_hint(text: str) -> str | None:
    return next((hint for cause, hint in _OWN_HINTS if cause in text), None)
