"""``imagesmith new-builder``."""

from __future__ import annotations

from pathlib import Path

import click

from imagesmith.cli import options
from imagesmith.cli.terminal import answer, answer_json, say

__all__ = ["command"]


@click.command(
    "new-builder",
    short_help="Write the distribution of a new builder, which works, to be changed.",
    epilog="Example: imagesmith new-builder mine",
)
@click.argument("name", metavar="NAME")
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to make; unset: imagesmith-NAME in the working directory.",
)
@options.as_json
@options.debug
def command(name: str, *, path: Path | None, as_json: bool) -> None:
    """Write the distribution of a builder called NAME: imagesmith-NAME, with its own test.

    Prints the files. Nothing that stands there already is touched.
    """
    from imagesmith.plugins import Plugins  # noqa: PLC0415
    from imagesmith.skeleton import check_name, write  # noqa: PLC0415

    check_name(name, Plugins().names())
    folder = path or Path(f"imagesmith-{name}")
    written = [str(file) for file in write(name, folder)]
    if as_json:
        answer_json(written)
    else:
        answer("\n".join(written))
    say(
        f"next:\n  cd {folder}\n  pip install -e '.[test]'\n"
        f"  imagesmith conformance {name} --tier plan\n  pytest\n"
        "then change it, and see docs/builder-authors.md"
    )
