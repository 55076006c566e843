"""Why an envd build failed, as the error a person reads. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from imagesmith import BuilderNotReady, BuildFailed, ImagesmithError, hints

if TYPE_CHECKING:
    from imagesmith_envd.output import Progress

__all__ = ["explain"]

_EXIT = re.compile(r"exit code: (\d+)")
_FATAL = re.compile(r'error="(.*)"$')

_ENGINE = re.compile(
    r"[Cc]annot connect to (the Docker daemon|buildkitd)|connection refused|failed to list workers"
    r"|error reading from server|transport is closing|unexpected EOF|closing transport|context canceled"
)


def explain(progress: Progress, returncode: int, where: str) -> ImagesmithError:
    """The error for a run of envd that ended with ``returncode``; ``where`` names the engine."""
    step, tail = progress.step(), progress.tail()
    fatal = _fatal(progress)
    text = "\n".join((*tail, progress.error, fatal))
    own = next(
        (line.removeprefix("imagesmith: ") for line in reversed(tail) if line.startswith("imagesmith: ")),
        None,
    )
    if progress.failed is None or step is None:
        if _ENGINE.search(text) or (not fatal and not progress.failed):
            return BuilderNotReady(
                f"the engine at {where} does not answer: {fatal or f'envd ended with {returncode}'}",
                builder="envd",
                hint="is it running? imagesmith doctor says what is missing",
            )
        return BuildFailed(
            f"envd failed: {fatal or progress.error or f'exit code {returncode}'}",
            builder="envd",
            returncode=returncode,
            tail=tail,
            hint=hints.hint_for(text),
        )
    code = _EXIT.search(progress.error) or _EXIT.search(fatal)
    if code is None and _ENGINE.search(text):
        return BuilderNotReady(
            f"the engine at {where} went away during the step '{step.name}': {fatal or progress.error}",
            builder="envd",
            hint="look at the engine's own log; nothing was published",
        )
    status = int(code[1]) if code else None
    why = f" with exit code {status}" if status is not None else f": {progress.error or fatal}"
    message = own or f"{step.name} failed{why}"
    return BuildFailed(
        message,
        builder="envd",
        step=step.name,
        returncode=status,
        tail=() if own and len(tail) == 1 else tail,
        hint=hints.hint_for(text),
    )


def _fatal(progress: Progress) -> str:
    lines = [line for line in progress.fatal if line.strip()]
    if not lines:
        return ""
    match = _FATAL.search(lines[-1])
    return match[1].replace('\\"', '"').replace("\\n", "\n") if match else lines[-1]
