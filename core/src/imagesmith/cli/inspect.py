"""``imagesmith inspect``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from imagesmith.cli import options
from imagesmith.cli.targets import is_spec, load, settings
from imagesmith.cli.terminal import answer, answer_json

if TYPE_CHECKING:
    from imagesmith.inspection import Inspection

__all__ = ["command"]

_OURS = "io.imagesmith."


@click.command(
    "inspect",
    short_help="Print what a published image says of itself.",
    epilog="Example: imagesmith inspect app.py:image",
)
@click.argument("target", metavar="TARGET|IMAGE")
@options.as_json
@options.debug
def command(target: str, *, as_json: bool) -> None:
    """Print what a published image says of itself: digest, platforms, entrypoint, labels, names of env.

    Takes a spec, or the name of an image. The values of env are shown with --json alone.
    """
    subject = load(target) if is_spec(target) else target
    from imagesmith.inspection import inspect  # noqa: PLC0415

    found = inspect(subject, settings=settings())
    if as_json:
        answer_json(
            {
                "reference": found.reference,
                "digest": found.digest,
                "platforms": list(found.platforms),
                "config": _plain(found.config),
            }
        )
    else:
        answer("\n".join(_lines(found)))


def _lines(found: Inspection) -> Iterator[str]:
    config = found.config
    yield f"reference:  {found.reference}"
    yield f"digest:     {found.digest}"
    yield f"platforms:  {', '.join(found.platforms)}"
    yield f"entrypoint: {json.dumps(_plain(config.get('Entrypoint')))}"
    yield f"command:    {json.dumps(_plain(config.get('Cmd')))}"
    yield f"workdir:    {config.get('WorkingDir') or '/'}"
    yield f"user:       {config.get('User') or 'root'}"
    env = config.get("Env")
    names = sorted(str(pair).partition("=")[0] for pair in env) if isinstance(env, (list, tuple)) else []
    yield f"env:        {', '.join(names)}"
    yield "labels:"
    ours = sorted(name for name in found.labels if name.startswith(_OURS))
    others = sorted(name for name in found.labels if not name.startswith(_OURS))
    yield from (f"  {name}: {found.labels[name]}" for name in [*ours, *others])


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
