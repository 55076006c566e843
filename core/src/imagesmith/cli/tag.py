"""``imagesmith tag``."""

from __future__ import annotations

import click

from imagesmith.cli import options
from imagesmith.cli.targets import load
from imagesmith.cli.terminal import answer, answer_json

__all__ = ["command"]


@click.command(
    "tag",
    short_help="Print the identity of the content: the image's tag.",
    epilog="Example: imagesmith tag app.py:image",
)
@options.targets
@options.as_json
@options.debug
def command(targets: tuple[str, ...], *, as_json: bool) -> None:
    """Print the identity of the content: the tag under which the image is published.

    With --json also the id and the whole reference.
    """
    specs = [load(target) for target in targets]
    if as_json:
        values = [
            {"target": target, "id": spec.id, "tag": spec.tag, "reference": spec.image_name()}
            for target, spec in zip(targets, specs, strict=True)
        ]
        answer_json(values[0] if len(values) == 1 else values)
    else:
        answer("\n".join(spec.tag for spec in specs))
