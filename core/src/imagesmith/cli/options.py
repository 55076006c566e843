"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from imagesmith.cli.progress import MODES
from imagesmith.cli.terminal import Session

__all__ = ["as_json", "builder", "debug", "progress", "target", "targets"]

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

target: _Decorator = click.argument("target", metavar="TARGET")
targets: _Decorator = click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
as_json: _Decorator = click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
builder: _Decorator = click.option(
    "--builder",
    metavar="NAME",
    help="The builder to use; unset: the spec's, IMAGESMITH_BUILDER, the project's, the default.",
)


def _show_tracebacks(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    session = ctx.find_object(Session)
    if session is not None:
        session.debug |= value


debug: _Decorator = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_tracebacks,
    help="Show the traceback of an error.  [env: IMAGESMITH_DEBUG]",
)
progress: _Decorator = click.option(
    "--progress",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    envvar="IMAGESMITH_PROGRESS",
    show_envvar=True,
    help="How to show the work, on stderr.",
)
