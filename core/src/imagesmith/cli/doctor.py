"""``imagesmith doctor``."""

from __future__ import annotations

import dataclasses

import click

from imagesmith.cli import options
from imagesmith.cli.targets import load, settings
from imagesmith.cli.terminal import answer, answer_json

__all__ = ["command"]


@click.command(
    "doctor",
    short_help="Look at this machine: engine, builders, registry, credentials.",
    epilog="Example: imagesmith doctor app.py:image",
)
@click.argument("target", metavar="[TARGET]", required=False)
@options.as_json
@options.debug
def command(target: str | None, *, as_json: bool) -> int:
    """Look at this machine: the engine, each builder's tools, and the registry of TARGET.

    The exit code is 3 when something is missing.
    """
    spec = load(target) if target else None
    from imagesmith.doctor import doctor  # noqa: PLC0415

    checks = doctor(settings(), spec)
    if as_json:
        answer_json([dataclasses.asdict(check) for check in checks])
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            answer(f"{check.status:8} {check.name.ljust(width)}  {check.detail}".rstrip())
            if check.hint:
                answer(f"{'':9}{'':{width}}  hint: {check.hint}")
    return 3 if any(check.status == "missing" for check in checks) else 0
