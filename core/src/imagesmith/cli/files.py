"""``imagesmith files``."""

from __future__ import annotations

import click

from imagesmith.cli import options
from imagesmith.cli.targets import load
from imagesmith.cli.terminal import answer, answer_json

__all__ = ["command"]


@click.command(
    "files",
    short_help="List the files that enter the image.",
    epilog="Example: imagesmith files app.py:image | less",
)
@options.target
@options.as_json
@options.debug
def command(target: str, *, as_json: bool) -> None:
    """List the files that enter the image, by their paths below the work directory.

    With --json also the digests that the tag is made of.
    """
    spec = load(target)
    from imagesmith import sources  # noqa: PLC0415

    files = sources.listed(spec).files
    if as_json:
        answer_json({"files": list(files), "digests": dict(sources.digests(spec))})
    elif files:
        answer("\n".join(files))
