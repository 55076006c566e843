"""``imagesmith render``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from imagesmith.builder import Destination, LayoutFolder, LocalEngine, RegistryRepository
from imagesmith.cli import options
from imagesmith.cli.targets import load, settings
from imagesmith.cli.terminal import answer, answer_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagesmith.builder import BuildPlan, Command

__all__ = ["command"]


@click.command(
    "render",
    short_help="Print what a build would do: files and commands.",
    epilog="Example: imagesmith render app.py:image",
)
@options.target
@options.builder
@options.as_json
@options.debug
def command(target: str, *, builder: str | None, as_json: bool) -> None:
    """Print what a build would do: the files it would write and the commands it would run.

    Needs no engine and no network.
    """
    spec = load(target)
    from imagesmith.pipeline import render  # noqa: PLC0415

    plans = render(spec, builder=builder, settings=settings())
    if as_json:
        values = [_as_json(plan) for plan in plans]
        answer_json(values[0] if len(values) == 1 else values)
    else:
        answer("\n\n".join("\n".join(_lines(plan)) for plan in plans))


def _lines(plan: BuildPlan) -> Iterator[str]:
    request = plan.request
    yield f"builder:  {plan.builder}"
    yield f"platform: {request.platform}"
    asked = "" if request.base.digest else "  (not asked: what it says of its python may spare a step)"
    yield f"base:     {request.base.pinned}{asked}"
    yield f"into:     {_where(request.destination)}"
    if plan.steps:
        yield "steps:"
        yield from (f"  {number}. {step}" for number, step in enumerate(plan.steps, 1))
    for name, text in plan.files.items():
        yield f"\n--- {name}"
        yield text.rstrip("\n")
    yield "\n--- commands"
    yield from map(_command_line, plan.commands)


def _command_line(command: Command) -> str:
    """As a shell would take it."""
    assignments = [f"{name}={shlex.quote(value)}" for name, value in command.env.items()]
    return " ".join([*assignments, shlex.join(command.argv)])


def _where(destination: Destination) -> str:
    match destination:
        case LocalEngine():
            return f"the local engine, as {destination.reference}"
        case RegistryRepository():
            return f"the registry, as {destination.reference}"
        case LayoutFolder(path):
            return f"the OCI layout {path}"


def _as_json(plan: BuildPlan) -> dict[str, Any]:
    return {
        "builder": plan.builder,
        "platform": plan.request.platform,
        "base": plan.request.base.pinned,
        "destination": _where(plan.request.destination),
        "steps": list(plan.steps),
        "files": dict(plan.files),
        "commands": [{"argv": list(command.argv), "env": dict(command.env)} for command in plan.commands],
        "contributed": {"path": list(plan.contributed.path), "env": dict(plan.contributed.env)},
    }
