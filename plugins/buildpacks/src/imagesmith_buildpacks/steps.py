"""Steps of our own in a container: scripts as root, files put in, an image made of what is left."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith import BuildFailed
from imagesmith.hints import hint_for
from imagesmith_buildpacks.archive import of_texts
from imagesmith_buildpacks.containers import Volume
from imagesmith_buildpacks.progress import Progress
from imagesmith_buildpacks.render import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from imagesmith import Reporter
    from imagesmith.runner import Redactor
    from imagesmith_buildpacks.containers import Container, Engine

__all__ = ["Step", "derive"]

_MARK = "imagesmith-step"


@dataclass(frozen=True, slots=True)
class Step:
    """A script of the folder, run by another one that gives it its environment."""

    name: str
    """for people"""
    script: str
    by: str


def derive(
    docker: Engine,
    image: str,
    name: str,
    steps: Sequence[Step],
    scripts: Mapping[str, str],
    report: Reporter,
    redactor: Redactor,
    *,
    archives: Sequence[Path] = (),
    changes: Sequence[str] = (),
    network: str | None = None,
    platform: str | None = None,
    prefix: str = "",
) -> str:
    """Put archives into ``image``, run the steps as root, and call the result ``name``. Returns its id.

    Raises:
        BuildFailed: a step failed, with its exit code and its last lines.
        EngineError: the engine did not do its part.
    """
    mark = f"{_MARK} {secrets.token_hex(8)} "  # what a step prints must not look like it
    with _scripts(docker, image, scripts, steps, mark, platform) as volume:
        argv = ["/bin/sh", f"{SCRIPTS}/all.sh"] if steps else ["/bin/true"]
        with docker.container(image, argv, volumes=volume, network=network, platform=platform) as container:
            for archive in archives:
                with archive.open("rb") as file:
                    container.put(file)
            if steps:
                _run(container, steps, mark, Progress(report, redactor, steps[0].name, prefix=prefix))
            return container.commit(name, changes)


def _run(container: Container, steps: Sequence[Step], mark: str, progress: Progress) -> None:
    """Run what stands in ``all.sh``; a line that begins with ``mark`` tells which step begins."""

    def line(text: str) -> None:
        if not text.startswith(mark):
            progress.line(text)
        elif (number := int(text.removeprefix(mark))) > 0:
            progress.begin(steps[number].name)

    container.start()
    code = container.follow(line)
    progress.done(f"exit code {code}" if code else None)
    if code:
        text = "\n".join(progress.tail)
        raise BuildFailed(
            f"{progress.step} failed with exit code {code}",
            builder="buildpacks",
            step=progress.step,
            returncode=code,
            tail=tuple(progress.tail),
            hint=hint_for(text),
        )


@contextlib.contextmanager
def _scripts(
    docker: Engine,
    image: str,
    scripts: Mapping[str, str],
    steps: Sequence[Step],
    mark: str,
    platform: str | None,
) -> Iterator[tuple[Volume, ...]]:
    """The scripts in a volume of their own. It is filled beside the container that uses it, for filling it
    there would leave its mount point in the image."""
    if not steps:
        yield ()
        return
    name = f"imagesmith-scripts-{secrets.token_hex(8)}"
    place = "/imagesmith-scripts"
    lines = []
    for number, step in enumerate(steps):
        lines += [f"echo '{mark}{number}'"]
        lines += [f"/bin/sh -eu {SCRIPTS}/{step.by} {SCRIPTS}/{step.script} 2>&1 </dev/null || exit $?"]
    texts = {**scripts, "all.sh": "".join(f"{line}\n" for line in lines)}
    try:
        with docker.container(
            image, ["/bin/true"], volumes=(Volume(place, name),), platform=platform
        ) as container:
            container.put(of_texts(texts), place)
        yield (Volume(SCRIPTS, name),)
    finally:
        docker.forget_volume(name)
