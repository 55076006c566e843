"""``imagesmith id``."""

from __future__ import annotations

import click

from imagesmith.cli import options
from imagesmith.cli.targets import load
from imagesmith.cli.terminal import answer, answer_json

__all__ = ["command"]


@click.command(
    "id",
    short_help="Print the identity of the declaration.",
    epilog="Example: imagesmith id app.py:image",
)
@options.targets
@options.as_json
@options.debug
def command(targets: tuple[str, ...], *, as_json: bool) -> None:
    """Print the identity of the declaration: the same on the laptop and inside the image.

    Reads no file that enters the image.
    """
    ids = [load(target).id for target in targets]
    if as_json:
        values = [{"target": target, "id": value} for target, value in zip(targets, ids, strict=True)]
        answer_json(values[0] if len(values) == 1 else values)
    else:
        answer("\n".join(ids))
