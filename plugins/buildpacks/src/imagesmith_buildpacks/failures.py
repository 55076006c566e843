"""Why a lifecycle ended as it did, as the error a person reads. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, BuildFailed, ImagesmithError, RegistryError
from imagesmith.hints import hint_for

if TYPE_CHECKING:
    from imagesmith_buildpacks.progress import Progress

__all__ = ["explain"]

_CODES = {
    11: "the lifecycle does not speak this version of the platform API",
    12: "a buildpack wants a version of the buildpack API that the lifecycle does not speak",
    20: "no buildpacks of this builder take the application",
    21: "a buildpack failed while it looked whether it should build",
    22: "detection failed",
    51: "a buildpack failed",
    52: "the build phase failed",
    62: "the image could not be put together",
    72: "the image cannot be rebased",
    82: "the launcher failed",
}
_RANGES = ((30, "analyzing"), (40, "restoring"), (60, "exporting"), (70, "rebasing"))
_HINTS = {
    11: "choose another builder image",
    12: "choose a builder image whose lifecycle and buildpacks fit together",
    20: "choose a builder image that makes python applications (builder_options={'builder': …})",
    21: "the lines above name the buildpack; builder_options={'env': …} may tell it what it lacks",
    72: "build it again, or name another run image (--run-image) or --force",
}
_LOGIN = "log in to the registry (docker login), or name a registry_config"


def explain(progress: Progress, code: int, *, registry: str = "") -> ImagesmithError:
    """The error for a lifecycle that ended with ``code``; ``registry`` is where it should write to."""
    said = "; ".join(progress.errors[-3:])
    text = "\n".join((*progress.tail, *progress.errors))
    phase = _phase(code, progress.phase)
    what = _CODES.get(code) or f"the lifecycle failed{f' while {phase}' if phase else ''}"
    message = f"{what} (exit code {code})" + (f": {said}" if said else "")
    if code in (1, *range(30, 40), *range(60, 70)) and _refused(text):
        return RegistryError(message, registry=registry, hint=_LOGIN)
    if code in (11, 12):
        return BuilderNotReady(message, builder="buildpacks", hint=_HINTS[code])
    return BuildFailed(
        message,
        builder="buildpacks",
        step=f"buildpacks: {phase}" if phase else progress.step,
        returncode=code,
        tail=tuple(progress.tail),
        hint=_HINTS.get(code) or hint_for(text),
    )


def _phase(code: int, seen: str | None) -> str | None:
    if seen:
        return seen.lower()
    return next((name for start, name in _RANGES if start <= code < start + 10), None)


def _refused(text: str) -> bool:
    words = ("unauthorized", "denied", "authentication required", "forbidden")
    return any(word in text.lower() for word in words)
