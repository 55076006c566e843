"""What the engine behind a builder can do, told by a trial build. Versions tell nothing: distributions ship
a BuildKit that calls itself ``v0.0.0+unknown``, and any buildx can be in front of any engine.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagesmith import ToolMissing, ToolTimeout
from imagesmith_docker.failures import lost, unanswered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagesmith import Runner
    from imagesmith_docker.client import BuilderFacts

__all__ = ["Abilities", "abilities"]

_KEEP = 24 * 3600.0
"""seconds for which an answer is believed: an engine may be updated behind its address"""
_TRIAL = 60.0
"""seconds that a trial may take; it takes less than one"""
_CONTEXT = "trial"
_FILE = "file"

# All that the Dockerfiles of this builder use. The steps of the first stage are read, and run by nobody.
_DOCKERFILE = f"""FROM scratch AS steps
RUN --mount=type=bind,from={_CONTEXT},target=/a,rw --mount=type=cache,id=x,sharing=locked,target=/b \\
    --mount=type=secret,id=x,required=true,mode=0444,target=/c --mount=type=tmpfs,target=/d ["/x"]
FROM scratch
COPY --link --from={_CONTEXT} ["/", "/x/"]
"""


@dataclass(frozen=True, slots=True)
class Abilities:
    """Of one engine."""

    problem: str = ""
    """why it cannot build what this builder writes; empty when it can"""
    exports: bool = True
    """whether it writes OCI layouts, attestations and caches (the classic image store of Docker does not)"""
    dates: bool = True
    """whether it sets the times of files in layers"""

    def told(self) -> str:
        """For people."""
        lacks = [
            *([] if self.exports else ["image layouts", "attestations", "exported caches"]),
            *([] if self.dates else ["reproducible layers"]),
        ]
        return f"can build all but {', '.join(lacks)}" if lacks else "can build all that may be asked"


def abilities(
    runner: Runner, env: Mapping[str, str], cache: Path, facts: BuilderFacts, clock: float | None = None
) -> Abilities:
    """Of the engine behind that builder; an answer is kept in ``cache`` for a day.

    ``clock``: now, in seconds; unset: the machine's.
    """
    now = time.time() if clock is None else clock
    known = json.dumps([facts.told, env.get("DOCKER_HOST"), env.get("DOCKER_CONTEXT"), _DOCKERFILE])
    file = cache / f"abilities-{hashlib.sha256(known.encode()).hexdigest()[:32]}.json"
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if 0 <= now - kept.pop("asked") < _KEEP:
            return Abilities(**kept)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    found = _ask(runner, env, facts.name)
    if not found.problem:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, delete=False, encoding="utf-8") as draft:
            json.dump({**asdict(found), "asked": now}, draft)
        Path(draft.name).replace(file)
    return found


def _ask(runner: Runner, env: Mapping[str, str], builder: str) -> Abilities:
    """One small build where the engine can do all, two where it cannot."""
    with tempfile.TemporaryDirectory(prefix="imagesmith-trial-") as name:
        folder = Path(name)
        (folder / "Dockerfile").write_text(_DOCKERFILE, encoding="utf-8")
        (folder / _CONTEXT).mkdir()
        (folder / _CONTEXT / _FILE).touch()
        layout = folder / "layout"
        output = f"type=oci,tar=false,dest={layout},compression=uncompressed,rewrite-timestamp=true"
        whole = ("--provenance=mode=min", "--build-arg", "SOURCE_DATE_EPOCH=1", "--output", output)
        problem = _build(runner, env, folder, builder, whole)
        if problem is not None and lost(problem):
            problem = _build(runner, env, folder, builder, whole)
        if problem is None:
            return Abilities(dates=_dated(layout))
        if not unanswered(problem):  # buildx takes 20 seconds to say so
            plain = ("--provenance=false", "--output", "type=cacheonly")
            problem = _build(runner, env, folder, builder, plain)
        return Abilities(problem or "", exports=False, dates=False)


def _build(
    runner: Runner, env: Mapping[str, str], folder: Path, builder: str, more: Sequence[str]
) -> str | None:
    """None when it could be built, else why not."""

    def ignore(line: str, stream: str) -> None:
        """Its tail is enough."""

    argv = ["docker", "buildx", "build", "--builder", builder, "--progress", "plain", "--sbom=false"]
    argv += ["--build-context", f"{_CONTEXT}={folder / _CONTEXT}", *more, str(folder)]
    variables = {key: value for key, value in env.items() if not key.startswith(("OTEL_", "BUILDKIT_"))}
    try:
        done = runner.run(argv, env=variables, cwd=folder, on_line=ignore, timeout=_TRIAL)
    except (ToolMissing, ToolTimeout, OSError) as error:
        return str(error)
    if done.returncode == 0:
        return None
    said = [line.removeprefix("ERROR: ") for line in done.tail if line.startswith("ERROR: ")]
    return (said or list(done.tail) or ["no answer"])[-1]


def _dated(layout: Path) -> bool:
    """Whether the layers in the layout hold the time that was asked for, and no other."""
    import tarfile  # noqa: PLC0415 - once a day

    found = set()
    for blob in (layout / "blobs" / "sha256").glob("*"):
        if tarfile.is_tarfile(blob):
            with tarfile.open(blob) as layer:
                found |= {int(member.mtime) for member in layer}
    return found == {1}
