"""``imagesmith build``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from imagesmith.cli import options
from imagesmith.cli.progress import reporter
from imagesmith.cli.targets import load, settings
from imagesmith.cli.terminal import Session, answer, answer_json
from imagesmith.errors import UsageError

if TYPE_CHECKING:
    from imagesmith.pipeline import BuildResult

__all__ = ["command"]


@click.command(
    "build",
    short_help="Build images and publish them under their tags, or reuse those that stand there.",
    epilog="Example: docker run $(imagesmith build app.py:image)",
)
@options.targets
@options.builder
@click.option("--force", is_flag=True, help="Build even when the tag stands already.")
@click.option(
    "--push/--no-push",
    default=None,
    help="Publish in the spec's registry (the default when it names one), or only in the local engine.",
)
@click.option(
    "--on-unknown",
    type=click.Choice(["error", "build", "assume"]),
    default="error",
    show_default=True,
    envvar="IMAGESMITH_ON_UNKNOWN",
    show_envvar=True,
    help="What to do when it cannot be told whether the tag stands.",
)
@click.option(
    "--output",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Write an OCI layout folder instead, or one file that engines load (PATH ends in .tar).",
)
@options.progress
@click.option("-q", "--quiet", is_flag=True, help="The same as --progress quiet.")
@options.as_json
@options.debug
@click.pass_obj
def command(
    session: Session,
    targets: tuple[str, ...],
    *,
    builder: str | None,
    force: bool,
    push: bool | None,
    on_unknown: Literal["error", "build", "assume"],
    output: Path | None,
    progress: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Build images and publish them under their tags, or reuse those that stand there.

    Prints one line per image, REGISTRY/NAME:TAG.
    """
    if output is not None and output.suffix.lower() == ".tar" and len(targets) > 1:
        raise UsageError(
            f"{output} holds one image, not {len(targets)}", hint="name a folder: it holds several"
        )
    specs = [load(target) for target in targets]
    from imagesmith.events import Message  # noqa: PLC0415
    from imagesmith.pipeline import build  # noqa: PLC0415 - after the targets: a wrong one costs nothing

    found = settings()
    results: list[BuildResult] = []
    for spec in specs:
        with reporter("quiet" if quiet else progress, session) as report:
            result = build(
                spec,
                builder=builder,
                force=force,
                push=push,
                on_unknown=on_unknown,
                output=output,
                report=report,
                settings=found,
            )
            report(Message(_summary(result)))
        results.append(result)
        if not as_json:
            answer(result.reference)
    if as_json:
        values = [_as_json(result) for result in results]
        answer_json(values[0] if len(values) == 1 else values)


def _summary(result: BuildResult) -> str:
    what = "reused" if result.reused else "built"
    facts = [result.digest or "not looked up", *result.platforms, result.builder, f"{result.seconds:.1f}s"]
    line = f"{what} {result.reference} ({', '.join(fact for fact in facts if fact)})"
    return f"{line}\nlog: {result.log}" if result.log else line


def _as_json(result: BuildResult) -> dict[str, Any]:
    return {
        "reference": result.reference,
        "digest": result.digest or None,
        "platforms": list(result.platforms),
        "builder": result.builder or None,
        "reused": result.reused,
        "seconds": round(result.seconds, 3),
        "log": str(result.log) if result.log else None,
        "conda": [asdict(package) for package in result.conda],
        "packages": [asdict(package) for package in result.packages],
    }
